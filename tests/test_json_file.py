from __future__ import annotations

import os
from pathlib import Path

import pytest

from spq.common.json_file import JsonError, parse_json, read_json

DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * DEEP + "]" * DEEP, "nested too deep"),
        ('{"a":' * DEEP + "1" + "}" * DEEP, "nested too deep"),
        ('{"a": NaN}', "NaN is no finite number"),
        ("[-Infinity]", "-Infinity is no finite number"),
        ("1e999", "1e999 is no finite number"),
        ("1" * 5000, "too many digits"),
        ('{"a": 1, "b": {}, "a": 2}', "the key 'a' twice"),
        (b'{"a": "\xff"}', "no UTF-8 at byte 7"),
        ('{"a": ', "no JSON: "),
        ("", "no JSON: "),
    ],
)
def test_all_that_is_wrong_with_json_is_one_error_in_one_line(text: str | bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(JsonError, match=reason) as caught:
        parse_json(text)
    assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(JsonError, match=reason):
        read_json(tmp_path / "a.json")


def test_only_regular_files_of_a_limited_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(JsonError, match="it is not a regular file"):
            read_json(place)
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")
    (tmp_path / "a.json").write_text("[1, 2]")
    assert read_json(tmp_path / "a.json", most=6) == [1, 2]
    with pytest.raises(JsonError, match="6 bytes are more than 5"):
        read_json(tmp_path / "a.json", most=5)
