"""Pictures that a collection no longer lists: deleted, moved, or out of sight."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from spq.data.folder import FolderImages
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import ConfigError, LossError
from spq.index.image_index import ImageIndex
from spq.index.missing import OTHER_DISK, find_missing, unlisted_paths
from spq.model.model import Model


def ids_of(index: ImageIndex) -> dict[str, int]:
    return {item.path: item.id for item in index.store.items()}


def test_a_folder_that_is_empty_now_keeps_its_pictures_until_it_is_deleted(index: ImageIndex, photos: Path) -> None:
    before, bags = ids_of(index), sum(1 for _ in (photos / "bag").iterdir())
    away = (photos / "bag").rename(photos.parent / "away")
    (photos / "bag").mkdir()
    report = index.sync(photos)
    ((place, reason),) = report.unseen
    assert (place, report.unmounted) == ("bag", ["bag"])
    assert reason.endswith(f"it is not mounted; kept: {bags} pictures, which `remove_missing` removes")
    assert (report.removed, report.kept, ids_of(index)) == (0, bags, before)
    (photos / "bag").rmdir()
    away.rename(photos / "bag")
    assert (index.sync(photos).unchanged, ids_of(index)) == (60, before)
    shutil.rmtree(photos / "bag")
    assert (index.sync(photos).removed, len(index)) == (bags, 60 - bags)


def test_pictures_of_an_empty_folder_are_removed_on_request(index: ImageIndex, photos: Path) -> None:
    bags = len([path.unlink() for path in (photos / "bag").iterdir()])
    assert index.sync(photos).kept == bags
    report = index.sync(photos, remove_missing=True)
    assert (report.removed, report.kept, report.unseen) == (bags, 0, [])
    with pytest.raises(ConfigError, match="`keep_missing` and `remove_missing` contradict"):
        index.sync(photos, keep_missing=True, remove_missing=True)


def test_pictures_that_move_out_of_a_folder_leave_it(index: ImageIndex, photos: Path) -> None:
    before = ids_of(index)
    (photos / "new").mkdir()
    bags = [path.rename(photos / "new" / path.name) for path in (photos / "bag").iterdir()]
    report = index.sync(photos)
    assert (report.renamed, report.removed, report.kept, report.unseen) == (len(bags), 0, 0, [])
    after = ids_of(index)
    assert len(after) == 60
    assert all(after[f"new/{path.name}"] == before[f"bag/{path.name}"] for path in bags)


def test_copies_of_what_is_out_of_sight_are_new_pictures(index: ImageIndex, photos: Path) -> None:
    before, bags = ids_of(index), sorted((photos / "bag").iterdir())
    for path in bags:
        (photos / path.name).write_bytes(path.read_bytes())  # of today, as a copy is
    shutil.move(photos / "bag", photos.parent / "away")
    (photos / "bag").mkdir()
    report = index.sync(photos)
    assert (report.added, report.renamed, report.kept) == (len(bags), 0, len(bags))
    assert before.items() <= ids_of(index).items()


def test_a_renamed_picture_keeps_its_id_and_two_of_the_same_bytes_keep_both(index: ImageIndex, photos: Path) -> None:
    first = min(photos.rglob("*.png"))
    shutil.copy(first, photos / "twin.png")
    index.sync(photos)
    before = ids_of(index)
    first.rename(photos / "x.png")
    (photos / "twin.png").rename(photos / "y.png")
    assert index.sync(photos).renamed == 2
    after = ids_of(index)
    old = {before[first.relative_to(photos).as_posix()], before["twin.png"]}
    assert {after["x.png"], after["y.png"]} == old
    assert len(after) == 61


def test_most_of_an_index_does_not_vanish_at_once(index: ImageIndex, photos: Path) -> None:
    kept = sorted(photos.rglob("*.*g"))[:20]
    for path in set(photos.rglob("*.*g")) - set(kept):
        path.unlink()
    for folder in photos.iterdir():
        (folder / "readme.txt").touch()  # no folder is empty
    shutil.copy(kept[0], photos / "new.png")
    with pytest.raises(LossError, match=r"40 of 60 pictures .*nothing was removed; .*set `remove_missing`"):
        index.sync(photos)
    assert len(index) == 61
    assert index.sync(photos, remove_missing=True).removed == 40


@pytest.mark.parametrize("exclude", [["bag", "s*", "[a-f]*"], ["photos/[a-f]*", "photos/S*"], ["/[a-f]*", "/s*/"]])
def test_new_patterns_may_leave_out_most_of_an_index_but_files_may_not_vanish_with_them(
    exclude: list[str], index: ImageIndex, photos: Path
) -> None:
    (photos / "one.png").write_bytes(next((photos / "bag").iterdir()).read_bytes())
    index.sync(photos)
    some = open_images(photos, exclude=exclude)
    for folder in photos.iterdir():
        if folder.is_dir():
            folder.rename(folder.parent.parent / folder.name)
    few = open_images(photos, exclude=["none.jpg"])
    with pytest.raises(LossError):
        index.sync(few)  # the pattern is new, and leaves out none of them
    for folder in [path for path in photos.parent.iterdir() if path.is_dir() and any(path.glob("*.png"))]:
        if folder != photos:
            folder.rename(photos / folder.name)
    assert len(some) < 30
    report = index.sync(some)
    assert report.removed == 61 - len(some)
    assert set(ids_of(index)) == set(some.ids)


def test_less_than_half_or_a_few_may_vanish(index: ImageIndex, photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    for path in sorted(photos.rglob("*.*g"))[:28]:
        path.unlink()
    (photos / "readme.txt").touch()
    for folder in photos.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    assert index.sync(photos).removed == 28
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.rglob("*.*g"))[:11]:
        shutil.copy(path, few)
    with ImageIndex.build(tmp_path / "j", tiny_model, few) as small:
        for path in sorted(few.iterdir())[1:]:
            path.unlink()
        assert small.sync(few).removed == 10


def test_pictures_of_another_collection_do_not_replace_an_index_by_mistake(
    tiny_model: Model, photos: Path, tmp_path: Path
) -> None:
    few = [min((photos / name).iterdir()) for name in ("bag", "shirt")]
    for path in few:
        (tmp_path / path.parent.name).mkdir()
        shutil.copy(path, tmp_path / path.parent.name)
    with ImageIndex.build(tmp_path / "i", tiny_model, tmp_path / "bag") as index:
        with pytest.raises(LossError, match=r"it holds those of .*bag; check the folders"):
            index.sync(tmp_path / "shirt")
        assert str(index.info()["source"]) == str(tmp_path / "bag")
        index.sync(tmp_path / "shirt", remove_missing=True)
        assert list(ids_of(index)) == [few[1].name]


def test_a_disk_that_was_there_and_is_not_keeps_its_pictures(index: ImageIndex, photos: Path) -> None:
    """The folder below a mount point may hold other files, and a mount point may vanish with its disk."""
    before = ids_of(index)

    def images(mounted: bool) -> ImageSet:
        opened = open_images(photos)
        opened.aside.mounts = ["bag", "coat"] if mounted else []
        return opened

    index.sync(images(mounted=True))
    assert index.store.manifest.mounts == ("bag", "coat")
    for name in ("bag", "coat"):
        (photos / name).rename(photos.parent / name)
    (photos / "bag").mkdir()
    shutil.copy(min((photos / "shirt").iterdir()), photos / "bag" / "other.png")
    for _ in range(2):  # and it is remembered
        report = index.sync(images(mounted=False))
        assert report.removed == 0
        assert sorted(report.unmounted) == ["bag", "coat"]
        assert all(reason.startswith(OTHER_DISK) for _, reason in report.unseen)
    assert before.items() <= ids_of(index).items()
    report = index.sync(images(mounted=False), remove_missing=True)
    assert report.removed == len([path for path in before if path.startswith(("bag/", "coat/"))])
    assert index.store.manifest.mounts == ()


def test_what_is_unchecked_or_absent_in_one_collection_says_nothing_about_another(photos: Path) -> None:
    source = Source((str(photos / "bag"), str(photos / "shirt")), prefixes=("", "shirt"))
    images = open_images(source)
    known = [*images.ids, "gone.png", "shirt/gone.png"]
    assert find_missing(unlisted_paths(known, images), images, ()).gone == ["gone.png", "shirt/gone.png"]
    shutil.rmtree(photos / "bag")
    missing = find_missing(unlisted_paths(known, open_images(source)), open_images(source), ())
    assert missing.gone == ["shirt/gone.png"]
    assert set(missing.hidden) == {"."}
    part = subset(images, range(len(images)))
    part.unlisted = [(".", "Input/output error")]
    assert find_missing(unlisted_paths(known, part), part, ()).gone == ["shirt/gone.png"]


def edit(path: Path, data: bytes) -> None:
    """Replace the bytes; size and time stay."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_an_edit_that_keeps_size_and_time_is_seen(index: ImageIndex, photos: Path) -> None:
    path, other = sorted(photos.rglob("*.png"))[:2]
    size = max(path.stat().st_size, other.stat().st_size)
    one, two = (file.read_bytes().ljust(size, b"\0") for file in (path, other))
    path.write_bytes(one)
    index.sync(photos)
    before = ids_of(index)
    edit(path, two)
    report = index.sync(photos)
    assert (report.changed, report.unchanged, ids_of(index)) == (1, 59, before)


