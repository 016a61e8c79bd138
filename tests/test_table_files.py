"""Tables of any program, read row by row."""

from __future__ import annotations

import codecs
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spq.data.table_files import TableFile
from spq.errors import DataError

ROWS = [
    {"file_name": "a.jpg", "place": "Zürich, HB", "n": "1"},
    {"file_name": "b.jpg", "place": 'a "big" one', "n": ""},
]


def read(path: Path, content: bytes | str) -> tuple[list[dict[str, str]], str]:
    """Rows and remarks of a table."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    table = TableFile(path)
    return list(table.rows()), "; ".join(table.remarks)


def csv_text(separator: str, end: str = "\n") -> str:
    rows = [("file_name", "place", "n"), ("a.jpg", '"Zürich, HB"', "1"), ("b.jpg", '"a ""big"" one"', "")]
    return "".join(separator.join(row) + end for row in rows)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_csv_is_read_with_any_separator_line_end_and_mark(
    tmp_path: Path, separator: str, end: str, encoding: str
) -> None:
    assert read(tmp_path / "t.csv", csv_text(separator, end).encode(encoding)) == (ROWS, "")


def test_utf_16_of_the_other_byte_order_and_lines_before_the_header_are_read(tmp_path: Path) -> None:
    text = '\n;;\r\n"sep=;"\r\n' + csv_text(";")
    text = text.replace("\n;;\r\n", "\r\n")
    assert read(tmp_path / "t.csv", codecs.BOM_UTF16_BE + text.encode("utf-16-be")) == (ROWS, "")


def test_the_separator_is_decided_by_the_header_alone(tmp_path: Path) -> None:
    many = "file_name;note\n" + "a.jpg;one, two, three, four\n" * 3
    rows, _ = read(tmp_path / "t.csv", many)
    assert rows[0] == {"file_name": "a.jpg", "note": "one, two, three, four"}
    rows, _ = read(tmp_path / "t.csv", "File_Name,LABEL,Note\na.jpg,cat,x\n")
    assert rows == [{"file_name": "a.jpg", "label": "cat", "Note": "x"}]
    rows, _ = read(tmp_path / "t.csv", "file_name,label,Label\na.jpg,cat,x\n")
    assert rows == [{"file_name": "a.jpg", "label": "cat", "Label": "x"}]
    rows, _ = read(tmp_path / "t.csv", "note,File_Name\nx;y;z,a.jpg\n")
    assert rows == [{"note": "x;y;z", "file_name": "a.jpg"}]
    assert read(tmp_path / "t.csv", "file_name\na.jpg\n") == ([{"file_name": "a.jpg"}], "")


def test_a_csv_of_windows_is_read_and_said(tmp_path: Path) -> None:
    rows, remarks = read(tmp_path / "t.csv", csv_text(";").encode("cp1252"))
    assert rows == ROWS
    assert remarks.startswith("it is not UTF-8, so it was read as Windows-1252")


def test_a_cell_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    rows, remarks = read(tmp_path / "t.csv", f'file_name,text\na.jpg,"{"x" * 300_000}"\nb.jpg,y\n')
    assert ([len(row["text"]) for row in rows], remarks) == ([300_000, 1], "")


def test_broken_rows_are_counted_and_the_others_are_used(tmp_path: Path) -> None:
    text = 'file_name,x\na.jpg,1\nb.jpg,"2"3\nc.jpg,Rome, Italy\nd.jpg,4,,\ne.jpg\nf.jpg,"5\n'
    rows, remarks = read(tmp_path / "t.csv", text)
    assert [row["file_name"] for row in rows] == ["a.jpg", "d.jpg", "e.jpg"]
    assert remarks.startswith("3 rows are broken and not used, first line 3: ")


def test_of_two_columns_of_one_name_the_first_is_used(tmp_path: Path) -> None:
    rows, remarks = read(tmp_path / "t.csv", "file_name,tag,file_name,tag,,\na.jpg,one,b.jpg,two,,\n")
    assert rows == [{"file_name": "a.jpg", "tag": "one"}]
    assert remarks == "columns are there more than once: file_name, tag; the first one is used"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", b"Album;Date\nHoliday;2024-05-01\n", "no column file_name, only Album, Date; rename"),
        ("t.csv", b'"Path","Size"\n1,2\n', "no column file_name, only Path, Size"),
        ("t.csv", b"", "it is empty"),
        ("t.csv", b"\n\n;;\n", "it is empty"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is not a text file"),
        ("t.jsonl", b"", "it is empty"),
        ("t.jsonl", b'{"image": "a.jpg"}\n', "no column file_name, only image"),
        ("t.jsonl", b"[1, 2]\nnothing\n", "no line with a JSON object; write"),
        ("t.parquet", b"PAR1 but not really PAR1", "not readable as Parquet"),
    ],
)
def test_a_foreign_or_broken_table_says_why_it_cannot_be_used(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        read(tmp_path / name, content)


def test_a_table_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(TableFile(tmp_path / "t.csv").rows())


def test_json_lines_may_nest_and_may_have_broken_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps({"file_name": "a.jpg", "text": "é", "n": 1, "ok": True, "none": None, "tags": ["x", "y"]}),
        "",
        "{broken",
        "[" * 100_000,
        '"text"',
        json.dumps({"file_name": "b.jpg", "objects": {"bbox": [[1, 2]]}, "label": ["sky", "sea"], "lone": "\ud800"}),
        json.dumps({"text": "no name"}),
    ]
    rows, remarks = read(tmp_path / "t.jsonl", "\ufeff" + "\r\n".join(lines))
    assert rows == [
        {"file_name": "a.jpg", "text": "é", "n": "1", "ok": "true", "none": "", "tags": "x|y"},
        {"file_name": "b.jpg", "objects": '{"bbox": [[1, 2]]}', "labels": "sky|sea", "lone": "\ufffd"},
    ]
    assert remarks == "3 rows are broken and not used, first line 3"


def test_parquet_cells_are_text_and_nested_columns_are_named(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "file_name": ["a.jpg", None],
        "day": [datetime.date(2024, 5, 1)] * 2,
        "image": [b"bytes"] * 2,
        "hash": pa.array([b"16 bytes of hash"] * 2, pa.binary(16)),
        "price": pa.array([1, 2]).cast(pa.decimal128(21, 2)),
        "boxes": [{"x": 1}] * 2,
        "label": [["sky", "sea"]] * 2,
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = TableFile(tmp_path / "t.parquet")
    assert list(table.rows()) == [{"file_name": "a.jpg", "day": "2024-05-01", "price": "1.00", "labels": "sky|sea"}]
    assert table.remarks == ["columns that are nested, or there twice, are not used: image, hash, boxes"]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["t.csv", "t.jsonl"]),
    st.sampled_from([b"", b"file_name\n", b"file_name;label\na.jpg;", b"\xff\xfe", b'{"file_name": ', b"sep=,\n"]),
    st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))),
)
def test_any_bytes_are_rows_or_one_reason(tmp_path: Path, name: str, head: bytes, tail: bytes) -> None:
    rows, said = list[dict[str, str]](), ""
    try:
        rows, said = read(tmp_path / name, head + tail)
    except DataError as error:
        said = str(error)
    assert all(row["file_name"] for row in rows)
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize("broken", ['a.jpg,"open', '"a.jpg,x', 'a.jpg,"x" y'])
@pytest.mark.parametrize("after", ["b.jpg,y\nc.jpg,z\n", 'b.jpg,"y"\nc.jpg,z', 'b.jpg,"y"\r\nc.jpg,"z"\r\n'])
def test_a_quote_that_nothing_closes_costs_its_line_alone(tmp_path: Path, broken: str, after: str) -> None:
    rows, remarks = read(tmp_path / "t.csv", f"file_name,tag\n{broken}\n{after}")
    assert rows == [{"file_name": "b.jpg", "tag": "y"}, {"file_name": "c.jpg", "tag": "z"}]
    assert remarks.startswith("1 row is broken and not used, first line 2: ")


def test_many_open_quotes_do_not_take_long(tmp_path: Path) -> None:
    lines = [f'{n}.jpg,"open' for n in range(20_001)]
    rows, remarks = read(tmp_path / "t.csv", "file_name,tag\n" + "\n".join(lines))
    assert rows == []
    assert "rows are broken and not used, first line 2" in remarks


@pytest.mark.parametrize(("name", "cell"), [("t.csv", "a\0b"), ("t.csv", "\0ab\0"), ("t.jsonl", "a\\u0000b")])
def test_zeros_in_cells_are_left_out(tmp_path: Path, name: str, cell: str) -> None:
    text = f"file_name,tag\na.jpg,{cell}\n" if name == "t.csv" else f'{{"file_name": "a.jpg", "tag": "{cell}"}}\n'
    assert read(tmp_path / name, text) == ([{"file_name": "a.jpg", "tag": "ab"}], "")


def test_a_name_of_a_column_may_have_line_breaks_and_quotes(tmp_path: Path) -> None:
    rows, remarks = read(tmp_path / "t.csv", 'file_name,"two\nlines","a ""b"""\na.jpg,1,2\nb.jpg,"3\n4",5,6\n')
    assert rows == [{"file_name": "a.jpg", "two\nlines": "1", 'a "b"': "2"}]
    assert "first line 5: more cells than columns" in remarks
    with pytest.raises(DataError, match="no column file_name"):
        read(tmp_path / "t.csv", 'name,"never closed\na.jpg,1\n')
