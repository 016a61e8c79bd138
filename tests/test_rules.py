"""What of a collection is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spq.data.folder import FolderImages, file_of
from spq.data.open import open_images
from spq.data.rules import Rules
from spq.data.source import Source

SIDE = (
    "@eaDir/p.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/a.jpg", "#Recycle/a.jpg", "#snapshot/d/a.jpg", "~snapshot/a.jpg",
    "@Recycle/a.jpg", "@Recently-Snapshot/a.jpg", ".@__thumb/a.jpg", "$RECYCLE.BIN/S-1/a.jpg", "$Recycle.Bin/a.jpg",
    "System Volume Information/a.jpg", "lost+found/a.jpg", "__MACOSX/a.jpg", ".AppleDouble/a.jpg", "._a.jpg",
    ".Trash-1000/files/a.jpg", ".Trashes/a.jpg", ".thumbnails/normal/a.png", "Thumbs.db/a.jpg", ".hidden.jpg",
    "Thumbs/a.jpg", "trash/2024/a.jpg",
    "My Previews.lrdata/0/a.jpg", "Photos Library.photoslibrary/resources/derivatives/a.jpg",
    "old.aplibrary/Thumbnails/a.jpg", "appdata_oc1x/preview/a.jpg",
)  # fmt: skip
OWN = (
    "2024/@ea/a.jpg",
    "recycle/a.jpg",
    "Photos Library.photoslibrary/originals/0/a.jpg",
    "resources/a.jpg",
    "Trash can/a.jpg",
    "Thumbs.jpg",
    "@eaDir.jpg",
)


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)


@pytest.mark.parametrize("path", SIDE)
def test_what_systems_and_other_programs_keep_beside_pictures_is_passed_over(path: str, tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", path, f"deep/er/{path}")
    images = FolderImages("x", tmp_path)
    assert images.ids == ["a.jpg"]
    assert not Rules().takes(path)
    assert file_of(tmp_path, path) is None
    is_silent = "._" in path or "napshot" in path  # files of macOS are no pictures; snapshots may mount a disk
    assert images.aside.skipped.total() == (0 if is_silent else 2)


@pytest.mark.parametrize("path", OWN)
def test_folders_with_names_like_these_are_taken(path: str, tmp_path: Path) -> None:
    put(tmp_path, path)
    assert FolderImages("x", tmp_path).ids == [path]
    assert Rules().takes(path)


def test_a_folder_that_is_given_is_listed_whatever_its_name(tmp_path: Path) -> None:
    put(tmp_path / "#recycle", "a.jpg", "b/c.jpg")
    assert FolderImages("x", tmp_path / "#recycle").ids == ["a.jpg", "b/c.jpg"]
    put(tmp_path / "P.photoslibrary", "originals/1.jpg", "resources/1.jpg")
    assert FolderImages("x", tmp_path / "P.photoslibrary").ids == ["originals/1.jpg"]
    assert file_of(tmp_path / "P.photoslibrary", "resources/1.jpg") is None


@pytest.mark.parametrize(
    ("include", "taken"),
    [
        (("@eaDir",), {"a.jpg", "b/c.png", "b/@eaDir/t.jpg"}),
        (("b/@ea*",), {"a.jpg", "b/c.png", "b/@eaDir/t.jpg"}),
        (("*.png",), {"b/c.png"}),
        (("*.png", "@eaDir"), {"b/c.png"}),
        (("b",), {"b/c.png"}),
        (("b", "@eaDir"), {"b/c.png", "b/@eaDir/t.jpg"}),
        (("b/", ".x.jpg"), {"b/c.png"}),
        (("*",), {"a.jpg", "b/c.png"}),
        ((".x.jpg",), {"a.jpg", ".x.jpg", "b/c.png"}),
        (("pre/b",), {"b/c.png"}),
        (("pre",), {"a.jpg", "b/c.png"}),
        (("other",), set()),
    ],
)
def test_include_limits_a_collection_or_takes_a_side_folder_in(
    include: tuple[str, ...], taken: set[str], tmp_path: Path
) -> None:
    names = ("a.jpg", ".x.jpg", "b/c.png", "b/@eaDir/t.jpg")
    put(tmp_path, *names)
    rules = Rules(include=include, prefix="pre")
    assert set(FolderImages("x", tmp_path, rules).ids) == taken
    assert {name for name in names if file_of(tmp_path, name, rules)} == taken


def test_exclude_wins_over_include(tmp_path: Path) -> None:
    put(tmp_path, "b/c.png", "b/d.jpg", "b/@eaDir/t.jpg")
    rules = Rules(("d.*", "@eaDir"), ("b", "@eaDir"))
    assert FolderImages("x", tmp_path, rules).ids == ["b/c.png"]


def test_our_own_sites_caches_indexes_and_models_are_passed_over(tmp_path: Path) -> None:
    mine = ("a.jpg", "site/mine.jpg", "content-1/b.jpg", "config/c.jpg")
    own = (
        "site/thumbs/ab/1.jpg",
        "site/content-12/2.png",
        "cache/12/3.jpg",
        "x.index/4.jpg",
        "x.spq/5.jpg",
        "cache/6.jpg",
    )
    put(tmp_path, *mine, *own)
    for mark in (
        "site/spq-site.json", "cache/CACHEDIR.TAG", "x.index/manifest.json", "x.index/items.sqlite",
        "x.spq/config.json", "x.spq/model.safetensors", "config/config.json",
    ):  # fmt: skip
        (tmp_path / mark).touch()
    images = FolderImages("x", tmp_path)
    assert set(images.ids) == set(mine)
    assert images.aside.skipped == {"exported sites": 2, "cache": 2, "x.index": 1, "x.spq": 1}
    assert {name for name in (*mine, *own) if file_of(tmp_path, name)} == set(mine)
    assert FolderImages("x", tmp_path / "cache").ids == ["12/3.jpg", "6.jpg"]  # who names it gets it
    assert file_of(tmp_path / "cache", "6.jpg") == tmp_path / "cache" / "6.jpg"


NAMES = st.sampled_from(["a", "b", "@eaDir", ".c", "#recycle", "x.lrdata", "site", "thumbs"])
PATTERNS = st.lists(
    st.sampled_from(["a", "b/*", "*/b", "@eaDir", ".*", "*.jpg", "*.png", "a/b/", "site", "?"]), max_size=3
)


@given(
    paths=st.lists(st.tuples(st.lists(NAMES, max_size=3), st.sampled_from(["1.jpg", ".2.jpg", "3.png"])), max_size=8),
    exclude=PATTERNS,
    include=PATTERNS,
)
def test_a_path_alone_tells_what_a_walk_takes(
    paths: list[tuple[list[str], str]], exclude: list[str], include: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("walk")
    names = {"/".join([*folders, name]) for folders, name in paths}
    put(root, "keep.jpg", *names)
    rules = Rules(tuple(exclude), tuple(include), prefix="pre")
    listed = set(FolderImages("x", root, rules).ids)
    assert listed == {name for name in {*names, "keep.jpg"} if rules.takes(name)}
    assert listed == {name for name in {*names, "keep.jpg"} if file_of(root, name, rules)}


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("RAW", {"raw/a.jpg", "b/raw/c.jpg"}),
        ("/raw", {"raw/a.jpg"}),
        ("./raw/", {"raw/a.jpg"}),
        ("b/**", {"b/raw/c.jpg", "b/d.JPG"}),
        ("**/raw", {"raw/a.jpg", "b/raw/c.jpg"}),
        ("*/raw", {"b/raw/c.jpg"}),
        ("My Photos/raw", {"raw/a.jpg"}),
        ("my photos/b/*.jpg", {"b/raw/c.jpg", "b/d.JPG"}),
        ("{root}/raw", {"raw/a.jpg"}),
        ("My Photos", set()),
    ],
)
def test_a_pattern_may_begin_with_the_name_or_path_of_the_collection(
    pattern: str, left_out: set[str], tmp_path: Path
) -> None:
    names = {"raw/a.jpg", "b/raw/c.jpg", "b/d.JPG", "e.png"}
    put(tmp_path / "My Photos", *names)
    rules = Rules((pattern.format(root=(tmp_path / "My Photos").as_posix()),))
    assert names - set(FolderImages("x", tmp_path / "My Photos", rules).ids) == left_out
    assert {name for name in names if file_of(tmp_path / "My Photos", name, rules) is None} == left_out


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("b/photos", ["1.jpg", "raw/2.jpg"]),
        ("B/photos/raw", ["1.jpg", "raw/2.jpg", "photos/1.jpg"]),
        ("a/photos/raw", ["1.jpg", "photos/1.jpg", "photos/raw/2.jpg"]),
        ("photos/raw", ["1.jpg", "photos/1.jpg"]),
    ],
)
def test_a_collection_that_was_added_is_named_by_the_end_of_its_path(
    pattern: str, taken: list[str], tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        put(tmp_path / folder / "photos", "1.jpg", "raw/2.jpg")
    names = tuple(str(tmp_path / folder / "photos") for folder in ("a", "b"))
    images = open_images(Source(names, (pattern,), prefixes=("", "photos")))
    assert (images.ids, images.remarks) == (taken, [])
