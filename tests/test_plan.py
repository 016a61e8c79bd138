"""Sources at URLs, listed and split into input shards, and opened again by a worker."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import ConfigError, DataError, ImageError
from spq.scale import inputs
from spq.scale.inputs import ContainerFile, Input, PictureList, PictureRange, from_json, opened, to_json
from spq.scale.plan import plan
from spq.scale.urls import Place, filesystem


@pytest.fixture
def memory() -> Iterator[str]:
    """A URL in the memory of this process, where nothing is yet."""
    fs, _ = filesystem("memory://")
    yield "memory://plan"
    if fs.exists("/plan"):
        fs.rm("/plan", recursive=True)


def upload(folder: Path, url: str) -> None:
    place = Place(url)
    for file in filter(Path.is_file, folder.rglob("*")):
        assert place.put(file.relative_to(folder).as_posix(), file.read_bytes())


def tar_of(files: list[Path]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for n, file in enumerate(files):
            tar.add(file, f"{n:03d}{file.suffix}")
    return sink.getvalue()


def pictures_of(found: list[Input], place: Place, source: Source) -> list[tuple[str, bytes]]:
    collection = open_images(source) if isinstance(found[0], PictureRange) else None
    pictures = []
    for given in found:
        with opened(given, place, collection) as (images, positions, prefix):
            names = [f"{prefix}/{images.ids[p]}" if prefix else images.ids[p] for p in positions]
            pictures += [(name, images.read(p)) for name, p in zip(names, positions, strict=True)]
    return pictures


def test_a_folder_at_a_url_has_the_pictures_and_ids_of_a_local_folder(photos: Path, memory: str) -> None:
    (photos / ".thumbs").mkdir()
    (photos / ".thumbs" / "a.png").write_bytes(b"?")
    (photos / "notes.txt").write_text("no picture")
    upload(photos, f"{memory}/photos")
    place, local = Place(f"{memory}/job"), open_images(photos)
    _, found = plan(Source((f"{memory}/photos",)), 25, place)
    assert [type(given) for given in found] == [PictureList] * 3
    assert [given.count for given in found if isinstance(given, PictureList)] == [25, 25, 10]
    expected = [(id_, local.read(position)) for position, id_ in enumerate(local.ids)]
    assert pictures_of(found, place, Source(())) == expected
    source, ranges = plan(Source((str(photos),)), 25, place)
    assert pictures_of(ranges, place, source) == expected
    assert [from_json(to_json(given), "job.json") for given in [*found, *ranges]] == [*found, *ranges]


def test_patterns_hold_at_urls_too(photos: Path, memory: str) -> None:
    upload(photos, f"{memory}/photos")
    place = Place(f"{memory}/job")
    url, exclude, include = f"{memory}/photos", ("*.png",), ("bag", "shirt")
    _, found = plan(Source((url,), exclude, include), 100, place)
    expected = open_images(photos, exclude, include).ids
    assert 0 < len(expected) < 30
    assert [name for name, _ in pictures_of(found, place, Source(()))] == expected


def test_tars_at_urls_have_the_ids_of_local_tars(files: list[Path], tmp_path: Path, memory: str) -> None:
    place = Place(f"{memory}/job")
    for n in range(3):
        data = tar_of(files[20 * n : 20 * n + 20])
        (tmp_path / f"{n}.tar").write_bytes(data)
        Place(memory).put(f"tars/{n}.tar", data)
    source = Source((f"{memory}/tars/*.tar",))
    _, found = plan(source, 5, place)
    assert [type(given) for given in found] == [ContainerFile] * 3
    local = open_images(str(tmp_path / "*.tar"))
    assert pictures_of(found, place, source) == [(id_, local.read(p)) for p, id_ in enumerate(local.ids)]
    _, one = plan(Source((f"{memory}/tars/1.tar",)), 5, place)
    assert pictures_of(one, place, source)[0][0] == "000"
    with opened(found[0], place, None) as (images, _, _):
        assert images.stat(0)[1] == found[0].mtime_ns


def test_what_has_changed_since_the_job_began_is_refused(photos: Path, files: list[Path], memory: str) -> None:
    place, remote = Place(f"{memory}/job"), Place(memory)
    remote.put("tars/a.tar", tar_of(files[:5]))
    remote.put("photos/a.png", files[0].read_bytes())
    _, (tar,) = plan(Source((f"{memory}/tars/a.tar",)), 5, place)
    _, (list_,) = plan(Source((f"{memory}/photos",)), 5, place)
    source, (first, *_) = plan(Source((str(photos),)), 50, place)
    for path, data in (("/plan/tars/a.tar", tar_of(files[:6])), ("/plan/photos/a.png", b"shorter")):
        remote.fs.pipe_file(path, data)
    for given in (tar, list_):
        with pytest.raises(DataError, match="has changed since the job began"), opened(given, place, None) as found:
            found.images.read(0)
    files[3].write_bytes(files[4].read_bytes())
    with pytest.raises(DataError, match="has changed since the job began"), opened(first, place, open_images(source)):
        pass
    remote.fs.rm("/plan/tars/a.tar")
    with pytest.raises(DataError, match="has changed since the job began"), opened(tar, place, None):
        pass


def test_each_picture_of_a_list_is_fetched_once(photos: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(photos, f"{memory}/photos")
    place, fetched = Place(f"{memory}/job"), list[str]()
    _, (given,) = plan(Source((f"{memory}/photos",)), 100, place)
    with opened(given, place, None) as (images, _, _):
        original = images.fs.cat_file

        def cat_file(path: str) -> bytes:
            fetched.append(path)
            return original(path)

        monkeypatch.setattr(images.fs, "cat_file", cat_file)
        for position in (*range(8, 16), *range(8), *range(16, 60)):  # as two threads may ask
            images.read(position)
        assert sorted(fetched) == sorted(f"/plan/photos/{picture.name}" for picture in images.pictures)
        assert images.read(5)  # a second time


def test_a_picture_over_the_limit_of_bytes_is_unreadable(
    files: list[Path], memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Place(memory).put("photos/a.png", files[0].read_bytes())
    place = Place(f"{memory}/job")
    _, (given,) = plan(Source((f"{memory}/photos",)), 5, place)
    monkeypatch.setattr(inputs, "MAX_BYTES", 10)
    with opened(given, place, None) as found, pytest.raises(ImageError, match="over the limit of 10"):
        found.images.read(0)


@pytest.mark.parametrize(
    ("names", "words", "error"),
    [
        (("memory://plan/nothing",), "nothing at memory://plan/nothing", DataError),
        (("memory://plan/a.txt",), "a.txt is no tar or Parquet file", DataError),
        (("memory://plan/texts",), "no pictures in memory://plan/texts; give a folder", DataError),
        (("memory://plan/tars",), "give them themselves, as in memory://plan/tars/*.tar", DataError),
        (("memory://plan/tars", "/photos"), "give all as URLs, such as file:///photos", ConfigError),
        (("nothing://a",), "nothing://a: Protocol not known: nothing", ConfigError),
        (("/no/such/folder",), "no such folder or file", DataError),
    ],
)
def test_a_wrong_source_is_one_line_with_a_remedy(
    names: tuple[str, ...], words: str, error: type[Exception], memory: str
) -> None:
    for name in ("a.txt", "texts/a.txt", "tars/a.tar"):
        Place(memory).put(name, b"text")
    with pytest.raises(error) as raised:
        plan(Source(names), 10, Place(f"{memory}/job"))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
