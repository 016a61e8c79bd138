from __future__ import annotations

import gc
import importlib.util
import io
import json
import os
import sys
import tarfile
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spq.data import folder, formats, named
from spq.data.decode import load_pixels
from spq.data.folder import file_of
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.errors import DataError, ImageError


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(buffer, "JPEG")
    return buffer.getvalue()


def value_of(images: ImageSet, position: int) -> int:
    return int(np.asarray(images.image(position))[0, 0, 0])


def put(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(10 * number))
    return root


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


# ---- folder


def test_a_folder_with_class_subfolders_is_labelled_by_them(photos: Path) -> None:
    images = open_images(photos)
    assert len(images) == 60
    assert images.class_names == sorted(path.name for path in photos.iterdir())
    assert all(i.split("/")[0] == images.class_names[label] for i, label in zip(images.ids, images.labels, strict=True))
    first = images.path(0)
    assert first == photos / images.ids[0]
    assert images.read(0) == first.read_bytes()
    assert images.stat(0) == (first.stat().st_size, first.stat().st_mtime_ns)


def test_splits_above_the_classes_do_not_become_classes(tmp_path: Path) -> None:
    images = open_images(put(tmp_path, "train/hat/1.jpg", "train/shoe/2.jpg", "test/hat/3.jpg"))
    assert images.ids == ["test/hat/3.jpg", "train/hat/1.jpg", "train/shoe/2.jpg"]
    assert images.class_names == ["hat", "shoe"]
    assert images.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize("names", [("a.jpg", "hat/b.jpg"), ("all/a.jpg", "all/b.jpg"), ("a.jpg",)])
def test_pictures_of_one_folder_have_no_labels(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert open_images(put(tmp_path, *names)).labels is None


@pytest.mark.parametrize("stray", ["a.jpg", "zz.png"])
def test_a_stray_picture_beside_class_folders_is_the_only_one_without_a_label(tmp_path: Path, stray: str) -> None:
    images = open_images(put(tmp_path, stray, "hat/b.jpg", "shoe/c.jpg"))
    assert images.class_names == ["hat", "shoe"]
    assert dict(zip(images.ids, images.labels.tolist(), strict=True)) == {stray: -1, "hat/b.jpg": 0, "shoe/c.jpg": 1}


def test_order_does_not_depend_on_the_order_of_creation(tmp_path: Path) -> None:
    names = ["b/2.jpg", "a.jpg", "b/10.jpg", "c.PNG", "b-/1.JPG"]
    one, two = put(tmp_path / "one", *names), put(tmp_path / "two", *reversed(names))
    assert open_images(one).ids == open_images(two).ids == ["a.jpg", "b/10.jpg", "b/2.jpg", "b-/1.JPG", "c.PNG"]


def test_hidden_files_other_files_and_link_loops_are_skipped(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", ".hidden.jpg", "._a.jpg", ".cache/b.jpg", "deep/.git/c.jpg", "notes.txt", "clip.mp4")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert open_images(tmp_path).ids == ["a.jpg", "link.jpg"]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses such names")
def test_a_name_that_is_not_utf8_is_read_and_named(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path)
    Path(os.fsdecode(raw + b"/caf\xe9.jpg")).write_bytes(jpeg(50))
    Path(os.fsdecode(raw + b"/bad\xe9.jpg")).write_bytes(b"")
    images = open_images(tmp_path)
    assert images.ids == [r"bad\xe9.jpg", r"caf\xe9.jpg"]  # to print and to store
    assert os.fsencode(images.path(1)) == raw + b"/caf\xe9.jpg"  # to open
    assert images.read(1) == jpeg(50)
    assert images.stat(1)[0] == len(jpeg(50))
    assert value_of(images, 1) == 50
    with pytest.raises(ImageError, match=r"cannot read bad\\xe9\.jpg: the file is empty") as raised:
        images.image(0)
    str(raised.value).encode()  # printable


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    put(tmp_path, "open/a.jpg", "open/locked/b.jpg")
    monkeypatch.setattr(os, "scandir", scandir)
    images = open_images(tmp_path)
    assert (images.ids, images.unlisted) == (["open/a.jpg"], [("open/locked", "Permission denied")])
    (tmp_path / "open" / "a.jpg").unlink()
    with pytest.raises(
        DataError, match=r"no pictures in .*; 1 of its folders cannot be listed, open/locked: Permission"
    ):
        open_images(tmp_path)


@pytest.mark.parametrize("left", [None, "empty"])
def test_a_disk_that_is_removed_during_listing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str | None
) -> None:
    """The pictures of `b` would be taken as deleted."""
    honest, root = os.scandir, put(tmp_path / "disk", "a/1.jpg", "b/2.jpg")

    def scandir(path: Any = ".") -> Any:
        if Path(path).name == "b":
            root.rename(tmp_path / "away")
            if left:
                root.mkdir()
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        DataError, match="replaced while it was listed" if left else "the folder no longer exists: .*disk"
    ):
        open_images(root)


