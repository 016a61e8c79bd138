"""The residual quantizer, and an index of its codes from training to search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import quantizers
from conftest import TINY_RECIPE, run_spq, write_photos
from reference import residual
from small_training import sample_images, small_recipe
from spq import ImageIndex
from spq.config import QuantizerConfig, Recipe, load_recipe, with_overrides
from spq.data.decode import to_pixels
from spq.data.open import open_images
from spq.dupes.candidates import code_neighbours
from spq.errors import CodebookError, ConfigError
from spq.index.export import export_faiss
from spq.model.model import Model
from spq.model.network import Network
from spq.model.onnx import export_onnx
from spq.model.residual import ResidualQuantizer
from spq.pq.codewords import members
from spq.pq.tables import Codebooks
from spq.training.refit import assigned, refit
from spq.training.train import train

SHAPES = st.tuples(st.integers(1, 3), st.integers(2, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))


def config_of(P: int = 2, S: int = 2, K: int = 16, d: int = 4, **more: Any) -> QuantizerConfig:
    return QuantizerConfig(P * S, K, d, distance="dot", kind="residual", stages=S, **more)


def random_quantizer(P: int, S: int, K: int, d: int) -> ResidualQuantizer:
    torch.manual_seed(P * 1000 + K)
    return ResidualQuantizer(config_of(P, S, K, d))


def doubles(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def pictures(count: int) -> list[Any]:
    sample = open_images("sample:train")
    return [sample.image(position) for position in range(count)]


@given(SHAPES)
@settings(max_examples=25, deadline=None)
def test_codes_and_soft_quantizations_equal_slow_loops(shape: tuple[int, int, int, int, int]) -> None:
    P, S, bits, d, seed = shape
    quantizer = random_quantizer(P, S, 2**bits, d)
    C, x = doubles(quantizer.codebooks), np.random.default_rng(seed).normal(size=(3, P * d)).astype(np.float32)
    codes, z = quantizer.encode(torch.from_numpy(x)), doubles(quantizer(torch.from_numpy(x)))
    soft = quantizer.soft_assign(torch.from_numpy(x))
    assert soft.shape == (3, P * S, 2**bits)
    torch.testing.assert_close(soft.sum(-1), torch.ones(3, P * S))
    for row in range(3):
        assert codes[row].tolist() == residual.encode(x[row].astype(np.float64), C, S)
        np.testing.assert_allclose(z[row], residual.soft_quantize(x[row].astype(np.float64), C, S, 0.2), atol=1e-4)


@given(SHAPES)
@settings(max_examples=25, deadline=None)
def test_tables_add_up_to_inner_products_with_decoded_codes(shape: tuple[int, int, int, int, int]) -> None:
    P, S, bits, d, seed = shape
    quantizer, rng = random_quantizer(P, S, 2**bits, d), np.random.default_rng(seed)
    x, codes = rng.normal(size=(2, P * d)).astype(np.float32), rng.integers(0, 2**bits, (5, P * S), np.uint8)
    decoder = Codebooks(quantizer.codebooks.detach().numpy(), S)
    tables, decoded = doubles(quantizer.tables(torch.from_numpy(x))), doubles(quantizer.decode(torch.from_numpy(codes)))
    np.testing.assert_allclose(decoder.tables(x, "dot"), tables, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decoder.decode(codes), decoded, rtol=1e-5, atol=1e-6)
    assert (decoder.dim, decoder.parts) == (quantizer.config.dim, quantizer.config.parts) == (P * d, P)
    for code, vector in zip(codes.tolist(), decoded, strict=True):
        np.testing.assert_allclose(vector, residual.decode(code, doubles(quantizer.codebooks), S), atol=1e-6)
        sums = sum(tables[:, m, k] for m, k in enumerate(code))
        np.testing.assert_allclose(sums, -x.astype(np.float64) @ vector, rtol=1e-4, atol=1e-4)


def test_codes_are_those_of_faiss_with_the_same_codebooks() -> None:
    M, K, d = 3, 16, 8
    quantizer = random_quantizer(1, M, K, d)
    theirs = faiss.ResidualQuantizer(d, M, 4)
    theirs.max_beam_size = 1
    faiss.copy_array_to_vector(quantizer.codebooks.detach().numpy().ravel(), theirs.codebooks)
    theirs.is_trained = True
    theirs.compute_codebook_tables()
    x = np.random.default_rng(0).normal(size=(200, d)).astype(np.float32)
    packed = theirs.compute_codes(x)
    codes = np.packbits(
        np.unpackbits(packed, axis=1, count=4 * M, bitorder="little").reshape(-1, M, 4), axis=2, bitorder="little"
    )[:, :, 0]
    ours = quantizer.encode(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(ours, codes)
    np.testing.assert_allclose(
        quantizer.decode(torch.from_numpy(ours)).detach().numpy(), theirs.decode(packed), atol=1e-6
    )


def test_each_stage_is_fitted_to_what_those_before_it_leave() -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    starts = torch.arange(4)
    quantizer, first = random_quantizer(2, 2, 4, 4), random_quantizer(2, 2, 4, 4)
    refit(quantizer, x, starts=starts)
    refit(first, x, starts=starts)
    parts = quantizer.split(x).numpy()
    for part in range(2):
        rest = parts[:, part]
        for m in (2 * part, 2 * part + 1):  # plain k-means of the part, then of what it leaves
            words = rest[:4].copy()
            for _ in range(20):
                near = ((rest[:, None] - words) ** 2).sum(-1).argmin(1)
                words = np.stack([rest[near == k].mean(0) for k in range(4)])
            np.testing.assert_allclose(quantizer.codebooks[m].detach().numpy(), words, atol=1e-4)
            rest = rest - words[((rest[:, None] - words) ** 2).sum(-1).argmin(1)]
    assert torch.equal(assigned(quantizer, x), quantizer.encode(x).long())


def test_codebooks_that_fit_each_other_are_not_made_worse() -> None:
    quantizer = random_quantizer(1, 2, 2, 1)
    words = torch.tensor([[[-3.0], [3.0]], [[-1.0], [1.0]]])
    with torch.no_grad():
        quantizer.codebooks.copy_(words)
    # k-means would move the words of the first stage to the means of both halves, which are not the middles
    x = torch.tensor([[-4.0]] * 9 + [[-2.0], [2.0]] + [[4.0]] * 9)
    refit(quantizer, x)
    assert (x - quantizer.decode(quantizer.encode(x))).abs().max() < 1e-5


def test_prefixes_are_codes_of_the_first_numbers(tiny_recipe: Recipe) -> None:
    q = config_of(4, 2, 16, 4, prefixes=(2, 8))
    assert (q.lengths, q.prefix_dims, q.bits, q.dim) == ((8, 32), (4, 16), 32, 16)
    model = Model(Network(replace(tiny_recipe, quantizer=q)), replace(tiny_recipe, quantizer=q))
    x = model.embed(pictures(20))
    short = model.truncate(8)
    np.testing.assert_array_equal(short.encode_descriptors(x[:, :4]), model.encode_descriptors(x)[:, :2])
    np.testing.assert_allclose(short.embed(pictures(3)), x[:3, :4], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"distance": "l2"}, ConfigError, 'a residual quantizer needs quantizer.distance = "dot", got l2: a norm of'),
        ({"distance": "sqeuclidean"}, ConfigError, 'needs quantizer.distance = "dot", got sqeuclidean'),
        ({"num_codebooks": 7}, CodebookError, "2 stages needs a multiple of 2 codebooks, got 7; try 8"),
        ({"prefixes": (3, 8)}, CodebookError, "a multiple of 2 codebooks, got 3; try 4"),
        ({"kind": "additive"}, ConfigError, "unknown quantizer.kind 'additive'; use product or residual"),
        ({"stages": 1}, CodebookError, "stages must be from 2"),
    ],
)
def test_what_a_table_cannot_serve_is_refused_in_the_recipe(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    values = {"num_codebooks": 8, "distance": "dot", "kind": "residual", **settings}
    with pytest.raises(error, match=words):
        QuantizerConfig(**values)


def test_other_distances_and_stages_are_refused_with_the_reason() -> None:
    quantizer = random_quantizer(2, 2, 4, 4)
    with pytest.raises(
        ConfigError, match="has no tables of distance l2; use dot: a norm of the difference to a sum of"
    ):
        quantizer.tables(torch.zeros(1, 8), "l2")
    with pytest.raises(ConfigError, match="has no tables of distance sqeuclidean; use dot: a norm of"):
        Codebooks(np.zeros((4, 4, 4), np.float32), 2).tables(np.zeros((1, 8), np.float32), "sqeuclidean")
    with pytest.raises(ConfigError, match=r'cluster\.share needs quantizer\.kind = "product", got residual'):
        with_overrides(load_recipe("gpu"), ['quantizer.kind="residual"', 'quantizer.distance="dot"'])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained for two epochs on 160 pictures."""
    changes = ['quantizer.kind="residual"', 'quantizer.distance="dot"', "quantizer.num_codebooks=8", "train.refit=true"]
    recipe = with_overrides(small_recipe(epochs=2), changes)
    return train(sample_images(), recipe, tmp_path_factory.mktemp("m") / "m", device="cpu", measure=True)


