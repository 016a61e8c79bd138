"""Thumbnails on disk: each is made once, and the least recently used ones are deleted."""

from __future__ import annotations

import io
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faults.web_site import drill_cache
from spq.data.source import Source
from spq.errors import ImageError
from spq.index.originals import Decode
from spq.index.store import Item
from spq.model.feature_store import hash_of
from spq.web.server.pictures import Pictures
from spq.web.server.thumbnail_cache import ThumbnailCache
from spq.web.thumbnail import thumbnail_name


class Counted(Pictures):
    """Counts how often a picture is decoded."""

    def __init__(self, source: str) -> None:
        super().__init__(Source((source,)))
        self.decoded = 0

    def open(self, item: Item) -> tuple[bytes, Decode]:
        self.decoded += 1
        return super().open(item)


@pytest.fixture
def pictures(tmp_path: Path) -> Counted:
    (tmp_path / "photos").mkdir()
    for number in range(6):
        (tmp_path / "photos" / f"{number}.png").write_bytes(bytes_of(number))
    return Counted(str(tmp_path / "photos"))


def picture(number: int) -> Image.Image:
    """Always the same one of a number."""
    noise = np.random.default_rng(number).integers(0, 256, (200, 300, 3), np.uint8)
    return Image.fromarray(noise)


def bytes_of(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


def item(number: int, content: bytes = b"") -> Item:
    return Item(f"{number}.png", 1, 1, content or hash_of(bytes_of(number)), 300, 200, id=number)


def test_a_thumbnail_is_upright_small_and_made_once(pictures: Counted, tmp_path: Path) -> None:
    thumbnails = ThumbnailCache(tmp_path / "cache", 10**6, pictures)
    data = thumbnails.get(item(0), 64)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (64, 43))
    assert thumbnails.get(item(0), 64) == data
    assert ThumbnailCache(tmp_path / "cache", 10**6, pictures).get(item(0), 64) == data  # another run of the server
    assert (pictures.decoded, thumbnails.made, thumbnails.found) == (1, 1, 1)
    assert thumbnails.get(item(0), 128) != data
    assert pictures.decoded == 2


def test_many_that_want_the_same_one_have_it_made_once(pictures: Counted, tmp_path: Path) -> None:
    thumbnails, barrier = ThumbnailCache(tmp_path / "cache", 10**6, pictures), threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: (barrier.wait(), thumbnails.get(item(0), 64))[1], range(8)))
    assert len(set(found)) == 1
    assert pictures.decoded == 1


def test_a_thumbnail_of_other_bytes_than_were_indexed_is_not_kept(pictures: Counted, tmp_path: Path) -> None:
    file = tmp_path / "photos" / "0.png"
    thumbnails = ThumbnailCache(tmp_path / "cache", 10**6, pictures)
    file.write_bytes(bytes_of(1))  # changed since: it shows what there is now
    changed = thumbnails.get(item(0), 64)
    assert pixels(changed) == pixels(thumbnails.get(item(1), 64))
    file.write_bytes(bytes_of(0))
    assert thumbnails.get(item(0), 64) != changed


