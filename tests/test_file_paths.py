from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from PIL import Image

from spq.cli.file_paths import file_fields, file_finder, print_paths
from spq.data.source import Source


@pytest.mark.parametrize("name", [b"/d/caf\xe9.jpg", b"/\xff\xfe/x.png", "/d/été\n.jpg".encode()])
def test_the_real_bytes_of_a_name_are_recoverable(name: bytes, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    fields = file_fields(os.fsdecode(name))
    fields["file"].encode()
    assert base64.b64decode(fields["file_bytes"]) == name if "file_bytes" in fields else fields["file"].encode() == name
    print_paths([os.fsdecode(name)] * 2, with_nul=True)
    assert capfdbinary.readouterr().out == (name + b"\0") * 2


def test_a_picture_in_a_container_has_no_file() -> None:
    assert file_fields("") == {}


def test_the_file_of_an_id_is_found_in_one_folder_and_in_several(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "x").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / folder / "x" / "1.png")
    odd = os.fsencode(tmp_path / "a") + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes((tmp_path / "a" / "x" / "1.png").read_bytes())
    one = file_finder(Source((str(tmp_path / "a"),)))
    assert one("x/1.png") == str(tmp_path / "a" / "x" / "1.png")
    assert os.fsencode(one("caf\\xe9.png")) == odd
    assert one("gone.png") == ""
    several = file_finder(Source((str(tmp_path / "a"), str(tmp_path / "b"))))
    assert several("b/x/1.png") == str(tmp_path / "b" / "x" / "1.png")
    assert file_finder(Source((str(tmp_path / "away"),)))("x/1.png") == ""


def test_a_picture_below_a_folder_of_the_same_name_is_not_taken_for_another(tmp_path: Path) -> None:
    for path in ("2024/1.png", "2024/2024/1.png", "more/1.png", "more/2024/1.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / path)
    # the first was alone when it was indexed, so its ids have no prefix
    added = file_finder(Source((str(tmp_path / "2024"), str(tmp_path / "more")), prefixes=("", "more")))
    for id_, path in {
        "1.png": "2024/1.png",
        "2024/1.png": "2024/2024/1.png",
        "more/2024/1.png": "more/2024/1.png",
    }.items():
        assert added(id_) == str(tmp_path / path)