def test_different_names_have_different_ids(tmp_path: Path) -> None:
    for name in (b"lit\\xe9.jpg", b"lit\xe9.jpg", b"lit\\\xe9.jpg"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    images = open_images(tmp_path)
    assert sorted(images.ids) == sorted(["lit\\\\xe9.jpg", "lit\\xe9.jpg", "lit\\\\\\xe9.jpg"])
    assert all(images.read(position) == b"x" for position in range(3))


def test_a_deleted_file_is_an_image_error(tmp_path: Path) -> None:
    images = open_images(put(tmp_path, "a.jpg", "b.jpg"))
    (tmp_path / "a.jpg").unlink()
    for ask in (images.image, images.read, images.stat):
        with pytest.raises(ImageError, match=r"a\.jpg: No such file"):
            ask(0)
    assert load_pixels(images, 4).kept.tolist() == [1]


def test_heic_is_listed_only_when_it_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phone.HEIC").write_bytes(HEIC)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"no pictures in .*; HEIC needs pip install 'spq-retrieval\[heif\]'"):
        open_images(tmp_path)
    calls: list[str] = []
    heif = types.SimpleNamespace(register_heif_opener=lambda: calls.append("registered"))
    monkeypatch.setitem(sys.modules, "pillow_heif", heif)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "there")
    assert open_images(tmp_path).ids == ["phone.HEIC"]
    assert calls == ["registered"]


def test_heic_without_a_decoder_is_reported_separately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    put(tmp_path, "a.jpg", "b.jfif", "x/really-jpeg.HEIC")
    (tmp_path / "x" / "phone.HEIC").write_bytes(HEIC)
    images = open_images(tmp_path)
    assert images.ids == ["a.jpg", "b.jfif", "x/really-jpeg.HEIC"]
    assert images.unlisted == []
    assert images.unopened == [("x/phone.HEIC", "HEIC needs pip install 'spq-retrieval[heif]'")]