@pytest.mark.parametrize("rehash", [False, True])
def test_where_the_system_has_no_ctime_only_rehash_sees_such_an_edit(
    rehash: bool, index: ImageIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FolderImages.status
    monkeypatch.setattr(FolderImages, "status", lambda *a: (*original(*a)[:2], 0))
    path, other = sorted(photos.rglob("*.png"))[:2]
    size = max(path.stat().st_size, other.stat().st_size)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    index.sync(photos)
    edit(path, other.read_bytes().ljust(size, b"\0"))
    report = index.sync(photos, rehash=rehash)
    assert (report.changed, report.unchanged) == ((1, 59) if rehash else (0, 60))


def test_a_new_mode_or_a_rehash_costs_reading_but_no_encoding(
    index: ImageIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, original = [], FolderImages.read
    monkeypatch.setattr(FolderImages, "read", lambda s, p: (read.append(s.ids[p]), original(s, p))[1])
    monkeypatch.setattr(Model, "encode", lambda *_, **__: pytest.fail("encoded again"))
    before, revision = ids_of(index), index.store.revision()
    path = min(photos.rglob("*.png"))
    report = index.sync(photos, rehash=True)
    assert (len(read), report.unchanged, index.store.revision()) == (60, 60, revision)  # nothing was written
    path.chmod(0o600)
    report = index.sync(photos)
    assert (read[60:], report.unchanged, ids_of(index)) == ([path.relative_to(photos).as_posix()], 60, before)
    assert index.sync(photos).unchanged == 60
    assert len(read) == 61
