from __future__ import annotations

from pathlib import Path

import pytest

from spq.common.checked_json import NewerFormatError, read_checked, write_checked
from spq.common.json_file import JsonError

CONTENT = {"revision": 3, "paths": ["é.jpg", "caf\udce9.jpg"], "share": 0.1, "none": None}


def test_content_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_checked(tmp_path / "a.json", CONTENT, 2)
    assert read_checked(tmp_path / "a.json", 2) == read_checked(tmp_path / "a.json", 3) == CONTENT
    with pytest.raises(NewerFormatError, match="format 2, and this spq reads up to 1; update spq"):
        read_checked(tmp_path / "a.json", 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.1", b"0.2"),
        (b"revision", b"Revision"),
        (b'"format":1', b'"format":"1"'),
        (b"content", b"contents"),
        (b"}", b""),
    ],
)
def test_any_other_content_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    file = tmp_path / "a.json"
    write_checked(file, CONTENT, 1)
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(JsonError):
        read_checked(file, 1)
