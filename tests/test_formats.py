"""Which files count as pictures, and that only regular files are read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from spq.data import formats
from spq.data.formats import (
    EXTENSIONS,
    NOT_READ,
    OTHER_PICTURES,
    is_heif,
    kind_of,
    needs_heif,
    read_file,
    register_heif,
    why_unknown,
)
from spq.errors import ImageError


def heic(brand: bytes = b"heic", *more: bytes) -> bytes:
    box = b"ftyp" + brand + bytes(4) + b"".join(more)
    return (len(box) + 4).to_bytes(4, "big") + box + bytes(200)


def test_every_suffix_that_pillow_opens_is_known() -> None:
    Image.init()
    register_heif()
    opened = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    not_read = {suffix for suffix, name in Image.registered_extensions().items() if name in NOT_READ}
    assert opened - not_read - EXTENSIONS == set()
    assert not EXTENSIONS & (not_read | OTHER_PICTURES)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg_large", "picture"), ("A.MPO", "picture"), ("x.y.j2k", "picture"), ("x.hif", "picture"), ("x.NEF", "picture"),
        ("a.jxl", "other picture"), ("a.SVG", "other picture"), ("a.cr3", "other picture"), ("jpg", ""), ("a.jpg.txt", ""),
    ],
)  # fmt: skip
def test_a_name_tells_what_a_file_may_be(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_heic_is_known_by_its_bytes(tmp_path: Path) -> None:
    assert all(map(is_heif, (heic(), heic(b"mif1", b"mif1", b"heic"), heic(b"msf1", b"hevc"))))
    assert not any(map(is_heif, (heic(b"avif", b"mif1"), heic(b"mif1", b"avif", b"mif1"), b"ftypheic")))
    (tmp_path / "really.heic").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "other.jpg").write_bytes(heic(b"heix"))
    assert [needs_heif(tmp_path / name) for name in ("really.heic", "other.jpg", "missing.heic")] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"), (heic(), "HEIC that is damaged"), (heic(b"crx "), "a camera raw file is not read"),
        (heic(b"isom"), "a film is not read"), (b"\xff\x0a" + bytes(9), "a JPEG XL picture is not read"),
        (b"\xef\xbb\xbf  <svg/>", "an SVG drawing is not read"), (b"%PDF-1.4", "a PDF document is not read"),
        (b"\xff\xd8\xff\xc3" + bytes(9), "a JPEG of a kind that few"), (b"MM\0+\0\x08", "a TIFF without a picture"),
        (b"hello", "not a picture in a known format; save it as PNG or JPEG"),
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<SVG width="9">', "an SVG drawing is not read"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "an answer of a server in XML is not read"),
        (b'\n{"error": "rate limited"}', "an answer of a server in JSON"), (b"\r\n<HTML><body>", "a web page is not read"),
        (b"\x89PNG\r\r\n\x1a", "a PNG that is damaged"), (b"GIF89a", "a GIF that is damaged"),
        (b"\r\n\xff\xd8\xff\xe0", "not a picture in a known format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "left a pointer in place of the file; run git lfs pull"),
    ],
)  # fmt: skip
def test_what_is_not_a_picture_is_named(data: bytes, reason: str) -> None:
    assert reason in why_unknown(data)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.jpg"))
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    for path in (
        tmp_path / "pipe.jpg",
        tmp_path / "s.jpg",
        tmp_path / "link.jpg",
        Path("/dev/zero"),
        Path("/dev/null"),
    ):
        for first in (None, 64):
            with pytest.raises(ImageError, match="not a regular file"):
                read_file(path, first)
    with pytest.raises(ImageError, match="cannot read the name: Is a directory"):
        read_file(tmp_path, name="the name")


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"regular")
    there = (tmp_path / "a.jpg").stat()
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.setattr(os, "stat", lambda _: there)
    with pytest.raises(ImageError, match="not a regular file"):
        read_file(tmp_path / "pipe.jpg")
    writer = os.open(tmp_path / "pipe.jpg", os.O_RDWR | os.O_NONBLOCK)  # a pipe that is open and brings nothing
    monkeypatch.setattr(os, "fstat", lambda _: there)  # as files of the kernel, which say that they are regular
    for first in (None, 64):
        with pytest.raises(ImageError, match="not a regular file"):
            read_file(tmp_path / "pipe.jpg", first)
    os.close(writer)


def test_a_file_is_read_in_full_in_part_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"0123456789")
    assert (read_file(tmp_path / "a.jpg"), read_file(tmp_path / "a.jpg", 3)) == (b"0123456789", b"012")
    monkeypatch.setattr(formats, "MAX_BYTES", 9)
    with pytest.raises(ImageError, match="10 bytes are over the limit of 9"):
        read_file(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="No such file"):
        read_file(tmp_path / "b.jpg")