def test_a_file_too_large_for_memory_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = open_images(put(tmp_path, "a.jpg", "b.jpg"))
    with (tmp_path / "a.jpg").open("ab") as file:
        file.truncate(formats.MAX_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(ImageError, match=r"a\.jpg: 1,073,741,825 bytes are over the limit of 1,073,741,824; scale it"):
        images.read(0)
    assert load_pixels(images, 4).kept.tolist() == [1]


# ---- Parquet


def parquet(file: Path, values: list[int], labels: Any = None, **options: Any) -> Path:
    columns: dict[str, Any] = {
        "image": [{"bytes": jpeg(v), "path": f"{v}.jpg"} for v in values],
        "text": ["x"] * len(values),
    }
    if labels is not None:
        columns["label"] = labels
    pq.write_table(pa.table(columns), file, **options)
    return file


def test_parquet_in_the_hugging_face_layout(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [10, 20, 30], [1, 0, 2])
    images = open_images(file)
    assert images.ids == ["10.jpg", "20.jpg", "30.jpg"]
    assert images.labels.dtype == np.int64
    assert (images.labels.tolist(), images.class_names) == ([1, 0, 2], ["0", "1", "2"])
    assert [value_of(images, i) for i in range(3)] == [10, 20, 30]
    assert images.read(1) == jpeg(20)
    assert images.stat(1) == (len(jpeg(20)), file.stat().st_mtime_ns)
    assert images.path(1) is None


def test_parquet_files_by_glob_are_one_set_in_the_order_of_their_names(tmp_path: Path) -> None:
    parquet(tmp_path / "p-2.parquet", [30, 40], [3, 4])
    parquet(tmp_path / "p-1.parquet", [10, 20, 25], [1, 2, 2], row_group_size=2)
    images = open_images(str(tmp_path / "p-*.parquet"))
    assert [value_of(images, i) for i in range(5)] == [10, 20, 25, 30, 40]
    assert images.labels.tolist() == [1, 2, 2, 3, 4]


def test_parquet_label_lists_are_multi_label_and_names_are_classes(tmp_path: Path) -> None:
    images = open_images(parquet(tmp_path / "a.parquet", [1, 2], [[0, 2], [2]]))
    assert (images.labels.tolist(), images.class_names) == ([[True, True], [False, True]], ["0", "2"])
    images = open_images(parquet(tmp_path / "b.parquet", [1, 2], ["shoe", "hat"]))
    assert (images.labels.tolist(), images.class_names) == ([1, 0], ["hat", "shoe"])


@pytest.mark.parametrize(
    ("names", "told"), [(["hat", "shoe", "tie"], True), (["hat"], False), (["hat", "hat", "tie"], False)]
)
def test_parquet_names_its_class_numbers_as_the_hugging_face_schema_does(
    tmp_path: Path, names: list[str], told: bool
) -> None:
    file = parquet(tmp_path / "a.parquet", [1, 2], [1, 0])
    table = pq.read_table(file)
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    note = json.dumps({"info": {"features": feature}}).encode()
    pq.write_table(table.replace_schema_metadata({b"huggingface": note}), file)
    images = open_images(file)
    assert (images.labels.tolist(), images.class_names) == ([1, 0], names if told else ["0", "1"])


def test_minus_one_means_no_labels_and_huge_numbers_are_names(tmp_path: Path) -> None:
    assert open_images(parquet(tmp_path / "a.parquet", [1, 2], [-1, -1])).labels is None
    images = open_images(parquet(tmp_path / "b.parquet", [1, 2], [2**60, 7]))
    assert (images.labels.tolist(), images.class_names) == ([0, 1], [str(2**60), "7"])


def test_parquet_of_plain_bytes_has_row_numbers_as_ids_and_a_missing_picture_is_an_image_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [jpeg(1), None, jpeg(3)]}), tmp_path / "a.parquet")
    images = open_images(tmp_path / "a.parquet")
    assert images.ids == ["0", "1", "2"]
    assert images.stat(1)[0] == 0
    assert load_pixels(images, 4).kept.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"picture": [b"x"]}, "no column of pictures, only picture; use the Hugging Face layout"),
        ({"image": ["path.jpg"]}, "column image is string and holds no bytes; embed"),
        ({"image": [{"path": "a"}]}, "column image is struct<path: string> and holds no bytes"),
        ({"image": [{"bytes": "text"}]}, "column image is struct<bytes: string> and holds no bytes"),
        (
            {"img": pa.array([{"path": "a"}], pa.struct({"bytes": pa.binary(), "path": pa.string()}))},
            "column img holds no bytes; embed the pictures",
        ),
        ({"a": [jpeg(1)], "b": [jpeg(2)]}, "several columns of pictures, a, b; rename the one to use to image"),
        ({"image": pa.array([], pa.binary())}, "the table has no rows"),
    ],
)
def test_parquet_of_another_layout_is_refused(tmp_path: Path, table: dict[str, Any], reason: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=reason):
        open_images(tmp_path / "a.parquet")


