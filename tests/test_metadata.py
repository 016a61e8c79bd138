"""Tables beside pictures: a help, never a condition."""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spq.data.open import open_images


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def write(root: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), root / "metadata.parquet")


def columns_of(root: Path, *table: str) -> dict[str, list[str]]:
    """The metadata that a CSV of these lines gives to the pictures of a folder."""
    (root / "metadata.csv").write_text("\n".join(table), "utf-8")
    return dict(open_images(root).metadata)


def test_metadata_gives_labels_and_other_columns_in_the_order_of_the_pictures(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "x/b.jpg")
    (tmp_path / "metadata.csv").write_text(
        "\ufefffile_name,label,price\nx/b.jpg,shoe,12.5\na.jpg,hat,\ngone.jpg,hat,1\n", "utf-8"
    )
    images = open_images(tmp_path)
    assert images.class_names == ["hat", "shoe"]
    assert images.labels.tolist() == [0, 1]
    assert images.metadata == {"price": ["", "12.5"]}
    assert images.remarks == []  # a row for a picture that is not there is no fault


def test_metadata_with_several_labels_a_picture_is_multi_label(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,labels\na.jpg,sky|sea\nb.jpg,sea; boat\n")
    images = open_images(tmp_path)
    assert images.class_names == ["boat", "sea", "sky"]
    assert images.labels.tolist() == [[False, True, True], [True, True, False], [False, False, False]]


@pytest.mark.parametrize("spelling", ["caf\u00e9.jpg", "cafe\u0301.jpg"])
def test_metadata_finds_accents_that_the_disk_spells_in_another_way(tmp_path: Path, spelling: str) -> None:
    put(tmp_path, "cafe\u0301.jpg", "tea.jpg")
    assert columns_of(tmp_path, "file_name,shop", f"{spelling},north") == {"shop": ["north", ""]}


def test_a_table_without_labels_leaves_those_of_the_folders(tmp_path: Path) -> None:
    put(tmp_path, "x/a.jpg", "y/b.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,shop\nx/a.jpg,north\n")
    images = open_images(tmp_path)
    assert (images.labels.tolist(), images.class_names) == ([0, 1], ["x", "y"])
    assert images.metadata == {"shop": ["north", ""]}


@pytest.mark.parametrize("row", ["b.jpg,", "b.jpg,  ", "b.jpg", ""])
def test_an_empty_label_is_no_label(tmp_path: Path, row: str) -> None:
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "metadata.csv").write_text(f"file_name,label\na.jpg,shoe\nc.jpg,hat\n{row}\n")
    images = open_images(tmp_path)
    assert (images.labels.tolist(), images.class_names, images.remarks) == ([1, -1, 0], ["hat", "shoe"], [])
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{row}\n")
    assert open_images(tmp_path).labels is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.csv", b"Album;Date\nHoliday;2024\n", "not used: it has no column file_name, only Album, Date; "),
        (
            "metadata.csv",
            b"file_name,price\nphotos/a.jpg,1\n",
            "not used: it names no picture that is here, first photos/",
        ),
        ("metadata.csv", b"\0\1\2\3", "not used: it is not a text file"),
        ("metadata.csv", b'file_name,price\n"x/a.jpg,1\n', "1 row is broken and not used, first line 2: "),
        ("metadata.csv", b"file_name,price\nx/a.jpg,\xe4\n", "it is not UTF-8, so it was read as Windows-1252; "),
        (
            "metadata.csv",
            b"file_name,price,price\nx/a.jpg,1,2\n",
            "the column is there more than once: price; the first",
        ),
        (
            "metadata.csv",
            b"file_name,n\nx/a.jpg,1\n./x/a.jpg,2\nx/a.jpg,3\n",
            "1 picture has several rows, first x/a.jpg; ",
        ),
        ("metadata.jsonl", b'{"text": "x"}\n', "not used: it has no column file_name, only text"),
        ("metadata.jsonl", b'{"file_name": "x/a.jpg"}\n{\n', "1 row is broken and not used, first line 2"),
        ("metadata.parquet", b"PAR1", "not used: it is not readable as Parquet: "),
    ],
)
def test_pictures_are_there_and_one_line_says_what_was_not_used(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    put(tmp_path, "x/a.jpg", "y/b.jpg")
    (tmp_path / name).write_bytes(content)
    images = open_images(tmp_path)
    assert (images.ids, images.class_names) == (["x/a.jpg", "y/b.jpg"], ["x", "y"])
    assert [(file, remark[: len(reason)]) for file, remark in images.remarks] == [(name, reason)]
    assert "\n" not in images.remarks[0][1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_table_without_permission_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "metadata.csv").write_text("file_name\na.jpg\n")
    (tmp_path / "metadata.csv").chmod(0)
    assert open_images(tmp_path).remarks == [("metadata.csv", "not used: cannot be read: Permission denied")]


def test_the_last_row_of_a_picture_is_used(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    assert columns_of(tmp_path, "file_name,n", "a.jpg,1", "a.jpg,2") == {"n": ["2"]}


@pytest.mark.parametrize(
    "name",
    [r"sub\b.jpg", r".\sub\b.jpg", "./sub/b.jpg", "sub//b.jpg", " sub/b.jpg ", "sub/x/../b.jpg", "{root}/sub/b.jpg"],
)
def test_a_name_may_be_a_path_of_windows_or_an_absolute_one(tmp_path: Path, name: str) -> None:
    put(tmp_path, "a.jpg", "sub/b.jpg")
    assert columns_of(tmp_path, "file_name,n", f"{name.format(root=tmp_path)},7") == {"n": ["", "7"]}


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_the_exact_name_has_priority(tmp_path: Path) -> None:
    put(tmp_path, "café.jpg", "cafe\u0301.jpg")
    found = columns_of(tmp_path, "file_name,n", "café.jpg,1", "cafe\u0301.jpg,2")
    assert dict(zip(open_images(tmp_path).ids, found["n"], strict=True)) == {"café.jpg": "1", "cafe\u0301.jpg": "2"}


def test_a_table_of_a_subfolder_describes_the_pictures_below_it(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "train/b.jpg", "train/deep/c.jpg", "test/b.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,n,place\na.jpg,1,Rome\ntrain/b.jpg,2,Oslo\n")
    (tmp_path / "train" / "metadata.jsonl").write_text(
        '{"file_name": "b.jpg", "n": 20}\n{"file_name": "deep/c.jpg", "n": 30}'
    )
    (tmp_path / "test" / "metadata.csv").write_text("Album\nx\n")
    images = open_images(tmp_path)
    facts = {id_: (images.metadata["n"][p], images.metadata["place"][p]) for p, id_ in enumerate(images.ids)}
    assert facts == {
        "a.jpg": ("1", "Rome"), "train/b.jpg": ("20", "Oslo"), "train/deep/c.jpg": ("30", ""), "test/b.jpg": ("", "")
    }  # fmt: skip
    assert [file for file, _ in images.remarks] == ["test/metadata.csv"]


def test_of_two_tables_the_first_usable_one_is_used_and_the_other_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    write(tmp_path, file_name=["a.jpg"], n=[2])
    assert columns_of(tmp_path, "file_name,n", "a.jpg,1") == {"n": ["1"]}
    assert open_images(tmp_path).remarks == [("metadata.parquet", "not used, because metadata.csv is")]
    assert columns_of(tmp_path, "Album", "x") == {"n": ["2"]}
    assert [file for file, _ in open_images(tmp_path).remarks] == ["metadata.csv"]


def test_all_kinds_of_tables_with_the_same_rows_are_the_same(photos: Path) -> None:
    ids = open_images(photos).ids
    rows = [(name, name[0], str(number), "" if number % 3 else "north") for number, name in enumerate(ids[:50])]
    names = ("file_name", "labels", "price", "shop")
    (photos / "metadata.csv").write_text("\n".join(map(";".join, [names, *rows])), "utf-8")
    found = [open_images(photos)]
    (photos / "metadata.csv").unlink()
    (photos / "metadata.jsonl").write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    found.append(open_images(photos))
    (photos / "metadata.jsonl").unlink()
    write(photos, **dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    found.append(open_images(photos))
    for images in found:
        assert (images.ids, images.class_names) == (ids, sorted({name[0] for name in ids[:50]}))
        assert images.metadata == found[0].metadata
        assert images.labels.tolist() == found[0].labels.tolist()
        assert images.metadata["price"][:2] == ["0", "1"]


def test_cells_of_plain_types_become_text_and_others_are_skipped(photos: Path) -> None:
    ids = open_images(photos).ids
    n = len(ids)
    write(
        photos,
        file_name=ids,
        label=pa.array(["hat", "shoe"] * (n // 2)).dictionary_encode(),
        price=[None, 2.5] * (n // 2),
        stock=list(range(n)),
        new=[True, False] * (n // 2),
        day=[datetime.date(2024, 5, 1)] * n,
        moment=[datetime.datetime(2024, 5, 1, 12, 30)] * n,
        tags=[["a", "b"]] * n,
        image=[b"bytes"] * n,
        boxes=[{"x": 1}] * n,
    )
    images = open_images(photos)
    assert images.class_names == ["hat", "shoe"]
    assert {key: column[1] for key, column in images.metadata.items()} == {
        "price": "2.5", "stock": "1", "new": "false", "day": "2024-05-01", "moment": "2024-05-01T12:30:00", "tags": "a|b"
    }  # fmt: skip
    assert images.metadata["price"][0] == ""


@pytest.mark.parametrize("name", ["label", "labels"])
def test_a_list_of_labels_is_multi_label(photos: Path, name: str) -> None:
    ids = open_images(photos).ids
    write(photos, **{"file_name": ids[:2], name: [["sea", "sky"], ["sky"]]})
    images = open_images(photos)
    assert images.class_names == ["sea", "sky"]
    assert images.labels[:3].tolist() == [[True, True], [False, True], [False, False]]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_parquet_file_never_stops_a_folder(tmp_path: Path, damage: int, byte: int) -> None:
    if not (tmp_path / "whole").exists():
        put(tmp_path, "a.jpg")
        write(tmp_path, file_name=["a.jpg"], label=["x"])
        (tmp_path / "whole").write_bytes((tmp_path / "metadata.parquet").read_bytes())
    content = bytearray((tmp_path / "whole").read_bytes())
    content[damage % len(content)] = byte
    (tmp_path / "metadata.parquet").write_bytes(content[: damage * 2])
    images = open_images(tmp_path)
    assert images.ids == ["a.jpg"]
    assert all("\n" not in remark for _, remark in images.remarks)


def test_a_table_may_write_names_in_other_capital_letters(tmp_path: Path) -> None:
    put(tmp_path, "IMG_1.JPG", "Trip/É.png", "same.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "SAME.jpg")
    found = columns_of(tmp_path, "file_name,n", "img_1.jpg,1", "trip/e\u0301.PNG,2", "Same.JPG,3", "same.jpg,4")
    by_name = dict(zip(open_images(tmp_path).ids, found["n"], strict=True))
    assert by_name == {"IMG_1.JPG": "1", "SAME.jpg": "", "Trip/É.png": "2", "same.jpg": "4"}


def test_a_table_most_of_whose_rows_name_other_pictures_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,n\nx/1.jpg,1\na.jpg,2\nx/2.jpg,3\n")
    assert open_images(tmp_path).remarks == [("metadata.csv", "2 rows name no picture that is here, first x/1.jpg")]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_table_that_is_no_regular_file_is_told_and_never_opened(tmp_path: Path, name: str) -> None:
    put(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / name)
    assert open_images(tmp_path).remarks == [(name, "not used: it is not a regular file")]
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert open_images(tmp_path).remarks == [(name, "not used: it is not a regular file")]


@pytest.mark.parametrize("name", ["METADATA.CSV", "Metadata.csv", "sub/metadata.Csv"])
def test_the_name_of_a_table_may_be_in_other_capital_letters(tmp_path: Path, name: str) -> None:
    put(tmp_path, "sub/a.jpg", "sub/b.jpg")
    path = "a.jpg" if "/" in name else "sub/a.jpg"
    (tmp_path / name).write_text(f"file_name,n\n{path},1\n")
    images = open_images(tmp_path)
    assert (images.metadata, images.remarks) == ({"n": ["1", ""]}, [])


def test_a_table_without_pictures_beside_it_is_told_unless_patterns_left_them_out(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "x/b.jpg")
    for folder in ("labels", "labels/deep", "x"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "metadata.csv").write_text("file_name,n\nb.jpg,1\n")
    told = open_images(tmp_path).remarks
    assert [name for name, _ in told] == ["labels/metadata.csv", "labels/deep/metadata.csv"]
    assert all(remark.startswith("not used: no picture is taken from its folder") for _, remark in told)
    assert open_images(tmp_path, exclude=["b.jpg"]).remarks == []
    (tmp_path / "metadata.csv").write_text("of another program\n")
    assert next(name for name, _ in open_images(tmp_path).remarks) == "metadata.csv"
    assert open_images(tmp_path, exclude=["metadata.csv"]).remarks == []


@pytest.mark.parametrize("content", ["file_name,label\n", "file_name\n\n\n", "\ufefffile_name;label\r\n;x\r\n"])
def test_a_table_without_rows_is_told(tmp_path: Path, content: str) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "metadata.csv").write_text(content, "utf-8")
    assert open_images(tmp_path).remarks == [("metadata.csv", "not used: it has no row with a file name")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
@pytest.mark.parametrize("folder", [b"f\xfcr", b"\xff\xfe", b"back\\slash"])
def test_a_table_in_a_folder_of_any_name_is_used(tmp_path: Path, folder: bytes) -> None:
    root = tmp_path / os.fsdecode(folder)
    put(root, "a.jpg", "b.jpg")
    (root / "metadata.csv").write_text("file_name,n\nb.jpg,1\n")
    assert open_images(tmp_path).metadata == {"n": ["", "1"]}
    (root / "metadata.csv").unlink()
    pq.write_table(pa.table({"file_name": ["a.jpg"], "n": [2]}), tmp_path / "m.parquet")
    (tmp_path / "m.parquet").rename(root / "metadata.parquet")
    assert open_images(root).metadata == {"n": ["2", ""]}
