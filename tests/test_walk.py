"""What a walk finds beside pictures, and folders that are hard to walk."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from spq.data import walk as module
from spq.data.folder import FolderImages, file_of
from spq.data.open import open_images
from spq.data.rules import Rules
from spq.data.walk import walk
from spq.errors import AbsentError, DataError

LINUX = pytest.mark.skipif(os.uname().sysname != "Linux", reason="other systems allow only shorter paths")


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def test_pipes_and_sockets_are_named_and_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link.jpg").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "sub" / "zero.tif").symlink_to("/dev/zero")
    (tmp_path / "sub" / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.gif")
        images = FolderImages("x", tmp_path)
    assert images.ids == ["a.jpg"]
    names = ("pipe.png", "socket.gif", "sub/link.jpg", "sub/zero.tif")
    lost = ("sub/broken.jpg", "what it links to is missing")
    assert images.unopened == [*((name, "not a regular file") for name in names), lost]
    assert file_of(tmp_path, "pipe.png") is None
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "sub" / "broken.jpg").unlink()
    with pytest.raises(DataError, match=r"no pictures in .*; pipe\.png: not a regular file"):
        FolderImages("x", tmp_path)


def test_links_to_folders_are_named_or_followed_once(tmp_path: Path) -> None:
    root, other = put(tmp_path / "photos", "a/1.jpg", "b/2.jpg"), put(tmp_path / "other", "deep/3.jpg", "4.jpg")
    for link, target in (("c", other), ("a/up", root), ("b/self", root / "b"), ("d", other / "deep"), ("e", other)):
        (root / link).symlink_to(target)
    (other / "back").symlink_to(root)
    plain = FolderImages("x", root)
    assert plain.ids == ["a/1.jpg", "b/2.jpg"]
    assert plain.aside.links == ["a/up", "b/self", "c", "d", "e"]
    followed = FolderImages("x", root, Rules(follow_links=True))
    assert followed.ids == ["a/1.jpg", "b/2.jpg", "c/4.jpg", "c/deep/3.jpg"]
    assert followed.aside.links == []
    assert followed.read(2) == (other / "4.jpg").read_bytes()


def test_a_circle_of_links_alone_ends(tmp_path: Path) -> None:
    for name, target in (("a", "b"), ("b", "a"), ("c", "c"), ("d", ".")):
        (tmp_path / name).symlink_to(tmp_path / target)
    for rules in (Rules(), Rules(follow_links=True)):
        assert walk(str(tmp_path), rules).names == []
    with pytest.raises(AbsentError, match=r"it has links to folders, such as .*; set `follow_links`"):
        FolderImages("x", tmp_path)


def test_a_linked_folder_whose_disk_is_gone_is_absent(tmp_path: Path) -> None:
    root, disk = put(tmp_path / "photos", "1.jpg"), put(tmp_path / "disk", "2.jpg")
    (root / "disk").symlink_to(disk)
    rules = Rules(follow_links=True)
    assert FolderImages("x", root, rules).ids == ["1.jpg", "disk/2.jpg"]
    shutil.rmtree(disk)
    gone = FolderImages("x", root, rules)
    assert (gone.ids, gone.aside.absent) == (["1.jpg"], [("disk", "what it links to is missing")])


def test_pictures_that_are_not_read_are_counted_by_suffix(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "skip/b.jpg")
    for name in ("1.jxl", "x/2.JXL", "x/3.exr", "notes.txt", "film.mp4", ".hidden.jxl", "skip/4.jxl", "5.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    images = FolderImages("x", tmp_path, Rules(exclude=("skip",)))
    assert images.aside.other == {".jxl": 2, ".exr": 1, ".svg": 1}


def test_many_pictures_in_side_folders_are_counted_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.jpg", *(f"@eaDir/{n}.jpg/t.jpg" for n in range(9)))
    assert FolderImages("x", tmp_path).aside.skipped == {"@eaDir": 9}
    monkeypatch.setattr(module, "COUNTED", 8)
    aside = FolderImages("x", tmp_path).aside
    assert aside.more
    assert 0 < aside.skipped["@eaDir"] < 9


def test_an_empty_folder_is_absent_and_one_with_other_files_is_not(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "side/@eaDir/t.jpg")
    for folder in ("empty", "deep/empty"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").touch()
    assert [path for path, _ in FolderImages("x", tmp_path).aside.absent] == ["deep/empty", "empty", "side"]


def test_folders_on_other_disks_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path / "photos", "a/1.jpg", "b/c/2.jpg")
    (root / "shm").symlink_to("/dev")  # a disk of its own on every machine
    assert FolderImages("x", root).aside.mounts == []
    listing = walk(str(root), Rules(follow_links=True, exclude=("/dev", "*.jpg")))
    assert "shm" in listing.aside.mounts


@contextmanager
def nested(root: Path, name: str, depth: int) -> Iterator[None]:
    """Folders in one another, with a picture in each. They are made and removed step by step: a path may be too long."""
    here, made = Path.cwd(), 0
    try:
        os.chdir(root)
        for _ in range(depth):
            Path(name).mkdir()
            os.chdir(name)
            made += 1
            Image.new("RGB", (4, 4)).save("a.png")
        os.chdir(here)
        yield
    finally:
        os.chdir(root)
        for _ in range(made):
            os.chdir(name)
        for _ in range(made):
            Path("a.png").unlink()
            os.chdir("..")
            Path(name).rmdir()
        os.chdir(here)


@LINUX
def test_folders_of_any_depth_are_listed_and_read(tmp_path: Path) -> None:
    with nested(tmp_path, "d", 1100):
        images = open_images(tmp_path)
        assert sorted(map(len, images.ids)) == [2 * depth + 5 for depth in range(1, 1101)]
        deepest = max(images.ids, key=len)
        assert images.image(images.ids.index(deepest)).size == (4, 4)
        assert file_of(tmp_path, deepest) == tmp_path / deepest


@LINUX
def test_a_path_that_is_too_long_for_the_system_is_named(tmp_path: Path) -> None:
    with nested(tmp_path, "n" * 250, 20):  # 5,000 characters; Linux allows 4,096
        images = open_images(tmp_path)
        assert 10 < len(images.ids) < 20
        ((_, reason),) = images.unlisted
        assert reason == "File name too long"


@pytest.mark.parametrize("name", [b"new\nline", b"caf\xe9", b"tab\there", b"back\\slash"])
def test_odd_names_of_folders_are_walked(name: bytes, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(name)
    put(folder, "a.jpg", "@eaDir/a.jpg")
    (folder / "empty").mkdir()
    images = FolderImages("x", tmp_path)
    assert len(images) == 1
    assert images.read(0) == (folder / "a.jpg").read_bytes()
    assert images.aside.absent[0][0] == images.ids[0].replace("a.jpg", "empty")
    images.ids[0].encode()


def test_archives_and_other_collections_are_counted_and_alone_they_name_the_way(tmp_path: Path) -> None:
    for folder, names, hint in (
        ("mixed", ("old.zip", "x/shard-0.tar", "metadata.parquet", "album.7z", "notes.gz"), ""),
        ("packed", ("2019.zip", "2020.RAR"), r"no pictures in .*packed; it has \.rar and \.zip files; unpack them"),
        (
            "shards",
            ("data/train-0.parquet", "a.zip"),
            r"it has \.parquet files, which are collections: give these files",
        ),
    ):
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(b"content")
        if hint:
            with pytest.raises(AbsentError, match=hint):
                FolderImages(folder, tmp_path / folder)
    put(tmp_path / "mixed", "a.jpg")
    assert FolderImages("x", tmp_path / "mixed").aside.other == {".zip": 1, ".tar": 1, ".7z": 1}


def test_a_picture_that_only_a_server_has_is_named_and_not_deleted(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "x/both.jpg")
    for name in (".b.HEIC.icloud", "x/.c.png.icloud", ".report.pdf.icloud", "x/.both.jpg.icloud"):
        (tmp_path / name).touch()
    images = FolderImages("x", tmp_path)
    assert images.ids == ["a.jpg", "x/both.jpg"]
    reason = "it is in iCloud and not on this disk; download it"
    assert images.unopened == [("b.HEIC", reason), ("x/c.png", reason)]


@pytest.mark.parametrize("left", ["desktop.ini", "Thumbs.db", ".DS_Store", "Icon\r", ".picasa.ini"])
def test_a_folder_with_nothing_but_files_of_the_system_is_empty(tmp_path: Path, left: str) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / left).touch()
    assert [path for path, _ in FolderImages("x", tmp_path).aside.absent] == ["disk"]


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    for name, target in (("self", "self"), ("one", "two"), ("two", "one"), ("x.png", "x.png")):
        (tmp_path / name).symlink_to(target)
    assert FolderImages("x", tmp_path).aside.links == ["one", "self", "two"]
    followed = FolderImages("x", tmp_path, Rules(follow_links=True))
    assert [path for path, _ in followed.unopened] == ["one", "self", "two", "x.png"]
