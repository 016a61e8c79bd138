"""File names as text that can be printed, and as ids."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from spq.common.text import cell, name_to_id, printable

ANY = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
NAMES = st.binary().map(os.fsdecode)


@given(ANY)
def test_printable_text_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


def test_ordinary_names_are_printed_as_they_are() -> None:
    for name in ("summer/été 1.jpg", "写真.png", "two  spaces.jpg", ""):
        assert printable(name) == name


def test_bytes_that_are_not_utf_8_and_line_breaks_are_replaced() -> None:
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == "caf?.jpg"
    assert printable("two\nlines\r\nand three") == "two\\x0alines\\x0d\\x0aand three"


def test_text_that_a_spreadsheet_would_run_is_neutralised() -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1", "\t=1", "\r=1", "\n=1"):
        assert cell(text) == f"'{text}"
    for value in ("a=1", " =1", "", 3, -3, 0.5, None):
        assert cell(value) == value


@given(NAMES, NAMES)
def test_different_names_have_different_ids_that_can_be_stored(one: str, other: str) -> None:
    name_to_id(one).encode()
    assert (name_to_id(one) == name_to_id(other)) == (one == other)


def test_an_id_looks_like_the_name() -> None:
    assert name_to_id("summer/été.jpg") == "summer/été.jpg"
    assert name_to_id(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    assert name_to_id("caf\\xe9.jpg") == "caf\\\\xe9.jpg"
