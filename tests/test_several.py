"""Several collections as one, and patterns that leave pictures out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from spq.data.open import open_images
from spq.data.several import instead_of, prefixes, with_more
from spq.data.source import Source
from spq.errors import AbsentError, DataError
from spq.web.server.pictures import Pictures


def test_several_collections_are_one(photos: Path) -> None:
    bags, shirts = photos / "bag", photos / "shirt"
    images = open_images([bags, str(shirts), "sample:test"])
    parts = [open_images(bags), open_images(shirts), open_images("sample:test")]
    names = ("bag", "shirt", "sample:test")
    assert images.ids == [f"{name}/{id_}" for name, part in zip(names, parts, strict=True) for id_ in part.ids]
    assert images.source == Source((str(bags), str(shirts), "sample:test"))
    last_bag, first_shirt = len(parts[0]) - 1, len(parts[0])
    for position, part, inner in ((last_bag, parts[0], last_bag), (first_shirt, parts[1], 0)):
        assert images.read(position) == part.read(inner)
        assert images.stat(position) == part.stat(inner)
        assert images.path(position) == part.path(inner)
    assert images.image(len(images) - 1).tobytes() == parts[2].image(len(parts[2]) - 1).tobytes()
    assert open_images(images.source).ids == images.ids


def test_class_names_are_kept_and_a_collection_without_labels_has_none(photos: Path) -> None:
    copy = photos.parent / "more"
    (copy / "bag").mkdir(parents=True)
    (copy / "new").mkdir()
    for name in ("bag", "new"):
        os.link(next((photos / "bag").iterdir()), copy / name / "one.png")
    images = open_images([photos, copy])
    assert images.labels is not None
    assert [images.class_names[n] for n in images.labels[-2:]] == ["bag", "new"]
    images = open_images([photos / "bag", copy])  # the pictures of a class folder have no label
    assert images.labels.tolist() == [-1] * (len(images) - 2) + [0, 1]


def test_facts_of_one_collection_are_empty_for_the_others(photos: Path) -> None:
    (photos / "bag" / "metadata.csv").write_text(
        "file_name,shop\n" + "".join(f"{p.name},north\n" for p in (photos / "bag").glob("*g"))
    )
    images = open_images([photos / "bag", photos / "shirt"])
    count = len(open_images(photos / "bag"))
    assert images.metadata["shop"] == ["north"] * count + [""] * (len(images) - count)


def test_a_folder_that_is_given_twice_or_is_inside_another_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="given twice"):
        open_images([photos, f"{photos}/"])
    with pytest.raises(DataError, match=r"bag is inside .*; give .* alone"):
        open_images([photos / "bag", photos])
    with pytest.raises(DataError, match="no collection given"):
        open_images([])


def test_folders_of_the_same_name_keep_more_of_their_path(tmp_path: Path) -> None:
    for parent in ("2023", "2024"):
        (tmp_path / parent / "photos").mkdir(parents=True)
    names = [str(tmp_path / parent / "photos") for parent in ("2023", "2024")]
    assert prefixes(names) == ["2023/photos", "2024/photos"]
    assert prefixes([str(tmp_path / "2023" / ".." / "2024"), "sample:test"]) == ["2024", "sample:test"]


def test_excluded_pictures_are_left_out_and_the_patterns_remembered(photos: Path) -> None:
    whole = open_images(photos)
    images = open_images(photos, exclude=["bag", "*.png", ""])
    expected = [i for i in whole.ids if not i.startswith("bag/") and not i.endswith(".png")]
    assert 0 < len(expected) < len(whole)
    assert images.ids == expected
    assert images.source == Source((str(photos),), ("bag", "*.png"))
    assert open_images(images.source).ids == expected
    assert images.read(0) == (photos / expected[0]).read_bytes()
    with pytest.raises(DataError, match="leaves no picture"):
        open_images(photos, exclude=["*"])


def test_what_cannot_be_opened_is_not_reported_if_it_is_excluded(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spq.data.folder.register_heif", lambda: False)
    (photos / "bag" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert [path for path, _ in open_images([photos / "bag", photos / "shirt"]).unopened] == ["bag/phone.heic"]
    assert open_images(photos, exclude=["*.heic"]).unopened == []


def test_include_takes_some_pictures_of_any_kind_of_collection(photos: Path) -> None:
    images = open_images([photos, "sample:test"], include=["bag", "sample:test/1*"])
    whole = open_images([photos, "sample:test"]).ids
    prefix = next(i for i in whole if not i.startswith("photos/")).partition("/")[0]
    assert prefix == "sample:test"
    assert images.ids == [i for i in whole if i.startswith(("photos/bag/", "sample:test/1"))]
    assert open_images(images.source).ids == images.ids


def test_one_of_several_remembered_collections_may_be_missing_and_all_may_not(photos: Path, tmp_path: Path) -> None:
    source = open_images([photos / "bag", photos / "shirt"]).source
    shutil.move(photos / "bag", tmp_path / "away")
    images = open_images(source)
    assert set(images.ids) == {f"shirt/{path.name}" for path in (photos / "shirt").iterdir()}
    assert images.aside.absent == [("bag", f"no such folder or file: {photos / 'bag'}")]
    with pytest.raises(DataError, match="no such folder or file"):  # a name that a person has typed
        open_images(list(source.names))
    with pytest.raises(DataError, match="no such folder or file"):
        open_images(source, known=[str(photos / "shirt")])
    shutil.move(photos / "shirt", tmp_path / "too")
    with pytest.raises(AbsentError, match="none of the 2 collections is there"):
        open_images(source)


def test_a_remembered_folder_that_cannot_be_listed_is_unlisted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, honest = open_images([photos / "bag", photos / "shirt"]).source, os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(path).name == "bag":
            raise OSError(116, "Stale file handle", str(path))
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert open_images(source).unlisted == [("bag", f"cannot list {photos / 'bag'}: Stale file handle")]


def test_more_collections_get_prefixes_of_their_own() -> None:
    one = Source(("/data/photos",))
    two = with_more(one, ["/data/photos/", "/mnt/bag", "/mnt/bag"], {"a.jpg", "bag"})
    assert (two.names, two.prefixes) == (("/data/photos", "/mnt/bag"), ("", "mnt/bag"))
    three = with_more(two, ["/usb/mnt/bag", "/bag"], {"a.jpg", "bag", "mnt"})
    assert three.prefixes == ("", "mnt/bag", "usb/mnt/bag", "bag-2")
    assert with_more(Source(("/a/x", "/b/y")), ["/c/x"], {"x", "y"}).prefixes == ("x", "y", "c/x")
    assert with_more(one, ["/data/photos"], set()) is one


def test_other_collections_keep_the_prefixes_that_are_known() -> None:
    two = Source(("/a/x", "/b/y"), prefixes=("", "y"))
    assert instead_of(two, ["/b/y"]) == Source(("/b/y",), prefixes=("y",))
    assert instead_of(two, ["/a/x"]) == Source(("/a/x",))
    assert instead_of(two, ["/a/x", "/moved/y"]).prefixes == ("", "y")
    assert instead_of(two, ["/c/1", "/c/2", "/c/3"]) == Source(("/c/1", "/c/2", "/c/3"))
    assert instead_of(Source(("/a/x",)), ["/moved/x"]) == Source(("/moved/x",))


def test_two_collections_with_the_same_path_show_one_picture_and_say_so(photos: Path, tmp_path: Path) -> None:
    more = shutil.copytree(photos / "bag", tmp_path / "more")
    shutil.copytree(more, photos / "more")  # a folder that got the name of a prefix
    images = open_images(Source((str(photos), str(more)), prefixes=("", "more")))
    assert len(images) == len(set(images.ids)) == 60 + len(list(more.iterdir()))
    (place, _), *rest = images.unopened
    assert len(rest) == len(list(more.iterdir())) - 1
    position = images.ids.index(place)
    assert images.path(position) == more / place.removeprefix("more/")
    found = Pictures(images.source)._file(place)
    assert found == images.path(position)


@pytest.mark.parametrize("content", [b"x", b"PAR1 damaged"])
def test_a_known_collection_that_cannot_be_opened_stops_no_other(content: bytes, photos: Path) -> None:
    source = open_images([photos / "bag", photos / "shirt"]).source
    shutil.rmtree(photos / "bag")
    (photos / "bag").write_bytes(content)
    images = open_images(source)
    assert {id_.split("/")[0] for id_ in images.ids} == {"shirt"}
    assert [path for path, _ in images.aside.absent] == ["bag"]
    with pytest.raises(DataError, match="bag is not a folder"):
        open_images([photos / "bag", photos / "shirt"])


@pytest.mark.parametrize("second", ["alias", "../photos/bag"])
def test_one_folder_under_two_names_is_refused(second: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    (photos / "alias").symlink_to("bag")
    with pytest.raises(DataError, match=r"under another name; give one of them|is given twice; give it once"):
        open_images(["bag", second])
