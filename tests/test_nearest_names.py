from __future__ import annotations

import pytest

from spq.common.nearest_names import nearest_names

COLUMNS = ["path", "width", "height", "size", "time", "label", "unit price"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("widht", ["width"]),  # two letters exchanged
        ("Width", ["width"]),
        ("with", ["width"]),
        ("lable", ["label"]),
        ("labels", ["label"]),
        ("hight", ["height"]),
        ("unitprice", ["unit price"]),
        ("tize", ["size", "time"]),
        ("date", []),
        ("xyz", []),
        ("", []),
        ("label", ["label"]),
    ],
)
def test_a_name_with_a_slip_finds_what_was_meant(name: str, found: list[str]) -> None:
    assert nearest_names(name, COLUMNS) == found
