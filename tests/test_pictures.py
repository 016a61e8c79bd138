"""Originals, found by the path in the index."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.data.folder import FolderImages, file_of
from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import ImageError
from spq.index import originals as module
from spq.index.store import Item
from spq.web.server.pictures import Pictures

sys.path.insert(0, str(Path(__file__).parent / "faults"))
import tables


def item(path: str) -> Item:
    return Item(path, 1, 1, b"h", id=1)


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def test_files_of_several_collections_are_found_by_the_name_of_the_collection(photos: Path) -> None:
    images = open_images([photos / "bag", photos / "shirt", "sample:test"])
    found = Pictures(images.source)
    for position in (0, len(images.opened[0]), len(images) - 1):
        data, _ = found.original(item(images.ids[position]))
        assert data == images.read(position) or position == len(images) - 1
    with pytest.raises(ImageError, match="no longer in the collection"):
        found.open(item("bag/../shirt/000.png"))


def test_a_file_of_a_folder_is_found_without_listing_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = FolderImages("photos", photos).ids
    monkeypatch.setattr(module, "open_images", lambda _: pytest.fail("listed"))
    found = Pictures(Source((str(photos),)))
    for name in names:
        data, kind = found.original(item(name))
        assert data == (photos / name).read_bytes()
        assert kind == {".png": "image/png", ".jpg": "image/jpeg"}[Path(name).suffix]
    with found.image(item(names[0])) as image:
        assert image.size == (56, 56)


def test_an_id_finds_what_the_list_has_and_nothing_else(tmp_path: Path) -> None:
    root, outside = tmp_path / "photos", tmp_path / "outside"
    for folder in (root / "sub", root / ".hidden", outside):
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "a.png")
    (root / ".b.png").write_bytes((outside / "a.png").read_bytes())
    (root / "notes.txt").write_text("private")
    (root / "link").symlink_to(outside)
    (root / "linked.png").symlink_to(outside / "a.png")
    listed = FolderImages("photos", root).ids
    assert listed == ["linked.png", "sub/a.png"]
    assert [file_of(root, name) for name in listed] == [root / name for name in listed]
    for id_ in (
        "../outside/a.png", "sub/../../outside/a.png", str(outside / "a.png"), "/etc/passwd", "link/a.png", ".b.png",
        ".hidden/a.png", "notes.txt", "sub", "", "sub//a.png", "./sub/a.png", "gone.png", "sub\\a.png", "a\0.png",
    ):  # fmt: skip
        assert file_of(root, id_) is None, id_


def test_an_index_that_names_files_outside_of_its_collection_shows_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for path in ("photos/a.png", "secret.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / path)
    found = Pictures(Source((str(tmp_path / "photos"),)))
    for path in ("../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(ImageError, match="no longer in the collection"):
            found.original(item(path))


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="file names are bytes on Linux alone")
def test_a_name_that_is_not_utf_8_is_found_in_the_list(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    (root / os.fsdecode(b"caf\xe9.png")).write_bytes(buffer.getvalue())
    (name,) = open_images(root).ids
    assert Pictures(Source((str(root),))).original(item(name))[0] == buffer.getvalue()


def test_pixels_of_a_named_set_come_as_png() -> None:
    data, kind = Pictures(Source(("sample:test",))).original(item(open_images("sample:test").ids[3]))
    assert kind == "image/png"
    assert np.array_equal(pixels(data), np.asarray(open_images("sample:test").image(3)))


@pytest.mark.parametrize(("name", "kind"), [("a.tif", "image/png"), ("a.ppm", "image/png"), ("a.webp", "image/webp")])
def test_formats_that_browsers_do_not_show_come_as_png(tmp_path: Path, name: str, kind: str) -> None:
    Image.new("RGB", (5, 4), "red").save(tmp_path / name, lossless=True)
    data, told = Pictures(Source((str(tmp_path),))).original(item(name))
    assert told == kind
    assert pixels(data).tolist() == [[[255, 0, 0]] * 5] * 4
    assert (data == (tmp_path / name).read_bytes()) == (kind == "image/webp")


def test_a_collection_that_is_not_there_is_told_without_its_place(tmp_path: Path) -> None:
    found = Pictures(Source((str(tmp_path / "unmounted"),)))
    for _ in range(2):
        with pytest.raises(ImageError) as caught:
            found.open(item("a.png"))
        assert str(caught.value) == "the collection cannot be read; see the server log"


def test_a_damaged_tar_is_told_without_its_place_and_logged_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(tables.tar({"0.jpg": tables.jpeg(7), "1.jpg": tables.jpeg(90)}))
    source = open_images([tmp_path / "a.tar", tmp_path / "b.tar"]).source
    (tmp_path / "b.tar").write_bytes(bytes(100))
    found = Pictures(source)
    assert found.open(item("a.tar/0"))[0] == tables.jpeg(7)
    with pytest.raises(ImageError, match=r"^b\.tar/0 cannot be reached; see the server log$"):
        found.open(item("b.tar/0"))
    with pytest.raises(ImageError, match=r"^a\.tar/9 is no longer in the collection; update the index$"):
        found.open(item("a.tar/9"))
    assert "b.tar: " in caplog.text
    assert str(tmp_path) in caplog.text


def test_a_collection_is_not_listed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    monkeypatch.setattr(module, "open_images", lambda source: (listed.append(1), open_images(source))[1])
    found = Pictures(Source(("sample:test",)))
    for _ in range(3):
        with pytest.raises(ImageError, match="no longer in the collection"):
            found.open(item("nothing"))
    assert len(listed) == 1


def test_a_pipe_in_the_place_of_a_picture_is_not_waited_for(photos: Path) -> None:
    images = open_images(photos)
    found = Pictures(images.source)
    path = photos / images.ids[0]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ImageError):
        found.original(item(images.ids[0]))
