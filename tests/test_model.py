from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spq import SPQ
from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe
from spq.data.decode import load_pixels
from spq.data.open import open_images
from spq.errors import ImageError, ModelError
from spq.model.model import Model, _identity
from spq.model.network import Network

RECIPE = Recipe(
    input=InputConfig(size=28),
    backbone=BackboneConfig(blocks=(1, 1), width=8, stem_stride=2),
    quantizer=QuantizerConfig(num_codebooks=4, codeword_dim=4),
)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(Network(RECIPE), RECIPE, {"images": 0})


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return load_pixels(open_images("sample:test"), 28, positions=range(40)).array


def test_descriptors_and_codes_survive_save_and_load_bit_for_bit(
    model: Model, pixels: np.ndarray, tmp_path: Path
) -> None:
    model.save(tmp_path / "m")
    again = SPQ.load(tmp_path / "m")
    assert again.hash == model.hash
    assert again.config == model.config
    np.testing.assert_array_equal(again.embed(pixels), model.embed(pixels))
    np.testing.assert_array_equal(again.encode(pixels), model.encode(pixels))
    assert model.encode(pixels).shape == (40, 4)


def test_a_model_takes_pictures_in_every_form(model: Model, pixels: np.ndarray, tmp_path: Path) -> None:
    array = np.ascontiguousarray(pixels[0].transpose(1, 2, 0))
    picture, path = Image.fromarray(array), tmp_path / "a.png"
    picture.save(path)
    forms = [path, str(path), path.read_bytes(), picture, array, torch.from_numpy(pixels[0])]
    descriptors = model.embed(forms)
    np.testing.assert_allclose(descriptors, np.repeat(model.embed(pixels[:1]), len(forms), 0), atol=1e-5)
    with pytest.raises(ImageError):
        model.embed([tmp_path / "none.png"])


@pytest.mark.parametrize("channels_last", [False, True])
def test_pixels_have_the_memory_layout_of_the_training(pixels: np.ndarray, channels_last: bool) -> None:
    config = replace(RECIPE, train=replace(RECIPE.train, channels_last=channels_last))
    torch.manual_seed(0)
    model = Model(Network(config), config)
    seen: list[bool] = []
    model.network.backbone.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    descriptors = model.embed(pixels)
    by_pillow = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(model.embed(by_pillow), descriptors)
    np.testing.assert_allclose(model.embed(pixels[::-1])[::-1], descriptors, atol=1e-5)
    assert set(seen) == {channels_last}


def test_batches_fit_the_caches_and_do_not_change_the_codes(model: Model, pixels: np.ndarray) -> None:
    sizes = (8, 28, 64, 224, 1024)
    found = [Model(model.network, replace(RECIPE, input=InputConfig(size=size))).batch_size for size in sizes]
    assert found == [64, 64, 32, 8, 8]
    for batch_size in (1, 7, 40):
        np.testing.assert_array_equal(model.encode(pixels, batch_size), model.encode(pixels))


def test_no_pictures_give_no_descriptors(model: Model) -> None:
    assert model.embed([]).shape == (0, 16)
    assert model.encode([]).shape == (0, 4)


def test_the_hash_names_weights_and_shape_but_not_the_training(model: Model) -> None:
    other = Model(model.network, replace(RECIPE, train=replace(RECIPE.train, seed=5), name="x"))
    assert other.hash == model.hash
    resized = Model(model.network, replace(RECIPE, input=InputConfig(size=32)))
    assert resized.hash != model.hash
    before = model.hash
    with torch.no_grad():
        next(model.network.parameters()).view(-1)[0] += 1e-3
    assert model.hash == other.hash != before


def edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def test_an_incomplete_model_is_refused_with_the_reason(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(ModelError, match=r"no model at .*m: it has no config\.json"):
        Model.load(folder)
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ModelError, match=r"no model at .*a\.jpg: it is a file; give the folder of a model"):
        Model.load(tmp_path / "a.jpg")
    model.save(folder)
    edit(folder, format=99)
    with pytest.raises(ModelError, match="has format 99, this spq"):
        Model.load(folder)
    edit(folder, format=1, hash="0" * 16)
    with pytest.raises(ModelError, match="is not the saved '0000"):
        Model.load(folder)
    model.save(folder)
    recipe = json.loads((folder / "config.json").read_text("utf-8"))["recipe"]
    edit(folder, recipe={**recipe, "train": {**recipe["train"], "channels_last": True}})
    with pytest.raises(ModelError, match="its recipe has changed since it was saved; copy the folder again"):
        Model.load(folder)  # with another memory layout, codes may round otherwise
    edit(folder, recipe={**recipe, "quantizer": {**recipe["quantizer"], "num_codebooks": 8}}, recipe_hash=None)
    with pytest.raises(ModelError, match="weights do not load"):
        Model.load(folder)
    edit(folder, recipe={**recipe, "colour": 1})
    with pytest.raises(ModelError, match="unknown key 'colour'"):
        Model.load(folder)
    model.save(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="weights do not load"):
        Model.load(folder)
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match=r"config\.json is unreadable"):
        Model.load(folder)


