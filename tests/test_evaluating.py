from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spq import SPQ
from spq.data.open import open_images
from spq.errors import ConfigError, DataError, ModelError
from spq.model.evaluating import Evaluating
from spq.model.model import Model, normalise


@pytest.fixture
def model(tiny_model: Model) -> SPQ:
    return SPQ(copy.deepcopy(tiny_model.network), tiny_model.config, {"images": 3})


@pytest.fixture(scope="module")
def pictures() -> list[object]:
    sample = open_images("sample:train")
    return [sample.image(position) for position in range(5)]


def test_a_model_is_a_module_that_gives_the_descriptors_of_embed(model: SPQ, pictures: list[object]) -> None:
    x = model.embed(pictures)
    pixels = model._pixels(pictures)
    for images in (pictures, pixels, normalise(pixels, model.config.input)):
        given = model(images)
        assert given.requires_grad
        np.testing.assert_allclose(given.detach().numpy(), x, rtol=1e-5, atol=1e-6)
    larger = torch.nn.functional.interpolate(pixels.float(), scale_factor=2, mode="nearest").to(torch.uint8)
    np.testing.assert_allclose(model(larger).detach().numpy(), model.embed(larger), rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match=r"shape \(3, 28, 28\) is one picture; give a list with it"):
        model.embed(pixels[0])
    whole = nn.Sequential(model, nn.Linear(x.shape[1], 2))
    whole(pixels).sum().backward()
    assert all(p.grad is not None for p in model.network.backbone.parameters())
    half = copy.deepcopy(model).to(torch.bfloat16)
    assert len(half.hash) == 16
    assert half.hash != model.hash
    assert model.device.type == "cpu"


def test_embed_evaluates_in_any_mode_and_leaves_each_module_in_its_own(model: SPQ, pictures: list[object]) -> None:
    x, weights = model.embed(pictures), copy.deepcopy(model.network.state_dict())
    assert not model.training
    model.train()
    model.network.head.eval()
    np.testing.assert_array_equal(model.embed(pictures), x)
    assert model.training
    assert model.network.backbone.training
    assert not model.network.head.training
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.network.state_dict().items())
    assert not np.array_equal(model(pictures).detach().numpy(), x)  # batch statistics
    assert not any(module.training for module in model.eval().modules())


def test_threads_that_overlap_restore_the_mode_once_at_the_end() -> None:
    norm, evaluating = nn.BatchNorm1d(3), Evaluating()
    with ThreadPoolExecutor(4) as pool:

        def look(_: int) -> bool:
            with evaluating.of(norm):
                return norm.training

        assert not any(pool.map(look, range(400)))
    assert norm.training
    with pytest.raises(KeyError), evaluating.of(norm):
        raise KeyError
    assert norm.training


def test_the_hash_is_of_the_weights_as_they_are_and_a_changed_model_is_saved_and_loaded(
    model: SPQ, pictures: list[object], tmp_path: Path
) -> None:
    before = model.hash
    with torch.no_grad():
        model.network.quantizer.codebooks.data.mul_(1.5)  # `.data` leaves no trace in the version of a tensor
    assert model.hash != before
    model.save(tmp_path / "m")
    loaded = SPQ.load(tmp_path / "m")
    assert loaded.hash == model.hash
    np.testing.assert_array_equal(loaded.encode(pictures), model.encode(pictures))


def test_a_model_is_not_saved_into_an_index(model: SPQ, tmp_path: Path) -> None:
    (tmp_path / "items.sqlite").touch()
    with pytest.raises(ModelError, match="is an index; give another folder for the model"):
        model.save(tmp_path)
    with pytest.raises(ModelError, match="is an index; give another folder for the model"):
        SPQ.train(open_images("sample:test"), recipe="fast", epochs=1, out=tmp_path)
    with pytest.raises(ConfigError, match="`out` is empty; give a folder"):
        SPQ.train(open_images("sample:test"), recipe="fast", epochs=1, out="")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_model_can_be_pickled_and_copied(model: SPQ, pictures: list[object]) -> None:
    for other in (*(pickle.loads(pickle.dumps(model, version)) for version in (2, 5)), copy.deepcopy(model)):
        assert type(other) is SPQ
        assert (other.hash, other.facts) == (model.hash, model.facts)
        np.testing.assert_array_equal(other.embed(pictures), model.embed(pictures))


def test_train_of_the_class_trains_and_train_of_a_model_sets_its_mode(model: SPQ) -> None:
    with pytest.raises(TypeError, match="images"):
        SPQ.train()  # type: ignore[call-arg]
    assert model.train() is model  # type: ignore[call-arg]
    assert model.training
    assert not model.train(False).training  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.bfloat16])
def test_a_model_of_another_type_of_numbers_is_refused_until_it_has_its_own(
    model: SPQ, pictures: list[object], kind: torch.dtype
) -> None:
    x, changed = model.embed(pictures), copy.deepcopy(model).to(kind)
    for call in (changed.embed, changed.encode, lambda _: changed.encode_descriptors(x), lambda _: changed.tables(x)):
        with pytest.raises(ModelError, match=rf"the weights are {kind}, .* call model\.float\(\)"):
            call(pictures)
    np.testing.assert_allclose(changed.float().embed(pictures), x, atol=0.05)
