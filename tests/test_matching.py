from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.dupes import matching
from spq.dupes.confirm import Verdict
from spq.dupes.matching import NONE, Matching


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    for n in range(4):
        values = np.random.default_rng(n % 2).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(values).resize((120, 120)).save(tmp_path / f"{n}.png")
    return open_images(tmp_path)


def test_no_pair_is_judged_twice_and_each_picture_is_decoded_once(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    judged: list[int] = []
    rgba = images.rgba
    monkeypatch.setattr(images, "rgba", lambda position: (decoded.append(position), rgba(position))[1])
    judge = matching.judge
    monkeypatch.setattr(matching, "judge", lambda a, b: (judged.append(1), judge(a, b))[1])
    monkeypatch.setattr(matching, "cores", lambda: 1)
    counts: list[tuple[int, int]] = []
    pairs = Matching(images, np.arange(4), progress=lambda *done: counts.append(done))
    first = pairs.judge([(0, 2), (1, 3), (0, 1)])
    assert [verdict.kind for verdict in first] == ["re-encoded", "re-encoded", ""]
    assert pairs.judge([(1, 3), (0, 2)]) == [first[1], first[0]]
    assert (len(judged), sorted(decoded)) == (3, [0, 1, 2, 3])
    assert counts[-1] == (3, 4)  # there may be more


def test_pictures_that_do_not_fit_into_the_memory_are_decoded_again(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "CACHE_BYTES", 3 * 120 * 120 * 4)
    pairs = Matching(images, np.arange(4))
    for row in (0, 1, 2, 3, 0):
        assert pairs.image(row).size == (120, 120)
    assert pairs._decoded._bytes <= matching.CACHE_BYTES
    assert len(pairs._decoded._kept) == 3


def test_large_pictures_are_compared_at_full_size_only_if_they_are_alike_at_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, seed in enumerate((0, 0, 1)):
        values = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(values).resize((300, 220), Image.Resampling.BICUBIC).save(tmp_path / f"{n}.png")
    Image.open(tmp_path / "1.png").save(tmp_path / "1.jpg", quality=80)
    monkeypatch.setattr(matching, "QUICK_SIDE", 128)
    sizes: list[int] = []
    judge = matching.judge
    monkeypatch.setattr(matching, "judge", lambda a, b: (sizes.append(max(a.shape)), judge(a, b))[1])
    pairs = Matching(open_images(tmp_path), np.arange(4))  # 0.png, 1.jpg, 1.png, 2.png
    assert [verdict.kind for verdict in pairs.judge([(0, 1)])] == ["re-encoded"]
    assert sizes == [128, 300]
    assert [verdict.kind for verdict in pairs.judge([(0, 3)])] == [""]
    assert sizes == [128, 300, 128]


def test_a_pair_that_the_user_called_apart_and_a_picture_that_has_vanished_are_no_copies(
    images: ImageSet, tmp_path: Path
) -> None:
    pairs = Matching(images, np.arange(4), is_apart=lambda a, b: {a, b} == {0, 2})
    (tmp_path / "3.png").unlink()
    assert pairs.judge([(0, 2), (2, 0), (1, 3)]) == [NONE] * 3 == [Verdict("", "")] * 3


def page(number: str = "318.50", line: str = "", same_rows: int = 30) -> Image.Image:
    image = Image.new("RGB", (1100, 1400), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default
    for row in (row for row in range(30) if row not in (12, 13, 20, 21)):
        lengths = np.random.default_rng(row if row < same_rows else 100 + row).integers(3, 12, 9)
        draw.text((80, 60 + 42 * row), " ".join("abcdefghijkl"[:n] for n in lengths), fill="black", font=font(24))
    draw.text((500, 570), number, fill="black", font=font(64))
    draw.text((80, 910), line, fill="black", font=font(40))
    return image


@pytest.mark.parametrize(
    ("other", "kind", "is_at_full_size"),
    [
        ({"number": "874.20"}, "almost", False),
        ({"number": "Draft"}, "almost", False),
        ({"line": "paid on the first of May"}, "almost", True),
        ({"same_rows": 18}, "", False),
    ],
)
def test_pages_that_clearly_say_something_else_are_not_compared_at_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], kind: str, is_at_full_size: bool
) -> None:
    page().save(tmp_path / "a.png")
    page(**other).save(tmp_path / "b.png")
    sizes: list[int] = []
    judge = matching.judge
    monkeypatch.setattr(matching, "judge", lambda a, b: (sizes.append(max(a.shape)), judge(a, b))[1])
    (verdict,) = Matching(open_images(tmp_path), np.arange(2)).judge([(0, 1)])
    assert verdict.kind == kind
    assert (1400 in sizes) == is_at_full_size
    assert (verdict.region is not None) == (kind == "almost")
