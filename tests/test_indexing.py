"""What `spq index` and `spq serve` share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from spq.cli.indexing import Patterns, check_same_source, command, index_beside, is_index, open_collection, some_of
from spq.common.files import user_cache
from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import AbsentError, ConfigError


def test_an_index_is_kept_beside_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my photos").mkdir()
    (tmp_path / "a.tar").touch()
    expected = tmp_path / "my photos.index"
    monkeypatch.chdir(tmp_path / "my photos")
    for name in (str(tmp_path / "my photos"), f"{tmp_path}/my photos/", ".", "../my photos"):
        assert index_beside([name]) == expected
    assert index_beside([str(tmp_path / "a.tar")]) == tmp_path / "a.index"


def test_an_index_of_what_has_no_place_beside_it_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x/photos", "y/photos"):
        (tmp_path / name).mkdir(parents=True)
    names = [str(tmp_path / "x" / "photos"), str(tmp_path / "y" / "photos")]
    found = [index_beside(given) for given in (names, ["sample:test"], ["sample:train"])]
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write everywhere
    found += [index_beside([name]) for name in names]
    assert {path.parent for path in found} == {user_cache() / "indexes"}
    assert len(set(found)) == 5
    assert found[3] == index_beside([f"{names[0]}/"])


def test_an_index_beside_pictures_in_a_place_that_is_read_only_is_used(
    index_folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_folder.rename(photos.with_name("photos.index"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert index_beside([str(photos)]) == photos.with_name("photos.index")


def test_an_index_of_other_pictures_is_refused(index_folder: Path, photos: Path) -> None:
    assert check_same_source(index_folder, [f"{photos}/"]) == Source((str(photos),))
    for names in ([str(photos / "bag")], [str(photos), "sample:test"], ["sample:test"]):
        with pytest.raises(ConfigError, match=r"holds the pictures of .*; give another --index"):
            check_same_source(index_folder, names)


def test_patterns_of_the_command_replace_those_of_the_index(photos: Path, tmp_path: Path) -> None:
    everything = open_collection([str(photos)], Patterns(), tmp_path / "none")
    assert len(everything) == 60
    some = open_collection([str(photos)], Patterns(["bag"]), tmp_path / "none")
    assert 0 < len(some) < 60
    assert not is_index(tmp_path / "none")


def test_some_pictures_are_evenly_spaced_and_of_the_same_source() -> None:
    images = open_images("sample:test")
    some = some_of(images, 7)
    assert some.ids == [images.ids[position * len(images) // 7] for position in range(7)]
    assert some.source == images.source
    assert some_of(images, 1000) is images


def test_a_command_is_quoted() -> None:
    assert (
        command("spq", "index", "a b", patterns=Patterns(["*.gif", ""]))
        == "spq index 'a b' --exclude '*.gif' --exclude ''"
    )


def test_patterns_that_match_nothing_are_named_when_an_index_gets_them(index_folder: Path, photos: Path) -> None:
    for patterns in (Patterns(["bag", "screens"]), Patterns(None, ["screens", "*"])):
        images = open_collection([str(photos)], patterns, index_folder)
        assert [name for name, _ in images.remarks] == ["screens"]


def test_an_index_whose_pictures_are_gone_says_how_to_remove_them(index_folder: Path, photos: Path) -> None:
    shutil.rmtree(photos)
    for make in (lambda: None, photos.mkdir):
        make()
        with pytest.raises(AbsentError, match=r"is as it was: to remove all of its pictures, delete it"):
            open_collection([], Patterns(), index_folder)
