"""Every script in examples/ runs, with small settings on its command line, and prints what it promises."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spq import ImageIndex
from spq.cli.main import run

Printed = Callable[..., list[str]]  # name of a script and its arguments -> the lines that it prints
EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = """
[input]
size = 16
[backbone]
blocks = [1]
width = 8
stem_stride = 2
[quantizer]
num_codebooks = 16
codeword_dim = 4
[train]
batch_size = 16
epochs = 1
lr = 1e-2
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "tiny.toml"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    def call(name: str, *arguments: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return call


def test_index_and_search_finds_the_picture_that_it_asks_with(printed: Printed, photos: Path, recipe: Path) -> None:
    query = min(photos.rglob("*.png"))
    first, *hits = printed("index_and_search.py", photos, query, "--recipe", recipe, "--minutes", 0.01, "--top", 60)
    assert first == "60 pictures, 8 bytes each"
    assert len(hits) == 60
    assert query.relative_to(photos).as_posix() in {line.split("  ")[-1] for line in hits[:5]}


def test_the_paper_in_miniature_scores_above_chance(printed: Printed, photos: Path) -> None:
    sizes = ("--epochs", 20, "--width", 8)
    lines = printed("reproduce_paper_small.py", "--gallery", photos, "--queries", "sample:test", *sizes)
    assert "32 bits, l2" in lines[0]
    scores = {line.rsplit("  ", 1)[0].strip(): float(line.split()[-1]) for line in lines if line.startswith("  ")}
    assert scores["SPQ (l2)"] > scores["random codes"] + 0.05


def test_a_loss_of_ones_own_changes_the_codewords(printed: Printed, photos: Path, recipe: Path) -> None:
    def similarity(weight: float) -> float:
        (line,) = printed("own_loss.py", photos, "--recipe", recipe, "--epochs", 3, "--weight", weight)
        return float(line.split()[-1])

    assert similarity(50) < similarity(0) - 0.01


def test_a_backbone_of_ones_own_is_loaded_again(printed: Printed, photos: Path, recipe: Path) -> None:
    (line,) = printed("own_backbone.py", photos, "--recipe", recipe, "--epochs", 1, "--out", "own.spq")
    assert line.startswith("given/Sequential: 16 sub-codes, hash ")


def test_views_of_ones_own_are_named_in_the_model(printed: Printed, photos: Path, recipe: Path) -> None:
    size = ("--image-size", 16)
    (line,) = printed("own_views.py", photos, "--recipe", recipe, *size, "--epochs", 1, "--out", "own-views.spq")
    assert line.endswith(".Views")


def test_numpy_alone_ranks_as_spq_does(printed: Printed, photo_index: Path, tmp_path: Path) -> None:
    assert run(["export", str(photo_index), "--to", "codes", "--out", str(tmp_path / "photos.npz")]) == 0
    with ImageIndex.open(photo_index) as index:
        hits = index.search(17, top=60)
        path = index.store.paths([17])[17]
    lines = [line.split("  ", 1) for line in printed("read_codes_with_numpy.py", tmp_path / "photos.npz", path)]
    of_path = {hit.path: hit.distance for hit in hits}  # NumPy alone ranks those at the same distance by row
    assert [float(distance) for distance, _ in lines] == pytest.approx([hit.distance for hit in hits[:10]], abs=2e-4)
    assert [of_path[path] for _, path in lines] == pytest.approx([hit.distance for hit in hits[:10]])


def test_every_example_is_short_and_has_a_test() -> None:
    tests = Path(__file__).read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tests
        assert len(path.read_text("utf-8").splitlines()) < 40
