"""Tar files whose headers are wrong; test_open.py has the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spq.data.open import open_images
from spq.errors import DataError

sys.path.insert(0, str(Path(__file__).parent / "faults"))
import tables


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("names a.tar", "a header of 3,145,728 bytes is over the limit"),
        ("chain a.tar", "maximum recursion depth"),
        ("pax a.tar", "a header of 3,000,000 bytes is over the limit"),
        ("pax_size a.tar", "a member ends before it begins"),
        ("negative a.tar", "a member of negative size"),
    ],
)
def test_a_wrong_header_is_refused_in_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "a.tar").write_bytes(tables.bombs()[name]())
    with pytest.raises(DataError, match=reason):
        open_images(tmp_path / "a.tar")


def test_a_broken_label_is_one_broken_label(tmp_path: Path) -> None:
    members = {"0.jpg": tables.jpeg(0), "0.cls": b"9" * 5000, "1.jpg": tables.jpeg(1), "1.cls": b"4"}
    members |= {"2.jpg": tables.jpeg(2), "2.json": b"[" * 100_000}
    (tmp_path / "a.tar").write_bytes(tables.tar(members))
    images = open_images(tmp_path / "a.tar")
    assert images.labels is not None
    assert images.labels.tolist() == [-1, 4, -1]
    assert images.remarks[0][1] == "2 labels are broken and not used, first that of 0"
