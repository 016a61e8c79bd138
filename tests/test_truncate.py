"""One training, several lengths: the first sub-codes of a nested model are codes of a model of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spq import SPQ, ImageIndex
from spq.cli import main as cli
from spq.config import DISTANCES, Recipe
from spq.data.decode import load_pixels
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.errors import ConfigError, ModelMismatchError
from spq.index.build import build
from spq.index.export import export_faiss
from spq.model.model import Model
from spq.model.network import Network
from spq.training import losses
from spq.training.refit import refit
from spq.training.train import train


@pytest.fixture(scope="module", params=[0.0, 1.0])
def nested(request: pytest.FixtureRequest, tiny_recipe: Recipe) -> SPQ:
    """8, 16 and 32 bits in one model, with and without a norm; its codewords are sub-vectors of pictures."""
    recipe = replace(
        tiny_recipe,
        head=replace(tiny_recipe.head, norm=request.param),
        quantizer=tiny_recipe.quantizer.with_bits(8, 16, 32),
    )
    torch.manual_seed(0)
    model = SPQ(Network(recipe), recipe, {"images": 3})
    x = torch.from_numpy(model.embed(load_pixels(open_images("sample:train"), 28, positions=range(16)).array))
    model.network.quantizer.codebooks.data.copy_(x.view(16, 8, 4).transpose(0, 1))
    return model


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return load_pixels(open_images("sample:test"), 28, positions=range(60)).array


@pytest.mark.parametrize(("bits", "M"), [(8, 2), (16, 4)])
def test_a_truncated_model_gives_the_beginning_of_all_that_the_whole_one_gives(
    nested: SPQ, pixels: np.ndarray, bits: int, M: int
) -> None:
    short = nested.truncate(bits)
    assert isinstance(short, SPQ)
    assert short.config.quantizer.bits == bits
    x = nested.embed(pixels)
    np.testing.assert_allclose(short.embed(pixels), x[:, : 4 * M], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(short.encode(pixels), nested.encode(pixels)[:, :M])
    for distance in DISTANCES:
        np.testing.assert_array_equal(short.tables(x[:, : 4 * M], distance), nested.tables(x, distance)[:, :M])
    assert len(np.unique(short.encode(pixels), axis=0)) > 20


def test_truncating_in_two_steps_or_after_saving_gives_the_same_model(nested: SPQ, tmp_path: Path) -> None:
    short = nested.truncate(8)
    assert nested.truncate(16).truncate(8).hash == short.hash
    nested.save(tmp_path / "long")
    short.save(tmp_path / "short")
    assert SPQ.load(tmp_path / "long").truncate(8).hash == SPQ.load(tmp_path / "short").hash == short.hash
    assert len({nested.hash, nested.truncate(16).hash, short.hash}) == 3
    assert nested.truncate(32) is nested
    assert nested.truncate(None) is nested
    assert short.facts == {"images": 3, "truncated_from": nested.hash}
    assert (short.config.quantizer.lengths, nested.truncate(16).config.quantizer.lengths) == ((8,), (8, 16))


def test_each_prefix_of_a_descriptor_has_the_norm_of_a_model_of_that_length(nested: SPQ, pixels: np.ndarray) -> None:
    norm, x = nested.config.head.norm, nested.embed(pixels)
    for M in (2, 4, 8):
        lengths = np.linalg.norm(x[:, : 4 * M], axis=1)
        if norm:
            np.testing.assert_allclose(lengths, norm * M**0.5, rtol=1e-5)
        else:
            assert lengths.std() > 0.01 * lengths.mean()


def test_codebooks_refitted_together_are_those_refitted_for_a_prefix_alone(nested: SPQ, pixels: np.ndarray) -> None:
    whole, short = SPQ(nested.network.truncated(nested.config.quantizer), nested.config), nested.truncate(16)
    x = torch.from_numpy(nested.embed(pixels))
    refit(whole.network.quantizer, x)
    refit(short.network.quantizer, x[:, :16].contiguous())
    np.testing.assert_allclose(short.codebooks, whole.codebooks[:4], rtol=1e-6)
    assert not np.array_equal(whole.codebooks, nested.codebooks)


def test_a_length_that_was_not_trained_is_refused_with_the_remedy(nested: SPQ, tiny_model: Model) -> None:
    with pytest.raises(ConfigError, match=r"`bits` 24: this model gives 8 or 16 or 32 bits; .* `bits` 8,16,24,32"):
        nested.truncate(24)
    with pytest.raises(ConfigError, match=r"`bits` 16: this model gives 32 bits; train one with `bits` 16,32"):
        tiny_model.truncate(16)


def test_hashes_of_models_without_prefixes_are_as_they_always_were(tiny_model: Model) -> None:
    alone = replace(tiny_model.config, quantizer=replace(tiny_model.config.quantizer, prefixes=(8,)))
    assert Model(tiny_model.network, alone).hash == tiny_model.hash
    both = replace(tiny_model.config, quantizer=replace(tiny_model.config.quantizer, prefixes=(4, 8)))
    assert Model(tiny_model.network, both).hash != tiny_model.hash


def test_an_index_of_a_shorter_code_holds_the_beginning_of_the_longer_codes(
    nested: SPQ, photos: Path, tmp_path: Path
) -> None:
    with (
        ImageIndex.build(tmp_path / "long", nested, photos) as long,
        ImageIndex.build(tmp_path / "short", nested, photos, bits=16) as short,
    ):
        np.testing.assert_array_equal(short.store.codes()[1], long.store.codes()[1][:, :4])
        assert (short.info()["bits"], short.info()["model"]) == (16, nested.truncate(16).hash)
        assert export_faiss(short.store, tmp_path / "short.faiss")["bits"] == 16
    import faiss

    assert faiss.read_index(str(tmp_path / "short.faiss")).d == 16
    with ImageIndex.open(tmp_path / "short") as again:  # with the copy of the model that it holds
        picture = photos / again.search(1, 1)[0].path
        assert again.search(picture, 1)[0].distance < again.search(picture, 20)[-1].distance
    store, _, report = build(tmp_path / "short", nested, photos)  # a second run needs no bits
    with store:
        assert (report.unchanged, store.manifest.bits) == (60, 16)
    with pytest.raises(ModelMismatchError, match=nested.hash):
        ImageIndex.build(tmp_path / "short", nested, photos, bits=32)


def test_the_command_line_trains_indexes_and_evaluates_shorter_codes(
    nested: SPQ, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nested.save(tmp_path / "m")
    assert cli.run(["info", str(tmp_path / "m"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lengths"] == [8, 16, 32]
    common = ["--model", str(tmp_path / "m"), "--out", str(tmp_path / "i")]
    assert cli.run(["index", str(photos), *common, "--bits", "12"]) == 2
    assert "this model gives 8 or 16 or 32 bits" in capsys.readouterr().err
    assert not (tmp_path / "i").exists()
    for more in (["--bits", "8"], []):
        assert cli.run(["index", str(photos), *common, *more, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["bits"] == 8
    source = ["--gallery", str(photos), "--queries", "sample:test", "--bits", "16", "--json"]
    assert cli.run(["eval", str(tmp_path / "m"), *source]) == 0
    assert json.loads(capsys.readouterr().out)["bits"] == 16


def test_a_nested_training_measures_every_length_and_a_truncated_model_keeps_its_own(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    plain = losses.multi_view
    monkeypatch.setattr(losses, "multi_view", lambda *args: seen.append(args[2]) or plain(*args))
    recipe = replace(
        tiny_recipe,
        quantizer=tiny_recipe.quantizer.with_bits(8, 16, 32),
        train=replace(tiny_recipe.train, batch_size=64, epochs=2, refit=True),
    )
    images = subset(open_images("sample:train"), range(200))
    model = train(images, recipe, tmp_path / "m")
    assert set(seen) == {(8, 16, 32)}  # dimensions of the prefixes, 4 numbers a codebook
    reports = model.facts["codes"]
    assert [report["bits"] for report in reports] == [8, 16, 32]
    assert all(report["pictures"] == 200 and report["queries"] == 200 for report in reports)
    assert reports[0]["kept"] < reports[2]["kept"]
    short = Model.load(tmp_path / "m").truncate(16)
    assert short.facts["codes"] == reports[:2]
    card = (tmp_path / "m" / "README.md").read_text("utf-8")
    assert "8-bit or 16-bit or 32-bit codes" in card
    assert f"- 16 bits keep {reports[1]['kept']:.0%} of the 10 nearest pictures" in card
    assert "health" not in short.facts


@pytest.mark.parametrize("text", ["", "8,", "a", "1.5"])
def test_lengths_that_are_no_numbers_are_refused(text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.run(["train", "sample:train", "--out", str(tmp_path / "m"), "--bits", text]) == 2
    assert f"--bits {text!r} is not a length of a code" in capsys.readouterr().err