@pytest.mark.parametrize("column", ["img", "photo", "pixel_values"])
@pytest.mark.parametrize("as_struct", [True, False])
def test_the_only_picture_column_of_a_parquet_file_may_have_any_name(
    tmp_path: Path, column: str, as_struct: bool
) -> None:
    pictures = [{"bytes": jpeg(v), "path": None} if as_struct else jpeg(v) for v in (10, 20)]
    columns = {"vector": [b"\x00\x01", b"\x02"], column: pictures, "label": [1, None]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    images = open_images(tmp_path / "a.parquet")
    assert [value_of(images, i) for i in range(2)] == [10, 20]
    assert images.labels.tolist() == [1, -1]


def test_image_is_the_picture_column_where_there_are_several(tmp_path: Path) -> None:
    pq.write_table(pa.table({"mask": [jpeg(1)], "image": [jpeg(9)], "depth": [jpeg(2)]}), tmp_path / "a.parquet")
    images = open_images(tmp_path / "a.parquet")
    assert (value_of(images, 0), dict(images.metadata)) == (9, {})
    assert images.remarks == [
        (str(tmp_path / "a.parquet"), "columns that are nested, or there twice, are not used: mask, depth")
    ]


def test_other_plain_columns_of_parquet_are_metadata_also_if_files_differ(tmp_path: Path) -> None:
    boxes = [{"x": 1}, {"x": 2}]
    first = {"image": [jpeg(1), jpeg(2)], "caption": ["a cat", None], "stars": [3, 4], "boxes": boxes, "label": [1, 0]}
    second = {"place": ["Rome"], "img": [{"bytes": jpeg(3), "path": "c.jpg"}], "caption": ["a dog"]}
    pq.write_table(pa.table(first), tmp_path / "p-1.parquet")
    pq.write_table(pa.table(second), tmp_path / "p-2.parquet")
    images = open_images(str(tmp_path / "p-*.parquet"))
    assert images.metadata == {"caption": ["a cat", "", "a dog"], "stars": ["3", "4", ""], "place": ["", "", "Rome"]}
    assert images.labels.tolist() == [1, 0, -1]
    assert images.remarks[0][1].endswith("not used: boxes")
    assert subset(images, [2, 0]).metadata["caption"] == ["a dog", "a cat"]
    assert [value_of(images, i) for i in range(3)] == [1, 2, 3]


def test_metadata_of_parquet_is_read_only_when_it_is_used(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [1, 2])
    images = subset(open_images(file), [0])
    assert value_of(images, 0) == 1
    file.unlink()
    with pytest.raises(DataError, match=r"a\.parquet is not readable as Parquet"):
        images.metadata["text"]


def test_the_only_class_label_of_the_schema_is_the_label(tmp_path: Path) -> None:
    def write(*columns: str) -> ImageSet:
        table = pa.table({"image": [jpeg(1), jpeg(2)]} | {name: [1, 0] for name in columns})
        feature = {name: {"names": ["hat", "tie"], "_type": "ClassLabel"} for name in columns}
        note = json.dumps({"info": {"features": feature}}).encode()
        pq.write_table(table.replace_schema_metadata({b"huggingface": note}), tmp_path / "a.parquet")
        return open_images(tmp_path / "a.parquet")

    images = write("category")
    assert (images.labels.tolist(), images.class_names, dict(images.metadata)) == ([1, 0], ["hat", "tie"], {})
    images = write("fine", "coarse")
    assert (images.labels, images.metadata["fine"]) == (None, ["1", "0"])


def test_a_row_with_only_a_path_is_an_image_error_that_names_it(tmp_path: Path) -> None:
    rows = [{"bytes": jpeg(1), "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    images = open_images(tmp_path / "a.parquet")
    with pytest.raises(ImageError, match=r"row 1 of .* has only the path b\.jpg, without bytes; embed"):
        images.read(1)
    assert load_pixels(images, 4).kept.tolist() == [0]


# ---- tar


def tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def test_a_webdataset_tar_is_read_in_place_with_its_labels(tmp_path: Path) -> None:
    members = {
        "s/1.jpg": jpeg(10),
        "s/1.cls": b"4\n",
        "s/2.cls": b"0",
        "s/2.jpeg": jpeg(20),
        "README": b"",
        "._1.jpg": b"",
    }
    file = tar(tmp_path / "a.tar", members)
    images = open_images(file)
    assert images.ids == ["s/1", "s/2"]
    assert images.labels.tolist() == [4, 0]
    assert [value_of(images, i) for i in range(2)] == [10, 20]
    assert images.read(1) == jpeg(20)
    assert images.stat(0) == (len(jpeg(10)), file.stat().st_mtime_ns)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_tar_keeps_pictures_with_dots_in_the_name_or_the_stem_of_another(tmp_path: Path) -> None:
    members = {"a.left.jpg": jpeg(10), "a.right.jpg": jpeg(20), "a.cls": b"1", "b.jpg": jpeg(30), "b.png": jpeg(40)}
    images = open_images(tar(tmp_path / "a.tar", members | {"b.cls": b"0", "x/2024.05.01.jpeg": jpeg(50)}))
    assert images.ids == ["a.left.jpg", "a.right.jpg", "b", "b.png", "x/2024.05.01.jpeg"]
    assert [value_of(images, i) for i in range(5)] == [10, 20, 30, 40, 50]
    labelled = open_images(tar(tmp_path / "b.tar", members | {"b.cls": b"0"}))
    assert labelled.labels.tolist() == [1, 1, 0, 0]
    with tarfile.open(tmp_path / "c.tar", "w") as archive:  # as tar --append leaves it
        for value in (10, 20):
            info = tarfile.TarInfo("a.jpg")
            info.size = len(jpeg(value))
            archive.addfile(info, io.BytesIO(jpeg(value)))
    again = open_images(tmp_path / "c.tar")
    assert (again.ids, value_of(again, 0)) == (["a"], 20)


def test_a_tar_key_that_is_not_utf8_can_be_printed(tmp_path: Path) -> None:
    assert open_images(tar(tmp_path / "a.tar", {"caf\udce9.jpg": jpeg(0)})).ids == [r"caf\xe9"]


def test_json_of_a_sample_may_have_one_label_or_several(tmp_path: Path) -> None:
    documents: list[Any] = [{"label": ["sky", "sea"]}, {"label": ["sea"]}]
    members = {f"{i}.jpg": jpeg(i) for i in range(2)} | {
        f"{i}.json": json.dumps(d).encode() for i, d in enumerate(documents)
    }
    images = open_images(tar(tmp_path / "a.tar", members))
    assert (images.class_names, images.labels.tolist()) == (["sea", "sky"], [[True, True], [True, False]])


@pytest.mark.parametrize("beside", [{}, {"1.json": b"{not json"}, {"1.json": b"[" * 100_000}, {"1.txt": b"7"}])
def test_a_picture_of_a_tar_may_have_no_label(tmp_path: Path, beside: dict[str, bytes]) -> None:
    members = {"0.jpg": jpeg(0), "0.cls": b"1", "1.jpg": jpeg(1)} | beside
    assert open_images(tar(tmp_path / "a.tar", members)).labels.tolist() == [1, -1]
    del members["0.cls"]
    assert open_images(tar(tmp_path / "b.tar", members)).labels is None


def test_equal_keys_of_several_tars_stay_distinct(tmp_path: Path) -> None:
    for number in (1, 0):
        tar(tmp_path / f"{number}.tar", {"x.jpg": jpeg(10 * number)})
    images = open_images(str(tmp_path / "*.tar"))
    assert images.ids == ["0.tar/x", "1.tar/x"]
    assert [value_of(images, i) for i in range(2)] == [0, 10]


def test_many_threads_read_one_tar_and_leave_no_file_open(tmp_path: Path) -> None:
    members = {f"{i:03d}.jpg": jpeg(i) for i in range(200)}
    images = open_images(tar(tmp_path / "a.tar", members))
    pixels = load_pixels(images, 8, workers=8)
    assert pixels.array[:, 0, 0, 0].tolist() == list(range(200))
    gc.collect()  # an open handle would be a ResourceWarning, hence an error here
    (tmp_path / "a.tar").unlink()
    with pytest.raises(ImageError, match="No such file"):
        images.read(0)


@pytest.mark.parametrize(
    "content", [b"", b"junk" * 400, b"\0" * 10_240, tarfile.TarInfo("1.jpg").tobuf() + b"\0" * 1024]
)
def test_an_invalid_or_empty_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    if content.startswith(b"1.jpg"):  # a member of no bytes is a picture that cannot be read, not a broken tar
        assert load_pixels(open_images(tmp_path / "a.tar"), 4).failures[0][1].endswith("the file is empty")
        return
    with pytest.raises(DataError, match=r"is not an uncompressed tar file|no pictures in"):
        open_images(tmp_path / "a.tar")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["a.tar", "a.parquet"]), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4)
)
def test_a_damaged_container_raises_nothing_but_data_error(
    tmp_path: Path, name: str, damage: list[tuple[float, int]]
) -> None:
    file = tmp_path / name
    if name == "a.tar":
        tar(file, {"0.jpg": jpeg(0), "0.cls": b"1"})
    else:
        parquet(file, [0, 1], [1, 0])
    data = bytearray(file.read_bytes())
    for where, value in damage:
        data[int(where * len(data))] = value
    file.write_bytes(data)
    message = ""
    try:
        load_pixels(open_images(file), 4)
    except DataError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


