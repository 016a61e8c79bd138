from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from formats import drawing, encoded, raw_of
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
        (Shot("A", 111.0), False, True),
        (Shot("A", 100.0 + 3600), False, False),  # two time zones: the pixels decide
        (Shot("A", 100.0 - 5.5 * 3600), False, False),
        (Shot("A", 100.0 + 3630), False, True),
        (Shot("A", 100.0, settings=(0.01, 0.0, 100.0)), True, False),  # those of one are unknown
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


@pytest.mark.parametrize(
    ("settings", "is_other"),
    [
        ((1 / 50, 8.0, 100.0), True),
        ((1 / 100, 5.6, 100.0), True),
        ((0.01, 8.0, 400.0), True),
        ((0.0101, 8.0, 100.0), False),
    ],
)
def test_other_settings_tell_the_shots_of_a_bracket_apart(settings: tuple[float, ...], is_other: bool) -> None:
    for seconds in (100.0, None):
        first, second = Shot("A", seconds, settings=(1 / 100, 8.0, 100.0)), Shot("A", seconds, settings=settings)
        assert first.is_other_shot(second) == second.is_other_shot(first) == is_other
    assert not Shot("", settings=(0.01, 8.0, 100.0)).is_other_shot(Shot("", settings=settings))


def test_settings_place_and_words_are_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x10F], exif[0x110] = "Make", "X100"
    inner = exif.get_ifd(0x8769)
    inner[0x829A], inner[0x829D], inner[0x8827] = 1 / 125, 4.0, 200
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 10.0, 5.0)})
    photo = Image.new("RGB", (40, 30), "red")
    photo.save(tmp_path / "a.jpg", exif=exif)
    photo.save(tmp_path / "b.jpg", xmp=b"<x:xmpmeta><dc:subject>cat</dc:subject></x:xmpmeta>")
    rated = Image.Exif()
    rated[0x4746] = 4
    photo.save(tmp_path / "c.png", exif=rated)
    photo.save(tmp_path / "d.jpg", xmp=b"<x:xmpmeta/>")
    save(tmp_path / "e.jpg", "Make", "2024:05:01 10:00:00")
    images = open_images(tmp_path)
    shots = [read_shot(images, n) for n in range(5)]
    assert shots[0].settings == pytest.approx((1 / 125, 4.0, 200.0))
    assert [set(shot.tells) for shot in shots] == [{"place"}, {"words"}, {"words"}, set(), {"date"}]


def test_formats_that_keep_pixels_exactly_are_known_by_their_content(tmp_path: Path) -> None:
    photo = Image.radial_gradient("L").resize((40, 30)).convert("RGB")
    for name, options in {
        "1.png": {}, "2.bmp": {}, "3.ppm": {}, "4.tga": {}, "5.tif": {"compression": "tiff_lzw"}, "6.tif": {},
        "7.webp": {"lossless": True}, "8.jpg": {"quality": 100}, "9.webp": {"quality": 100},
        "a.tif": {"compression": "jpeg"},
    }.items():  # fmt: skip
        photo.save(tmp_path / name, **options)
    photo.convert("RGBA").save(tmp_path / "b.webp", lossless=True, icc_profile=b"profile", exif=Image.Exif())
    photo.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "c.png")  # of a photo, its best 256 colours
    photo.save(tmp_path / "d.gif")
    (tmp_path / "e.jpg").write_bytes((tmp_path / "1.png").read_bytes())
    images = open_images(tmp_path)
    found = {images.ids[n][0] for n in range(len(images)) if read_shot(images, n).is_lossless}
    assert found == set("1234567be")


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_raw_of_a_camera_is_known_and_has_no_pages(order: str, tmp_path: Path) -> None:
    photo = drawing()
    for name, tags in (("a.dng", {0xC612: (4, 1025)}), ("b.nef", {0x112: (3, 6)}), ("c.tif", {0xC612: (4, 1025)})):
        (tmp_path / name).write_bytes(raw_of(photo, order, tags, encoded(photo, "JPEG")))
    photo.save(tmp_path / "d.dng", "TIFF")
    photo.save(tmp_path / "e.jpg")
    images = open_images(tmp_path)
    shots = [read_shot(images, n) for n in range(len(images))]
    assert [shot.is_raw for shot in shots] == [True, True, True, False, False]
    assert not any(shot.has_pages for shot in shots)