def test_a_failed_save_keeps_the_old_model(
    model: Model, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(tmp_path / "m")
    before = model.embed(pixels)

    def disk_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spq.model.model.to_safetensors", disk_full)
    with pytest.raises(OSError, match="No space left"):
        Model(Network(RECIPE), RECIPE).save(tmp_path / "m")
    np.testing.assert_array_equal(Model.load(tmp_path / "m").embed(pixels), before)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_from_pretrained_takes_a_folder(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    assert SPQ.from_pretrained(tmp_path / "m").hash == model.hash


def test_from_pretrained_without_a_hub_takes_the_cache_or_says_why_not(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("spq.model.model.unreachable", lambda *_: "no route to host")
    with pytest.raises(ModelError, match=r"no model 'someone/model' here or on the hub: no route to host"):
        Model.from_pretrained("someone/model")
    place = tmp_path / "models--someone--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    model.save(place / "snapshots" / "abc")
    assert Model.from_pretrained("someone/model").hash == model.hash


def test_push_to_hub_uploads_the_whole_folder(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    uploaded: list[str] = []
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda repo, exist_ok: None)
    monkeypatch.setattr(
        huggingface_hub,
        "upload_folder",
        lambda repo_id, folder_path: uploaded.extend(sorted(p.name for p in Path(folder_path).iterdir())),
    )
    model.push_to_hub("someone/model")
    assert uploaded == ["README.md", "config.json", "model.safetensors"]


def test_a_new_field_of_the_configuration_does_not_change_the_hash_of_older_models() -> None:
    known = {
        "head": {"hidden", "norm"},
        "quantizer": {"num_codebooks", "codebook_size", "codeword_dim", "temperature", "distance"},
    }
    identity = _identity(RECIPE)
    assert {section: set(identity[section]) for section in known} == known  # leave out what is new and has its default
    assert set(identity["backbone"]) == {"name", "blocks", "width", "stem_stride", "pretrained", "weights"}
    assert set(identity["input"]) == {"size", "mean", "std"}


def test_saving_in_half_the_bytes_rounds_weights_but_not_buffers(tiny_recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = replace(tiny_recipe, head=replace(tiny_recipe.head, hidden=512))
    model = Model(Network(recipe), recipe)
    model.network.backbone.register_buffer("table", torch.randn(5000))
    before = model.hash
    model.save(tmp_path / "whole")
    model.save(tmp_path / "half", half=True)
    assert model.hash != before
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.75 * sizes[0]
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "half" / "model.safetensors")
    assert saved["head.0.weight"].dtype == torch.float16
    assert saved["backbone.table"].dtype == torch.float32
    torch.testing.assert_close(saved["head.0.weight"].float(), model.network.head[0].weight.data, rtol=0, atol=0)
    del model.network.backbone.table
    model.save(tmp_path / "plain", half=True)
    assert Model.load(tmp_path / "plain").hash == model.hash


def test_a_model_with_numbers_that_are_not_finite_is_neither_saved_nor_loaded(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.network.quantizer.codebooks.data[0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"cannot save .*m: quantizer.codebooks has numbers that are not finite"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
    with monkeypatch.context() as patch:  # as versions before did
        patch.setattr("spq.model.model.check_numbers", lambda *_: None)
        model.save(tmp_path / "m")
    with pytest.raises(
        ModelError, match=r"model .*m: quantizer.codebooks has numbers that are not finite; train again"
    ):
        Model.load(tmp_path / "m")


def test_descriptors_that_are_not_finite_or_all_zero_are_refused_at_the_first_batch(
    model: Model, pixels: np.ndarray
) -> None:
    head = model.network.head[-1]
    head.weight.data.zero_()
    head.bias.data.zero_()
    for encode in (model.embed, model.encode):
        with pytest.raises(
            ModelError, match="descriptors of the model are all zero; use another copy of the model, or train"
        ):
            encode(pixels)
    head.bias.data.fill_(torch.nan)
    for encode in (model.embed, model.encode):
        with pytest.raises(
            ModelError, match="descriptors of the model are not finite; use another copy of the model, or train"
        ):
            encode(pixels)
    with pytest.raises(ModelError, match="inputs of the model are not finite"):
        model.encode_descriptors(np.full((2, 16), np.nan, np.float32))