# ---- named sets


def test_the_shipped_sample_is_balanced_real_and_small() -> None:
    for split, count in (("train", 5000), ("test", 500)):
        images = open_images(f"sample:{split}")
        assert len(images) == len(set(images.ids)) == count
        assert set(Counter(images.labels.tolist()).values()) == {count // 10}
        assert len(images.class_names) == 10
    assert images.image(0).size == (28, 28)
    assert len({images.read(i) for i in range(500)}) == 500
    shipped = list((Path(named.__file__).parents[1] / "sample").iterdir())
    assert sum(path.stat().st_size for path in shipped) <= 3_000_000
    assert "Zalando" in next(path for path in shipped if path.name == "LICENSE").read_text()


def test_cifar10_is_read_from_spq_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar10").mkdir()
    parquet(tmp_path / "cifar10" / "test.parquet", [10, 20], [9, 0])
    monkeypatch.setenv("SPQ_DATA", str(tmp_path))
    images = open_images("cifar10:test")
    assert (images.name, [images.class_names[label] for label in images.labels]) == (
        "cifar10:test",
        ["truck", "airplane"],
    )


def idx(file: Path, array: np.ndarray) -> None:
    import gzip

    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    file.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_fashion_mnist_is_read_from_spq_data_or_from_the_debian_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, place in enumerate((tmp_path / "data" / "fashion-mnist", tmp_path / "debian")):
        place.mkdir(parents=True)
        idx(place / "t10k-images-idx3-ubyte.gz", np.full((2, 28, 28), 10 + number))
        idx(place / "t10k-labels-idx1-ubyte.gz", np.array([9, 0]))
    monkeypatch.setattr(named, "DEBIAN_FASHION", tmp_path / "debian")
    for data, value in (("data", 10), ("nowhere", 11)):
        monkeypatch.setenv("SPQ_DATA", str(tmp_path / data))
        images = open_images("fashion-mnist:test")
        assert value_of(images, 1) == value
        assert [images.class_names[label] for label in images.labels] == ["ankle boot", "t-shirt"]
    (tmp_path / "debian" / "t10k-images-idx3-ubyte.gz").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"is damaged .*; download it again"):
        open_images("fashion-mnist:test")


