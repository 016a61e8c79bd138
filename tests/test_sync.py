from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import run_spq
from spq import ImageIndex
from spq.data import decode
from spq.data.folder import FolderImages
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.errors import DataError, ImageError, StoreError
from spq.index import format as layout
from spq.index import store, sync
from spq.index.build import build
from spq.index.manifest import Manifest
from spq.index.verify import faults
from spq.model.model import Model


def described(index: ImageIndex) -> dict[str, object]:
    return {path: index.store.item(path).metadata for path in index.store.stats()}


def test_labels_and_columns_of_the_collection_come_with_the_pictures(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    images = open_images(photos)
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        assert described(index) == {path: {"label": path.split("/")[0]} for path in images.ids}


def test_a_changed_table_is_noticed_without_opening_a_picture(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        first, second, *others = open_images(photos).ids
        rows = [f"{first},red|blue,9\n", f"{second},blue,10\n"]
        (photos / "metadata.csv").write_text("file_name,labels,price\n" + "".join(rows), "utf-8")
        monkeypatch.setattr(Path, "read_bytes", None)
        report = index.sync(photos)
        assert (report.unchanged, report.described) == (60, 60)
        found = described(index)
        assert found[first] == {"price": "9", "label": ["blue", "red"]}
        assert found[second] == {"price": "10", "label": ["blue"]}
        assert all(found[path] == {"price": "", "label": []} for path in others)
        assert index.sync(photos).described == 0
        (photos / "metadata.csv").write_text(f"file_name,labels,price\n{first},red|blue,9\n{second},blue,11\n", "utf-8")
        assert index.sync(photos).described == 1
        (photos / "metadata.csv").unlink()
        assert index.add(photos).described == 60
        assert described(index)[first] == {"label": first.split("/")[0]}


def unlistable(monkeypatch: pytest.MonkeyPatch, folder: Path, error: OSError) -> None:
    """As a folder without the right to list it, which does not stop root; or with a disk that fails."""
    original = os.scandir

    def scandir(path: Any = ".") -> Iterator[os.DirEntry[str]]:
        if Path(path) == folder:
            error.filename = str(path)
            raise error
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_pictures_below_a_folder_that_cannot_be_listed_are_kept_and_named(
    error: OSError, photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = {f"bag/{path.name}" for path in (photos / "bag").iterdir()}
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        codes = {path: index.store.item(path).code.tolist() for path in below}
        with monkeypatch.context() as patch:
            unlistable(patch, photos / "bag", error)
            other = next(path for path in open_images(photos).ids if not path.startswith("bag"))
            (photos / other).unlink()
            report = index.sync(photos)
        assert report.unseen == [("bag", error.strerror)]
        assert (report.removed, report.kept, report.unchanged) == (1, len(below), 59 - len(below))
        assert {path: index.store.item(path).code.tolist() for path in below} == codes
        report = index.sync(photos)
        assert (report.unseen, report.removed, report.kept, report.unchanged) == ([], 0, 0, 59)


def test_heic_pictures_keep_their_codes_when_nothing_can_open_them_any_more(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(photos.rglob("*.png"))
    path = path.rename(path.with_suffix(".heic"))
    name = path.relative_to(photos).as_posix()
    with monkeypatch.context() as patch:
        patch.setattr("spq.data.folder.register_heif", lambda: True)
        index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    code = index.store.item(name).code.tolist()
    monkeypatch.setattr("spq.data.folder.register_heif", lambda: False)
    monkeypatch.setattr("spq.data.folder.needs_heif", lambda _: True)  # the file is a PNG
    report = index.sync(photos)
    assert (report.removed, report.kept, report.unchanged) == (0, 1, 59)
    assert report.unseen == [(name, "HEIC needs pip install 'spq-retrieval[heif]'")]
    assert index.store.item(name).code.tolist() == code
    index.close()


def test_pictures_of_a_subfolder_that_vanishes_during_listing_are_removed(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(list((photos / "bag").iterdir()))
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        unlistable(monkeypatch, photos / "bag", FileNotFoundError(2, "No such file or directory"))
        report = index.sync(photos)
        assert (report.unseen, report.removed) == ([], count)


def test_a_listing_that_fails_in_the_middle_keeps_all_pictures(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        part = subset(open_images(photos), range(5))
        part.unlisted = [(".", "Input/output error")]
        report = index.sync(part)
        assert (report.removed, report.kept, len(index)) == (0, 55, 60)


def test_a_known_picture_whose_stat_fails_keeps_its_code_and_a_new_one_is_listed(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FolderImages.status

    def status(source: FolderImages, position: int) -> tuple[int, int, int]:
        if source.ids[position] in (known, "new.jpg"):
            raise ImageError(f"cannot read {source.ids[position]}: Input/output error")
        return original(source, position)

    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        known = open_images(photos).ids[7]
        before = index.store.item(known)
        (photos / "new.jpg").write_bytes((photos / known).read_bytes())
        with monkeypatch.context() as patch:
            patch.setattr(FolderImages, "status", status)
            report = index.sync(photos)
        assert report.unseen == [(known, f"cannot read {known}: Input/output error")]
        assert [path for path, _ in report.failed] == ["new.jpg"]
        np.testing.assert_array_equal(index.store.item(known).code, before.code)
        report = index.sync(photos)
        assert (report.unchanged, report.changed, report.unseen, report.failed) == (60, 1, [], [])


def test_an_empty_or_missing_collection_removes_nothing(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        away = photos.rename(tmp_path / "away")
        with pytest.raises(DataError, match="no such folder"):
            index.sync(photos)
        photos.mkdir()  # as the mount point of a disk that is not there
        with pytest.raises(DataError, match="no pictures in"):
            index.sync(photos)
        with pytest.raises(DataError, match="nothing was removed: to remove all, delete"):
            index.sync(subset(open_images(away), []))
        assert len(index) == 60


def test_vanished_pictures_are_kept_with_keep_missing(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        first, second, *_ = sorted(photos.rglob("*.png"))
        first.unlink()
        second.rename(photos / "renamed.png")
        report = index.sync(photos, keep_missing=True)
        assert (report.added, report.removed, report.renamed, report.kept) == (1, 0, 0, 2)
        assert len(index) == 61
        report = index.sync(photos)
        assert (report.removed, report.kept, len(index)) == (2, 0, 59)


def test_few_pictures_are_looked_up_without_reading_the_whole_table(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_images(photos)
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        original, calls = store.Store.known, []
        monkeypatch.setattr(store.Store, "known", lambda self, paths: (calls.append(paths), original(self, paths))[1])
        assert index.add(subset(images, range(5))).unchanged == 5
        assert index.add(subset(images, range(30))).unchanged == 30
        assert calls == [images.ids[:5], images.ids[:30]]


def test_a_full_disk_gives_one_line_and_keeps_what_was_committed(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_disk(folder: Path, manifest: Manifest | None = None, may_lack: bool = False) -> sqlite3.Connection:
        connection = layout.open_writer(folder, manifest, may_lack)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sync, "BATCH", 16)
    with monkeypatch.context() as patch:
        patch.setattr(store, "open_writer", small_disk)
        with pytest.raises(
            StoreError, match=r"^the disk is full: [^\n]*items.sqlite; [^\n]*what was committed is kept$"
        ):
            ImageIndex.build(tmp_path / "i", tiny_model, photos)
        assert list(faults(tmp_path / "i")) == []
    built, copy, report = build(tmp_path / "i", tiny_model, photos)
    with ImageIndex(built, copy) as index:
        kept = report.unchanged
        assert 0 < kept < 60
        assert kept % 16 == 0
        assert set(index.store.stats()) == set(open_images(photos).ids)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """This process cannot write beyond `size` bytes of a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_size_limit_ends_the_command_in_one_line_and_loses_nothing(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sync, "BATCH", 4)
    tiny_model.save(tmp_path / "m")
    largest = max(file.stat().st_size for file in (tmp_path / "m").iterdir())
    command = ["index", str(photos), "--model", str(tmp_path / "m"), "--out", str(tmp_path / "i")]
    kept = []
    for limit in (8192, largest + 4096):
        with file_size_limit(limit):
            status = run_spq(*command)
        assert status == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("spq: ")
        if layout.has_index(tmp_path / "i"):
            assert list(faults(tmp_path / "i")) == []
            with store.Store.open(tmp_path / "i") as opened:
                kept.append(len(opened))
    assert kept == sorted(kept)
    assert 0 < kept[-1] < 60
    built, _, report = build(tmp_path / "i", tiny_model, photos)
    with built:
        assert report.unchanged == kept[-1]
        assert len(built) == 60


def test_sync_follows_the_folder(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    report = index.sync(photos)
    assert (report.unchanged, report.added, report.changed, report.removed) == (60, 0, 0, 0)
    files = sorted(photos.rglob("*.*g"))
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes())
    files[3].rename(photos / "renamed.png")
    os.utime(files[4], (1, 1))  # the same bytes: unchanged
    shutil.copy(files[5], photos / "copy.jpg")
    report = index.sync(photos)
    assert (report.unchanged, report.added, report.changed, report.renamed, report.removed) == (
        57,
        1,
        1,
        1,
        1,
    )
    assert set(index.store.stats()) == set(open_images(photos).ids)
    fresh = ImageIndex.build(tmp_path / "fresh", tiny_model, photos)
    for path in open_images(photos).ids:
        np.testing.assert_array_equal(index.store.item(path).code, fresh.store.item(path).code)


def test_an_index_of_a_glob_finds_its_pictures_from_another_folder(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for path in photos.rglob("*.jpg"):
            archive.add(path, path.name)
    monkeypatch.chdir(tmp_path)
    ImageIndex.build("i", tiny_model, "*.tar").close()
    monkeypatch.chdir("/")
    with ImageIndex.open(tmp_path / "i") as index:
        assert len(open_images(index.store.manifest.source)) == 30


def test_a_known_picture_is_not_encoded_again(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    for path in photos.rglob("*.jpg"):
        path.rename(path.with_name(f"new-{path.name}"))

    def no_encoding(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(Model, "encode", no_encoding)
    assert index.sync(photos).renamed == 30


def test_unreadable_pictures_are_listed_and_retried_only_when_they_change(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    broken = photos / "bag" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 not much of a picture")
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    assert len(index) == 60
    assert [path for path, _ in index.store.unreadable()] == ["bag/broken.jpg"]
    report = index.sync(photos)
    assert (report.unchanged, len(report.failed)) == (60, 1)
    broken.write_bytes(next(photos.rglob("*.jpg")).read_bytes())
    report = index.sync(photos)
    assert (len(report.failed), len(index)) == (0, 61)


def test_unreadable_pictures_are_tried_again_once_by_another_version_or_with_a_higher_limit(
    photos: Path, index: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (90, 50)).save(photos / "large.png")
    (photos / "broken.gif").write_bytes(b"GIF89a, and no more")
    read: list[str] = []
    read_file = FolderImages.read
    monkeypatch.setattr(FolderImages, "read", lambda s, n: read.append(s.ids[n]) or read_file(s, n))  # type: ignore[func-returns-value]
    decode.set_max_pixels(4000)
    try:
        assert [path for path, _ in index.sync(photos).failed] == ["broken.gif", "large.png"]
        read.clear()
        assert (index.sync(photos).unchanged, read) == (60, [])
    finally:
        decode.set_max_pixels(decode.MAX_PIXELS)
    for version in ("13.9", "14.0"):
        monkeypatch.setattr("PIL.__version__", version)
        report = index.sync(photos)
        assert ([path for path, _ in report.failed], len(index)) == (["broken.gif"], 61)
        assert "broken.gif" in read
        read.clear()
        assert (index.sync(photos).unchanged, read) == (61, [])


def test_each_file_is_counted_once_also_by_a_second_run(index: ImageIndex, photos: Path, tmp_path: Path) -> None:
    some = next(photos.rglob("*.jpg")).read_bytes()
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(some + b"a tail")
    for name, target in (("lost.png", "nowhere"), ("circle.jpg", "circle.jpg"), ("there.jpg", outside)):
        (photos / name).symlink_to(target)
    (photos / "folder.jpg").symlink_to(photos / "bag")
    for name, content in (("empty.jpg", b""), ("half.jpg", some[:300]), ("notes.txt", b"text"), ("mail.png", b"text")):
        (photos / name).write_bytes(content)
    os.mkfifo(photos / "pipe.gif")
    passed = {"lost.png", "circle.jpg", "pipe.gif"}
    for added in (1, 0, 0):
        report = index.sync(photos)
        assert (report.added, report.unchanged, report.kept, len(index)) == (added, 61 - added, 0, 61)
        assert {path for path, _ in report.failed} == {"empty.jpg", "half.jpg", "mail.png"}
        assert sorted(path for path, _ in report.unseen) == sorted(passed)
    outside.unlink()
    for _ in range(2):
        report = index.sync(photos)
        assert (report.unchanged, report.kept, len(index), report.unmounted) == (60, 1, 61, ["there.jpg"])
        assert sorted(path for path, _ in report.unseen) == sorted(passed | {"there.jpg"})
    report = index.sync(photos, remove_missing=True)
    assert (report.removed, report.unchanged, report.kept, len(index)) == (1, 60, 0, 60)
    assert sorted(path for path, _ in report.unseen) == sorted(passed | {"there.jpg"})


def test_a_picture_that_changes_while_it_is_encoded_is_read_again(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, other = sorted(photos.rglob("*.png"))[:2]
    original = FolderImages.read

    def read_then_change(images: FolderImages, position: int) -> bytes:
        data = original(images, position)
        if target.as_posix().endswith(images.ids[position]):
            target.write_bytes(other.read_bytes())
        return data

    monkeypatch.setattr(FolderImages, "read", read_then_change)
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        monkeypatch.undo()
        assert index.sync(photos).changed == 1
        paths = [path.relative_to(photos).as_posix() for path in (target, other)]
        codes = [index.store.item(path).code for path in paths]
        np.testing.assert_array_equal(codes[0], codes[1])
        assert index.sync(photos).unchanged == 60


def test_moved_pictures_are_found_at_their_new_place(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        moved = photos.rename(tmp_path / "moved")
        assert index.sync(moved).unchanged == 60
    with ImageIndex.open(tmp_path / "i") as again:
        assert again.info()["source"] == str(moved)


def test_a_picture_without_a_label_has_none_in_the_index(tiny_model: Model, photos: Path, tmp_path: Path) -> None:
    next(photos.rglob("*.png")).rename(photos / "stray.png")
    with ImageIndex.build(tmp_path / "j", tiny_model, photos) as index:
        assert "label" not in index.store.item("stray.png").metadata
        with_label = [item for item in index.store.items() if item.metadata.get("label")]
        assert len(with_label) == len(index) - 1
        (photos / "metadata.csv").write_text("Album\nx\n")
        report = index.sync(open_images(photos))
        assert [file for file, _ in report.remarks] == ["metadata.csv"]
        assert report.described == 0


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO])
def test_a_known_picture_that_cannot_be_opened_now_keeps_its_code(
    reason: int, photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_open(path: str | Path, *rest: Any, **options: Any) -> int:
        if Path(path).name in ("new.jpg", Path(known).name):
            raise OSError(reason, os.strerror(reason), str(path))
        return original(path, *rest, **options)

    original = os.open
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        known = open_images(photos).ids[7]
        before = index.store.item(known)
        os.utime(photos / known, (1, 1))
        (photos / "new.jpg").write_bytes((photos / known).read_bytes())
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(os, "open", no_open)
                report = index.sync(photos)
            assert [path for path, _ in report.unseen] == [known]
            assert [path for path, _ in report.failed] == ["new.jpg"]
            assert (report.unchanged, report.kept, report.removed) == (59, 1, 0)
            np.testing.assert_array_equal(index.store.item(known).code, before.code)
        report = index.sync(photos)
        assert (report.unchanged, report.changed, report.unseen, report.failed) == (60, 1, [], [])
        assert index.store.item(known).id == before.id


def test_labels_stay_while_a_class_folder_cannot_be_listed(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in photos.iterdir():
        if path.name not in ("bag", "shirt"):
            shutil.rmtree(path)
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        labels = index.store.metadata()
        for folder in ("bag", "shirt"):
            with monkeypatch.context() as patch:
                unlistable(patch, photos / folder, PermissionError(13, "Permission denied"))
                report = index.sync(photos)
            assert (report.described, report.removed) == (0, 0)
            assert index.store.metadata() == labels