def test_training_moves_all_stages_and_measures_the_codes(model: Model) -> None:
    (report,) = model.facts["codes"]
    assert report["bits"] == 32
    assert 0 < report["error"] < 0.5
    assert model.facts["health"]["dead_codewords"] == 0
    torch.manual_seed(model.config.train.seed)
    assert (model.codebooks - Network(model.config).quantizer.codebooks.detach().numpy()).any((1, 2)).all()


@pytest.fixture
def index(model: Model, photos: Path, tmp_path: Path) -> Any:
    with ImageIndex.build(tmp_path / "i", model, photos) as index:
        yield index


def test_the_manifest_names_the_quantizer_so_that_versions_without_it_refuse_the_index(
    index: ImageIndex, photo_index: Path
) -> None:
    assert json.loads((index.store.folder / "manifest.json").read_text("utf-8"))["quantizer"] == "residual"
    assert "quantizer" not in json.loads((photo_index / "manifest.json").read_text("utf-8"))


def test_a_search_ranks_by_inner_products_with_decoded_codes(model: Model, index: ImageIndex) -> None:
    ids, codes = index.store.codes()
    decoded = model.decode(codes)
    x = model.embed(pictures(2))
    for query, vector in ((x[0], x[0]), (int(ids[3]), decoded[3])):
        hits = index.search(query, top=len(ids))
        exact = dict(zip(ids.tolist(), (-decoded @ vector).tolist(), strict=True))
        np.testing.assert_allclose([hit.distance for hit in hits], sorted(exact.values()), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose([exact[hit.id] for hit in hits], sorted(exact.values()), rtol=1e-4, atol=1e-5)


def test_codes_are_compared_by_what_they_decode_to(model: Model, index: ImageIndex) -> None:
    _, codes = index.store.codes()
    decoded = model.decode(codes).astype(np.float64)
    near = code_neighbours(codes, index.decoder, "dot")
    apart = ((decoded[:, None] - decoded) ** 2).sum(-1)
    for row, (others, distances) in enumerate(zip(near.rows, near.distances, strict=True)):
        found, nearest = distances[others != row], np.sort(np.delete(apart[row], row))
        assert len(found) >= 40
        np.testing.assert_allclose(found, nearest[: len(found)], rtol=1e-3, atol=1e-4)
    rows = members(codes, 1, int(codes[0, 1]), index.decoder, "dot")
    far = ((decoded[rows] - decoded[rows].mean(0)) ** 2).sum(1)
    assert sorted(rows.tolist()) == np.flatnonzero(codes[:, 1] == codes[0, 1]).tolist()
    np.testing.assert_allclose(far, np.sort(far), rtol=1e-3, atol=1e-5)


def test_faiss_ranks_an_export_as_spq_does(model: Model, index: ImageIndex, tmp_path: Path) -> None:
    facts = export_faiss(index.store, tmp_path / "x.faiss")
    assert (facts["stages"], facts["metric"]) == (2, "METRIC_INNER_PRODUCT")
    found, x = faiss.read_index(str(tmp_path / "x.faiss")), model.embed(pictures(3))
    products, ids = found.search(x, len(index))
    for row, near, query in zip(products, ids, x, strict=True):
        distances = {hit.id: hit.distance for hit in index.search(query, top=len(index))}
        np.testing.assert_allclose([distances[i] for i in near.tolist()], -row, rtol=1e-4, atol=1e-5)


def test_exports_without_a_way_for_stages_say_so(
    index: ImageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = index.store.folder
    for export, words in (("web", "a site cannot search"), ("lance", "Lance knows product quantizers only")):
        assert run_spq("export", folder, "--to", export, "--out", tmp_path / export) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a residual quantizer" in line
        assert words in line
        assert not (tmp_path / export).exists()


def test_onnx_gives_the_codes_of_the_model(model: Model, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "m.onnx")
    pixels = np.stack([to_pixels(picture, model.config.input.size) for picture in pictures(20)])
    x, codes = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"pixels": pixels})
    np.testing.assert_array_equal(codes, model.encode_descriptors(x))
    (books,) = (tensor for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer if tensor.name == "codebooks")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(books), model.codebooks)