@pytest.mark.parametrize(("kind", "theirs"), [("cifar10", "CIFAR10"), ("fashion-mnist", "FashionMNIST")])
def test_a_missing_set_is_downloaded_and_a_failure_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, theirs: str
) -> None:
    import torchvision.datasets

    def refuse(root: Path, train: bool, download: bool) -> None:
        assert (root, train, download) == (tmp_path / "spq", False, True)
        raise TimeoutError

    monkeypatch.delenv("SPQ_DATA", raising=False)
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "spq"))
    monkeypatch.setattr(named, "DEBIAN_FASHION", tmp_path)
    monkeypatch.setattr(torchvision.datasets, theirs, refuse)
    monkeypatch.setitem(named.DOWNLOADS, theirs, ("http://127.0.0.1:9/", "part"))  # nothing listens there
    with pytest.raises(DataError, match=r"the download failed \(.*refused.*\); set SPQ_DATA"):
        open_images(f"{kind}:test")
    (tmp_path / "spq" / "part").mkdir(parents=True)  # torchvision has to check what is there
    with pytest.raises(DataError, match=r"the download failed \(TimeoutError\); set SPQ_DATA"):
        open_images(f"{kind}:test")


def test_cifar10_is_downloaded_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    fetched = types.SimpleNamespace(data=np.full((3, 32, 32, 3), 7, np.uint8), targets=[0, 9, 5])
    monkeypatch.delenv("SPQ_DATA", raising=False)
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path))
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", lambda *_, **__: fetched)
    images = open_images("cifar10:train")
    assert (images.labels.tolist(), value_of(images, 2), images.ids) == ([0, 9, 5], 7, ["0", "1", "2"])


