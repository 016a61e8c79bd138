"""Names, bytes and files of thumbnails, for the server and the site."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.index.store import Item
from spq.web.thumbnail import make_thumbnail, read_sealed, sealed, thumbnail_name, write_thumbnail


def item(path: str, content: bytes = b"", id_: int = 1) -> Item:
    return Item(path, -1, -1, content, id=id_)


def test_a_name_depends_on_the_bytes_of_the_picture_and_the_size() -> None:
    name = thumbnail_name(item("a.png", b"a"), 64)
    assert thumbnail_name(item("b.png", b"a", 2), 64) == name  # the same bytes under another name
    assert thumbnail_name(item("a.png", b"b"), 64) != name
    assert thumbnail_name(item("a.png", b"a"), 128) != name
    assert thumbnail_name(item("a.png"), 64) != thumbnail_name(item("b.png", id_=2), 64)  # without a hash
    assert len(name) == 16
    assert int(name, 16) >= 0


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (64, 43)), ((200, 300), (43, 64)), ((20, 10), (20, 10))])
def test_a_thumbnail_keeps_the_shape_and_never_grows(size: tuple[int, int], expected: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    with Image.open(io.BytesIO(make_thumbnail(Image.fromarray(noise), 64))) as made:
        assert (made.format, made.size) == ("JPEG", expected)


def test_many_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    path, data = tmp_path / "ab" / "ab.jpg", b"x" * 100_000
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: write_thumbnail(path, data), range(40)))
    assert path.read_bytes() == data
    assert [file.name for file in path.parent.iterdir()] == ["ab.jpg"]


def test_a_folder_that_another_thread_makes_meanwhile_is_not_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "ab" / "other.jpg"

    def look_then_lose_time(path: Path) -> bool:
        found = path.is_dir()
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b"theirs")
        return found

    monkeypatch.setattr("spq.web.thumbnail._is_folder", look_then_lose_time)
    write_thumbnail(tmp_path / "ab" / "ours.jpg", b"ours", clear=True)
    assert other.read_bytes() == b"theirs"
    assert (tmp_path / "ab" / "ours.jpg").read_bytes() == b"ours"


def test_a_sealed_thumbnail_is_a_jpeg_and_is_read_only_if_it_is_whole_and_in_its_place(tmp_path: Path) -> None:
    plain = make_thumbnail(Image.new("RGB", (64, 64), "teal"), 64)
    data, path = sealed(plain, "ab12"), tmp_path / "ab12.jpg"
    with Image.open(io.BytesIO(data)) as kept, Image.open(io.BytesIO(plain)) as made:
        assert kept.tobytes() == made.tobytes()
    path.write_bytes(data)
    assert read_sealed(path, "ab12") == data
    assert read_sealed(path, "ab13") is None  # another picture's
    for damaged in (plain, data[:-1], data[:10], b"", data + b"x", data.replace(b"JFIF", b"JFIG")):
        path.write_bytes(damaged)
        assert read_sealed(path, "ab12") is None
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        assert read_sealed(path, "ab12") is None, at


def test_links_pipes_and_folders_are_no_thumbnails_and_a_site_replaces_them(tmp_path: Path) -> None:
    data, outside = sealed(make_thumbnail(Image.new("RGB", (64, 64)), 64), "ab12"), tmp_path / "outside"
    outside.mkdir()
    (outside / "ab12.jpg").write_bytes(data)
    path = tmp_path / "t" / "ab" / "ab12.jpg"
    path.parent.mkdir(parents=True)
    for make in (
        lambda: path.symlink_to(outside / "ab12.jpg"),
        lambda: os.mkfifo(path),
        lambda: (path / "x").mkdir(parents=True),
        lambda: (path.parent.rmdir(), path.parent.symlink_to(outside)),
        lambda: (path.parent.rmdir(), path.parent.write_bytes(b"x")),
    ):
        make()
        assert read_sealed(path, "ab12") is None
        write_thumbnail(path, data, clear=True)
        assert read_sealed(path, "ab12") == data
        path.unlink()
    assert (outside / "ab12.jpg").read_bytes() == data


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "ab" / "ab.jpg").mkdir(parents=True)
    with pytest.raises(OSError, match=r"ab\.jpg"):
        write_thumbnail(tmp_path / "ab" / "ab.jpg", b"x")
    assert [file.name for file in (tmp_path / "ab").iterdir()] == ["ab.jpg"]