def test_the_least_recently_used_ones_make_room(pictures: Counted, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    size = len(ThumbnailCache(tmp_path / "other", 10**6, pictures).get(item(0), 128))
    thumbnails = ThumbnailCache(cache, 4 * size + size // 2, pictures)
    for number in range(4):
        thumbnails.get(item(number), 128)
    for age, number in enumerate([2, 0, 3, 1]):  # as if they had been used at these times
        (path,) = cache.rglob(f"{thumbnail_name(item(number), 128)}.jpg")
        os.utime(path, (age, age))
    thumbnails.get(item(2), 128)  # and this one just now
    thumbnails.get(item(4), 128)
    left = {path.name for path in cache.rglob("*.jpg")}
    assert left == {f"{thumbnail_name(item(number), 128)}.jpg" for number in (1, 2, 4)}
    assert sum(path.stat().st_size for path in cache.rglob("*.jpg")) <= 4 * size


def test_processes_that_share_a_cache_keep_its_limit_together(pictures: Counted, tmp_path: Path) -> None:
    cache, sizes = tmp_path / "cache", (64, 128)
    alone = ThumbnailCache(tmp_path / "other", 10**6, pictures)
    limit = sum(len(alone.get(item(number), size)) for number in range(6) for size in sizes) * 6 // 10
    several = [ThumbnailCache(cache, limit, pictures) for _ in range(3)]  # each writes a third
    for n in range(12):
        several[n % 3].get(item(n % 6), sizes[n // 6])
    assert sum(path.stat().st_size for path in cache.rglob("*.jpg")) <= limit


def test_damage_is_noticed_and_links_are_not_followed(photo_index: Path, tmp_path: Path) -> None:
    counts = drill_cache(photo_index, tmp_path, 60, np.random.default_rng(0))
    assert (counts["wrong"], counts["touched outside"]) == (0, 0)
    assert counts["made again"] > 30


def test_making_room_deletes_nothing_behind_a_link(pictures: Counted, tmp_path: Path) -> None:
    other, cache = tmp_path / "mine", tmp_path / "cache"
    (other / "ab").mkdir(parents=True)
    (other / "ab" / "holiday.jpg").write_bytes(b"x" * 10**6)
    thumbnails = ThumbnailCache(cache, 10_000, pictures)
    thumbnails.get(item(0), 64)
    for link, target in ((cache / "zz", other / "ab"), (cache / "zy", other)):
        link.symlink_to(target)
    for number in range(1, 6):
        thumbnails.get(item(number), 128)
    assert (other / "ab" / "holiday.jpg").exists()
    assert len(list(cache.glob("??/*.jpg"))) < 6 + 1


def test_a_link_instead_of_a_subfolder_is_not_written_through(pictures: Counted, tmp_path: Path) -> None:
    name = thumbnail_name(item(0), 64)
    (tmp_path / "cache").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "cache" / name[:2]).symlink_to(tmp_path / "mine")
    thumbnails = ThumbnailCache(tmp_path / "cache", 10**6, pictures)
    assert thumbnails.get(item(0), 64) == thumbnails.get(item(0), 64)
    assert not list((tmp_path / "mine").iterdir())
    thumbnails.get(item(1), 64)
    thumbnails.get(item(1), 64)
    assert thumbnails.found == 1  # the other places are still used


def test_a_cache_that_cannot_be_written_is_done_without(
    pictures: Counted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    thumbnails = ThumbnailCache(tmp_path / "file", 10**6, pictures)
    with caplog.at_level(logging.WARNING):
        assert thumbnails.get(item(0), 64) == thumbnails.get(item(0), 64)
    assert pictures.decoded == 2
    assert caplog.text.count("thumbnails are made again for each request") == 1


def test_a_limit_of_nothing_keeps_nothing(pictures: Counted, tmp_path: Path) -> None:
    thumbnails = ThumbnailCache(tmp_path / "cache", 0, pictures)
    assert thumbnails.get(item(0), 64)
    assert not (tmp_path / "cache").exists()


def test_only_the_user_may_look_into_the_cache(pictures: Counted, tmp_path: Path) -> None:
    ThumbnailCache(tmp_path / "cache", 10**6, pictures).get(item(0), 64)
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_what_cannot_be_read_is_not_kept(pictures: Counted, tmp_path: Path) -> None:
    (tmp_path / "photos" / "9.png").write_bytes(b"broken")
    thumbnails = ThumbnailCache(tmp_path / "cache", 10**6, pictures)
    with pytest.raises(ImageError, match=r"cannot read 9\.png"):
        thumbnails.get(item(9), 64)
    assert not list((tmp_path / "cache").rglob("*"))