def test_a_folder_whose_name_starts_with_a_tilde_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~pics").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "~pics" / "a.png")
    assert open_images("~pics").ids == ["a.png"]
    monkeypatch.setenv("HOME", str(tmp_path / "~pics"))
    assert open_images("~/").ids == ["a.png"]
    with pytest.raises(DataError, match="no such folder or file: ~nobody here"):
        open_images("~nobody here")


# ---- what is not there, and subsets


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("nowhere", "no such folder or file: nowhere; check the path"),
        ("no*.parquet", r"no such folder or file: no\*.parquet"),
        ("cifar10", "cifar10 needs a part; use cifar10:train or cifar10:test"),
        ("sample:validation", "sample:validation has no such part; use sample:train or sample:test"),
        ("notes.txt", "is not a folder, Parquet file, tar or named set"),
        ("photo.jpg", r"photo\.jpg is a single picture; give the folder that it is in"),
        ("empty", "no pictures in empty; it is empty: mount its disk, or give a folder with"),
        ("mirflickr:empty", r"mirflickr:empty lacks im1\.jpg"),
        ("nuswide:empty", r"nuswide:empty lacks Imagelist\.txt"),
    ],
)
def test_a_wrong_collection_is_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, reason: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("notes.txt", "photo.jpg"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=reason) as raised:
        open_images(spec)
    assert len(str(raised.value).splitlines()) == 1


def test_a_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(folder.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot list .*: Permission denied; make the folder readable"):
        open_images(put(tmp_path, "a.jpg"))


def test_a_subset_is_a_complete_collection(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label,n\na.jpg,x,1\nb.jpg,y,2\nc.jpg,x,3\n")
    whole = open_images(tmp_path)
    part = subset(subset(whole, [2, 1, 0]), [0, 2], "part")
    assert (part.name, part.ids, part.labels.tolist()) == ("part", ["c.jpg", "a.jpg"], [0, 0])
    assert part.metadata == {"n": ["3", "1"]}
    assert (value_of(part, 0), part.read(1), part.stat(1), part.path(0)) == (
        20,
        jpeg(0),
        whole.stat(0),
        tmp_path / "c.jpg",
    )
    assert len(subset(whole, [])) == 0


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()), pa.large_binary()])
def test_parquet_pictures_may_be_bytes_of_any_arrow_type(tmp_path: Path, kind: Any) -> None:
    pq.write_table(pa.table({"photo": pa.array([jpeg(10), jpeg(200)]).cast(kind)}), tmp_path / "a.parquet")
    images = open_images(tmp_path / "a.parquet")
    assert [round(np.asarray(images.image(i)).mean()) for i in range(2)] == [10, 200]
    assert images.stat(1)[0] == len(jpeg(200))


@pytest.mark.parametrize("text", [pa.large_string(), pa.string_view()])
def test_parquet_paths_may_be_text_of_any_arrow_type(tmp_path: Path, text: Any) -> None:
    kind = pa.struct([("bytes", pa.large_binary()), ("path", text)])
    rows = [{"bytes": jpeg(1), "path": "a.jpg"}, {"bytes": jpeg(2), "path": "b.jpg"}]
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "a.parquet")
    assert list(open_images(tmp_path / "a.parquet").ids) == ["a.jpg", "b.jpg"]


def test_labels_that_are_true_or_false_keep_these_names(tmp_path: Path) -> None:
    images = open_images(parquet(tmp_path / "a.parquet", [1, 2, 3], [True, None, False]))
    assert images.class_names == ["false", "true"]
    assert images.labels is not None
    assert images.labels.tolist() == [1, -1, 0]