@pytest.mark.parametrize("settings", ['kind = "residual"\ndistance = "dot"', "codebook_size = 256"])
def test_the_command_line_trains_indexes_searches_and_evaluates(
    settings: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, m, i = tmp_path / "r.toml", tmp_path / "m", tmp_path / "i"
    recipe.write_text(TINY_RECIPE.replace("[quantizer]", f"[quantizer]\n{settings}") + "refit = true\n")
    assert run_spq("train", photos, "--recipe", recipe, "--out", m) == 0
    assert run_spq("index", photos, "--model", m, "--out", i) == 0
    assert run_spq("index", "--verify", i) == 0
    capsys.readouterr()
    picture = next(photos.rglob("*.png"))
    assert run_spq("search", i, picture, "--json") == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [hit["rank"] for hit in hits[:3]] == [1, 2, 3]
    assert run_spq("eval", m, "--gallery", photos, "--queries", write_photos(tmp_path / "queries"), "--json") == 0
    assert 0 < json.loads(capsys.readouterr().out)["map"] <= 1
    assert run_spq("dupes", i, "--json") == 0
    assert run_spq("info", m, "--json") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts.get("quantizer") == "4 codebooks of 16 codewords of 4 numbers in 2 stages") == (
        "residual" in settings
    )
    for export, out in (("vectors", "v"), ("codes", "c.npz"), ("onnx", "n.onnx")):
        source = m if export == "onnx" else i
        assert run_spq("export", source, "--to", export, "--out", tmp_path / out) == 0
    assert run_spq("info", i, "--html", tmp_path / "codes.html") == 0


def test_the_bench_compares_greedy_codes_with_a_beam(model: Model) -> None:
    x = model.embed(pictures(40))
    coded = model.decode(model.encode_descriptors(x))
    greedy, beam = (quantizers.error(x, decoded) for decoded in (coded, quantizers.beam_decoded(model, x)))
    assert 0 < beam <= greedy * (1 + 1e-5)
    assert quantizers.with_beam(model, x, sample_images(40), sample_images(8)).startswith(
        f"greedy error {greedy:.4f}, mAP "
    )
