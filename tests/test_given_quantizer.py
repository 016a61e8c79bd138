"""A quantizer of the caller's own: trained, stored, searched; and what is said if it does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from conftest import run_spq
from small_training import StopError, sample_images, small_recipe, with_finish
from spq import SPQ, ImageIndex, evaluate, load_recipe, open_images
from spq.config import with_overrides
from spq.data.decode import to_pixels
from spq.data.image_set import subset
from spq.data.protocols import Protocol
from spq.dupes.candidates import code_neighbours
from spq.errors import ConfigError, ModelError, StoreError
from spq.model.given_quantizer import given_config
from spq.model.model import Model
from spq.model.onnx import export_onnx
from spq.pq.codewords import members
from spq.scale.publish import publish
from spq.training.train import train

RECIPE = small_recipe(epochs=1)


class Signs(nn.Module):
    """One bit for each number: its sign, times a length."""

    dim, distances = 24, ("sqeuclidean", "dot")

    def __init__(self) -> None:
        super().__init__()
        self.length = nn.Parameter(torch.full((self.dim, 1), 0.1))

    @property
    def words(self) -> Tensor:
        return torch.cat([-self.length, self.length], 1)  # (M, K)

    def soft_assign(self, x: Tensor) -> Tensor:
        return torch.softmax(-self.tables(x, "sqeuclidean") / 0.2, -1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.soft_assign(x) * self.words).sum(-1)

    def encode(self, x: Tensor) -> Tensor:
        return self.tables(x, "sqeuclidean").argmin(-1)

    def decode(self, codes: Tensor) -> Tensor:
        return self.words[torch.arange(self.dim), codes]

    def tables(self, x: Tensor, distance: str) -> Tensor:
        return -x[:, :, None] * self.words if distance == "dot" else (x[:, :, None] - self.words) ** 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "signs.spq"
    SPQ.train(sample_images(64), recipe=RECIPE, quantizer=Signs(), out=out, device="cpu")
    return out


@pytest.fixture
def model(folder: Path) -> Model:
    return SPQ.load(folder, quantizer=Signs())


@pytest.fixture
def index(model: Model, photos: Path, tmp_path: Path) -> Any:
    with ImageIndex.build(tmp_path / "i", model, photos) as index:
        yield index


def test_its_own_parameters_learn_and_are_saved(folder: Path, model: Model) -> None:
    length = model.network.quantizer.module.length
    assert (length - 0.1).abs().max() > 1e-4
    q = model.config.quantizer
    assert (q.kind, q.bits, q.dim, q.distance, q.prefixes) == ("given/Signs", 24, 24, "sqeuclidean", ())
    assert model.facts["codes"][0]["bits"] == 24
    assert "quantizer Signs: 24 sub-codes below 2 of 24 numbers" in (folder / "README.md").read_text("utf-8")


def test_a_model_is_not_loaded_without_it_or_with_another(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"with your own quantizer test_given_quantizer\.Signs, .*quantizer=Signs\("):
        SPQ.load(folder)
    with pytest.raises(
        ModelError, match=r"quantizer test_given_quantizer\.Signs, not test_given_quantizer\.Broken; give"
    ):
        SPQ.load(folder, quantizer=Broken())
    smaller = Signs()
    smaller.dim, smaller.length = 8, nn.Parameter(smaller.length[:8])
    with pytest.raises(ModelError, match=r"the model has quantizer Signs: 24 sub-codes .* yours is quantizer Signs: 8"):
        SPQ.load(folder, quantizer=smaller)


def test_an_index_is_searched_and_evaluated_by_its_tables(model: Model, index: ImageIndex) -> None:
    ids, codes = index.store.codes()
    decoded = model.decode(codes)
    x = model.embed([open_images("sample:test").image(3)])[0]
    for query, vector in ((x, x), (int(ids[5]), decoded[5])):
        exact = dict(zip(ids.tolist(), ((decoded - vector) ** 2).sum(1).tolist(), strict=True))
        hits = index.search(query, top=len(ids))
        np.testing.assert_allclose([hit.distance for hit in hits], sorted(exact.values()), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose([exact[hit.id] for hit in hits], sorted(exact.values()), rtol=1e-4, atol=1e-6)
    near = code_neighbours(codes, index.decoder, "sqeuclidean")
    np.testing.assert_allclose(near.distances[:, 0], 0, atol=1e-6)
    assert len(members(codes, 3, 1, index.decoder, "sqeuclidean")) == (codes[:, 3] == 1).sum()
    protocol = Protocol(
        "small", *(subset(open_images(f"sample:{part}"), range(200)) for part in ("test", "train", "train")), 100
    )
    assert 0.1 < evaluate(model, protocol).map < 1
    with pytest.raises(ConfigError, match="your quantizer Signs has no tables of distance l2; use sqeuclidean or dot"):
        evaluate(model, protocol, distance="l2")


def test_an_index_opens_with_its_model_only(
    model: Model, index: ImageIndex, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = index.store.folder
    with ImageIndex.open(folder, model) as opened:
        assert opened.search(1, top=1)[0].id == 1
        assert opened.sync(photos).unchanged == 60
    with ImageIndex.open(folder) as opened:
        assert len(opened) == 60
        with pytest.raises(
            StoreError,
            match=r"codes of your own quantizer Signs, and its code is not .* Python: ImageIndex\.open\(folder, model\)",
        ):
            opened.search(1)
    for command in (["search", folder, "--id", 1], ["export", folder, "--to", "codes", "--out", tmp_path / "x.npz"]):
        assert run_spq(*command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "has codes of your own quantizer Signs" in line
    assert run_spq("index", "--verify", folder) == 0
    with pytest.raises(ConfigError, match="has codes of your own quantizer, whose code other machines do not have"):
        publish(folder, str(tmp_path / "published"))


def test_onnx_gives_its_codes(model: Model, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "m.onnx")
    images = sample_images(20)
    pixels = np.stack([to_pixels(images.image(n), model.config.input.size) for n in range(20)])
    x, codes = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"pixels": pixels})
    np.testing.assert_array_equal(codes, model.encode_descriptors(x))


class Broken(Signs):
    """Signs with other methods."""

    def __init__(self, **other: Any) -> None:
        super().__init__()
        for name, value in other.items():
            setattr(self, name, value)


def even(x: Tensor) -> Tensor:
    return torch.full((len(x), 24, 2), 0.5)


def ones(x: Tensor) -> Tensor:
    return torch.ones(len(x), 24, dtype=torch.uint8)


def failing(*_: Any) -> Tensor:
    raise ValueError("no such thing\nmore")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"tables": None}, r"has no method `tables`\(x, distance\)$"),
        ({"soft_assign": None}, r"has no method `soft_assign`\(x\)$"),
        ({"dim": None}, "has no attribute `dim`, the number D of a descriptor's dimensions"),
        ({"distances": ("cosine",)}, "has no attribute `distances`, those of its tables: one or several of l2, sqe"),
        ({"soft_assign": lambda x: x}, r"`soft_assign`\(x\) returns \(6, 24\) for descriptors \(6, 24\); it must return"),
        ({"soft_assign": lambda x: torch.full((6, 24, 3), 1 / 3)}, "must be a power of two up to 256, got K=3"),
        ({"encode": lambda x: torch.zeros(6, 3).long()}, r"`encode`\(x\) returns \(6, 3\), and \(6, 24\) is needed"),
        ({"encode": lambda x: torch.full((6, 24), 2)}, r"`encode`\(x\) must return whole numbers from 0 to 1"),
        ({"encode": lambda x: x.sign()}, r"`encode`\(x\) must return whole numbers from 0 to 1"),
        ({"encode": failing}, r"`encode`\(x\) fails for \(6, 24\): ValueError: no such thing$"),
        ({"decode": lambda codes: codes.tolist()}, r"`decode`\(codes\) returns list, not a tensor"),
        ({"tables": lambda x, _: x, "soft_assign": even, "encode": ones}, r"`tables`\(x, distance\) returns \(6, 24\), and"),
        ({"distances": ["l2"]}, r"sums of its tables of distance l2 are not the distances to its decoded codes \(the first"),
        ({"decode": lambda codes: codes.float()}, r"so leave sqeuclidean out of its `distances`, or correct `tables` or"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_one_line(other: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        given_config(Broken(**other), RECIPE.quantizer)
    assert str(caught.value).startswith(("your quantizer test_given_quantizer.Broken", "codebook size"))
    assert "\n" not in str(caught.value)


def test_norms_of_sub_vectors_need_equal_ones() -> None:
    class Whole(Signs):
        """One sub-code of two words for 3 numbers, twice."""

        dim, distances = 3, ("l2",)

        def soft_assign(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 2, 2), 0.5)

        def encode(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 2).long()

        def decode(self, codes: Tensor) -> Tensor:
            return torch.zeros(len(codes), 3)

        def forward(self, x: Tensor) -> Tensor:
            return x

        def tables(self, x: Tensor, distance: str) -> Tensor:
            return torch.zeros(len(x), 2, 2)

    with pytest.raises(ConfigError, match="its descriptors have no M equal ones; leave l2 out of its `distances`"):
        given_config(Whole(), RECIPE.quantizer)
    with pytest.raises(ConfigError, match=r"Plain has no method `forward`\(x\), which returns soft quantizations"):
        given_config(Plain(), RECIPE.quantizer)
    with pytest.raises(ConfigError, match=r"your quantizer builtins\.dict is no torch\.nn\.Module"):
        given_config({}, RECIPE.quantizer)


class Plain(nn.Module):
    """A module that is not called."""

    dim, distances = 4, ("dot",)
    soft_assign = encode = decode = tables = failing


def refused(change: Callable[[Any], Any], **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        SPQ.train(sample_images(64), recipe=change(RECIPE), quantizer=Signs(), **options)
    return str(caught.value)


def test_recipes_and_options_that_need_codebooks_are_refused() -> None:
    assert refused(lambda r: r, bits=16) == "your `quantizer` has codes of a length of its own; omit `bits`"
    started = refused(lambda r: replace(r, head=replace(r.head, start="pq")))
    assert started.endswith('has head.start, which does not work with `quantizer`; set it to "random"')
    assert "cluster.share needs quantizer.kind" in refused(
        lambda r: with_overrides(load_recipe("gpu"), ["train.graph=false"])
    )
    with pytest.raises(ConfigError, match="the model needs your own quantizer Signs; give it as `quantizer`"):
        SPQ.train(sample_images(64), recipe=with_overrides(RECIPE, ['quantizer.kind="given/Signs"']))


def test_a_training_resumes_with_it_only(tmp_path: Path) -> None:
    def stop(epoch: int, network: object) -> None:
        raise StopError

    recipe = small_recipe(epochs=2, checkpoint_minutes=0.0)
    with pytest.raises(StopError):
        train(sample_images(64), recipe, tmp_path / "m", quantizer=Signs(), on_epoch=stop)
    with pytest.raises(ConfigError, match=r"began with your own quantizer test_given_quantizer\.Signs; continue it in"):
        train(sample_images(64), recipe, tmp_path / "m", resume=True)
    model = train(sample_images(64), recipe, tmp_path / "m", quantizer=Signs(), resume=True)
    assert model.facts["epochs"] == 2


def test_a_refit_and_a_finish_call_its_own_methods(tmp_path: Path) -> None:
    calls: list[Any] = []
    quantizer = Broken(refit=lambda x: calls.append(tuple(x.shape)), reset_parameters=lambda: calls.append("reset"))
    recipe = with_finish(small_recipe(epochs=1, refit=True), epochs=1)
    model = train(sample_images(64), recipe, tmp_path / "m", quantizer=quantizer, device="cpu", measure=False)
    assert calls == ["reset", (64, 24)]
    assert model.network.quantizer.module is quantizer
    facts = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))["training"]
    assert facts["parts"]["quantizer"]["class"] == "test_given_quantizer.Broken"


def test_a_training_starts_from_a_copy_of_the_one_of_a_model(model: Model, tmp_path: Path) -> None:
    before = model.network.quantizer.module.length.clone()
    recipe = small_recipe(epochs=1, optimizer="adam")
    again = train(sample_images(64), recipe, tmp_path / "m", start=model, device="cpu", measure=False)
    assert again.config.quantizer.kind == "given/Signs"
    assert torch.equal(model.network.quantizer.module.length, before)
    assert not torch.equal(again.network.quantizer.module.length, before)
