from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from spq.data.open import open_images
from spq.dupes.exif import Shot, read_shot


def save(path: Path, make: str = "", taken: str = "", fraction: str = "") -> None:
    exif = Image.Exif()
    if make:
        exif[0x10F], exif[0x110] = make, "X100"
    inner = exif.get_ifd(0x8769)
    if taken:
        inner[0x9003] = taken
    if fraction:
        inner[0x9291] = fraction
    Image.new("RGB", (40, 30), "red").save(path, exif=exif)


def test_camera_and_time_are_read_and_missing_or_damaged_data_are_no_error(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", "Make", "2024:05:01 10:00:00", "25")
    save(tmp_path / "b.png", "Make", "2024:05:01 10:00:03")
    save(tmp_path / "c.jpg")
    save(tmp_path / "d.jpg", "Make", "0000:00:00 00:00:00")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    start = data.index(b"Exif\0\0") + 6
    data[start + 8 : start + 30] = b"\xff" * 22
    (tmp_path / "e.jpg").write_bytes(data)
    images = open_images(tmp_path)
    shots = [read_shot(images, position) for position in range(5)]
    assert shots[0].camera == shots[1].camera == "Make X100"
    assert shots[0].seconds is not None
    assert shots[1].seconds is not None
    assert shots[1].seconds - shots[0].seconds == 2.75
    assert (shots[0].is_exact, shots[1].is_exact) == (True, False)
    assert shots[2] == Shot()
    assert shots[3] == Shot("Make X100")
    assert shots[4].camera == ""


@pytest.mark.parametrize(
    ("other", "is_near", "is_other"),
    [
        (Shot("A", 100.0), True, False),  # perhaps copies
        (Shot("A", 101.0), True, True),
        (Shot("A", 100.4, True), True, False),  # the fraction of one is unknown
        (Shot("A", 111.0), False, False),  # hours apart, or a clock that was set: the pixels decide
        (Shot("B", 101.0), False, False),
        (Shot("", 101.0), False, False),
        (Shot("A"), False, False),
    ],
)
def test_shots_of_one_camera_within_seconds_belong_together(other: Shot, is_near: bool, is_other: bool) -> None:
    shot = Shot("A", 100.0)
    assert (shot.is_near(other), other.is_near(shot)) == (is_near, is_near)
    assert (shot.is_other_shot(other), other.is_other_shot(shot)) == (is_other, is_other)


def test_fractions_of_a_second_tell_shots_apart() -> None:
    assert Shot("A", 100.2, True).is_other_shot(Shot("A", 100.5, True))
    assert not Shot("A", 100.2, True).is_other_shot(Shot("A", 100.2, True))