@pytest.mark.parametrize("folder", ["", "train/", "__MACOSX/"])
def test_files_that_macos_puts_into_a_tar_are_passed_over(tmp_path: Path, folder: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (
            (f"{folder}._1.jpg", b"\0\5\x16\7"),
            (f"{folder}1.jpg", jpeg(7)),
            (f"{folder}2.jpg~", jpeg(8)),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    ids = open_images(tmp_path / "a.tar").ids
    assert [id_.removeprefix(folder) for id_ in ids] in (["1", "2"], ["1", "2.jpg~"])


def test_content_decides_where_a_name_says_too_little(tmp_path: Path) -> None:
    """No suffix, the suffix of a format that is not read, or more behind the suffix."""
    names = ["IMG_0001", "really-jpeg.jxl", "a.jpg~", "b.JPG_original", "c.jpeg (1)", "d.png!large", "e.thm"]
    for name in names:
        (tmp_path / name).write_bytes(jpeg(9))
    for name in ("README", "Makefile", "empty", "drawing.svg", "notes.txt"):
        (tmp_path / name).write_bytes(b"" if name == "empty" else b"<svg> all: text")
    os.mkfifo(tmp_path / "pipe")
    images = open_images(tmp_path)
    assert list(images.ids) == sorted(names)
    assert dict(images.aside.other) == {".svg": 1}
    assert images.unopened == []
    assert {id_ for id_ in [*names, "README", "drawing.svg", "pipe"] if file_of(tmp_path, id_)} == set(names)


def test_patterns_that_match_nothing_are_named_when_they_are_given(tmp_path: Path) -> None:
    put(tmp_path / "a", "raw/1.jpg", "2.png")
    put(tmp_path / "b", "3.jpg")
    images = open_images(
        [tmp_path / "a", tmp_path / "b"], exclude=["raw", "{raw,2.png}", "screens"], include=["*", "b/3*"]
    )
    assert images.ids == ["a/2.png", "b/3.jpg"]
    assert [pattern for pattern, _ in images.remarks] == ["{raw,2.png}", "screens"]
    assert open_images(images.source).remarks == []  # they are remembered, and may match later


@pytest.mark.parametrize(("exclude", "include"), [(["a"], ["a/1.jpg"]), (["*"], ["1.jpg", "b"])])
def test_patterns_that_leave_nothing_together_are_both_named(
    exclude: list[str], include: list[str], tmp_path: Path
) -> None:
    put(tmp_path, "a/1.jpg", "2.jpg")
    with pytest.raises(DataError, match=f"`exclude` .* with `include` {include[0]}.* leaves no picture"):
        open_images(tmp_path, exclude=exclude, include=include)


def test_a_link_that_leads_nowhere_is_no_collection(tmp_path: Path) -> None:
    for name, target in (("gone", tmp_path / "disk"), ("circle", tmp_path / "circle")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(DataError, match=f"{name} is a link that leads nowhere"):
            open_images(tmp_path / name)


@pytest.mark.parametrize("others", [(), ("@eaDir/1.jpg", ".DS_Store")])
def test_an_empty_folder_may_be_one_whose_disk_is_not_mounted(others: tuple[str, ...], tmp_path: Path) -> None:
    put(tmp_path, *others)
    with pytest.raises(
        DataError, match=r"no pictures in .*; (it is empty: mount its disk|those in @eaDir are passed over)"
    ):
        open_images(tmp_path)


def test_pictures_of_a_tar_that_are_links_are_named(tmp_path: Path) -> None:
    file = tar(tmp_path / "a.tar", {"x/1.jpg": jpeg(0), "2.jpg": jpeg(1)})
    with tarfile.open(file, "a") as archive:
        for name, kind in (("soft.jpg", tarfile.SYMTYPE), ("x/hard.png", tarfile.LNKTYPE), ("notes", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "x/1.jpg"
            archive.addfile(link)
    images = open_images(file)
    assert images.ids == ["x/1", "2"]
    assert [name for name, _ in images.unopened] == ["soft.jpg", "x/hard.png"]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("folder", [b"f\xfcr", b"\xff \xfe"])
def test_containers_are_read_in_a_folder_whose_name_is_not_utf8(tmp_path: Path, folder: bytes) -> None:
    place = tmp_path / os.fsdecode(folder)
    place.mkdir()
    pq.write_table(pa.table({"photo": [jpeg(0), jpeg(1)], "stars": [3, 4]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(place / "a.parquet")
    images = open_images(place / "a.parquet")
    assert images.image(1).size == (8, 8)
    assert images.metadata["stars"] == ["3", "4"]


def test_the_file_that_has_another_layout_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [jpeg(0)]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet has no column of pictures, only url"):
        open_images(str(tmp_path / "*.parquet"))
