"""The map by neighbourhoods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spq.pq.tables import Codebooks
from spq.web import layout
from spq.web.layout import Layout, arrange, follow, kept_layout, read_layout, write_layout

pytest.importorskip("openTSNE", reason="needs openTSNE: pip install -e '.[map]'")
WORDS = np.random.default_rng(0).normal(size=(4, 16, 3)).astype(np.float32)
WORDS[:, (0, 5, 10)] *= 3  # the groups are far apart
DECODER = Codebooks(WORDS)


def groups(per_group: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, codes and groups of three groups of similar codes, mixed."""
    rng = np.random.default_rng(1)
    group = np.arange(3 * per_group) % 3
    codes = np.repeat((5 * group)[:, None], 4, 1).astype(np.uint8)
    codes[np.arange(len(codes)), rng.integers(0, 4, len(codes))] = rng.integers(0, 16, len(codes))
    return 2 * np.arange(len(codes)), codes, group


@pytest.fixture(scope="module")
def arranged() -> Layout:
    ids, codes, _ = groups()
    return arrange(ids, codes, DECODER)


def test_pictures_that_are_alike_lie_together_and_always_at_the_same_places(arranged: Layout) -> None:
    ids, codes, group = groups()
    apart = np.linalg.norm(arranged.points[:, None] - arranged.points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argsort(1)[:, :5]
    assert (group[nearest] == group[:, None]).mean() > 0.95
    assert np.array_equal(arrange(ids, codes, DECODER).points, arranged.points)
    assert np.square(arranged.points).mean() == pytest.approx(1, abs=1e-3)


def test_new_pictures_are_placed_between_their_neighbours_and_nothing_else_moves(arranged: Layout) -> None:
    ids, codes, group = groups()
    now_ids = np.concatenate([ids[3:], [1001, 1003]])  # three are gone
    now_codes = np.concatenate([codes[3:], np.full((2, 4), [[5], [10]], np.uint8)])
    now = follow(arranged, now_ids, now_codes, DECODER)
    assert now is not None
    assert now.placed == 2
    assert np.array_equal(now.points[:-2], arranged.points[3:])
    for point, of in zip(now.points[-2:], (1, 2), strict=True):
        centres = np.stack([arranged.points[group == g].mean(0) for g in range(3)])
        assert np.linalg.norm(centres - point, axis=1).argmin() == of


def test_after_many_changes_all_is_arranged_again(arranged: Layout) -> None:
    ids, codes, _ = groups()
    assert follow(arranged, ids + 1, codes, DECODER) is None
    assert follow(arranged, ids, (codes + 1) % 16, DECODER) is None
    assert follow(Layout(ids[:100], codes[:100], arranged.points[:100], placed=10), ids, codes, DECODER) is None


def test_a_kept_layout_is_not_computed_again(arranged: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, codes, _ = groups()
    file = tmp_path / "maps" / "a.npz"
    first = kept_layout(file, (ids, codes), DECODER, None)
    assert np.array_equal(first.points, arranged.points)
    monkeypatch.setattr(layout, "arrange", None)
    assert np.array_equal(kept_layout(file, (ids, codes), DECODER, None).points, first.points)
    fewer = kept_layout(file, (ids[1:], codes[1:]), DECODER, None)
    assert np.array_equal(fewer.points, first.points[1:])
    kept = read_layout(file)
    assert kept is not None
    assert kept.ids.tolist() == ids[1:].tolist()


def test_a_damaged_file_is_no_layout(arranged: Layout, tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    assert read_layout(file) is None
    write_layout(file, arranged)
    data = file.read_bytes()
    for broken in (b"", b"PK", data[: len(data) // 2], data[:400] + b"\xff" * 100 + data[500:]):
        file.write_bytes(broken)
        assert read_layout(file) is None
    write_layout(file, Layout(arranged.ids[1:], arranged.codes, arranged.points))
    assert read_layout(file) is None


def test_without_a_place_to_keep_it_the_layout_is_computed(arranged: Layout, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("a file in the way")
    ids, codes, _ = groups()
    assert np.array_equal(kept_layout(tmp_path / "maps" / "a.npz", (ids, codes), DECODER, None).points, arranged.points)


@pytest.mark.parametrize("n", [6, 8, 12, 16, 20, 30, 40, 60, 99, 100])
def test_few_pictures_are_not_drawn_into_one_point(n: int) -> None:
    codes = np.random.default_rng(n).integers(0, 16, (n, 4)).astype(np.uint8)
    points = arrange(np.arange(n), codes, DECODER).points
    assert np.square(points).mean() == pytest.approx(1, abs=1e-3)
    assert len(np.unique(points.round(2), axis=0)) > n / 2


@pytest.mark.parametrize("n", [1, 2, 6, 40, 150])
def test_copies_of_one_picture_have_places(n: int, tmp_path: Path) -> None:
    arranged = arrange(np.arange(n), np.full((n, 4), 3, np.uint8), DECODER)
    assert np.isfinite(arranged.points).all()
    write_layout(tmp_path / "a.npz", arranged)
    assert read_layout(tmp_path / "a.npz") is not None


def test_a_kept_layout_whose_pictures_are_all_at_one_point_is_none(arranged: Layout, tmp_path: Path) -> None:
    write_layout(tmp_path / "a.npz", Layout(arranged.ids, arranged.codes, arranged.points * np.float32(1e-20)))
    assert read_layout(tmp_path / "a.npz") is None


def test_a_few_pictures_have_places_too() -> None:
    ids, codes, _ = groups()
    for n in range(8):
        points = arrange(ids[:n], codes[:n], DECODER).points
        assert points.shape == (n, 2)
        assert np.isfinite(points).all()
