"""HEIC pictures, as phones write them. `test_pictures_read` holds the formats, damaged ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from drawn import photo
from formats import encoded
from spq.data.decode import load_image
from spq.data.formats import register_heif
from spq.data.open import open_images
from spq.dupes.find import find_duplicates
from spq.errors import ImageError
from test_colour import PROFILES
from test_find import with_exif

register_heif()


def test_a_heic_original_is_kept_before_the_jpeg_that_a_messenger_made_of_it(tmp_path: Path) -> None:
    picture = photo(3, (480, 360))
    picture.save(tmp_path / "IMG_0001.HEIC", quality=80, exif=with_exif(1).tobytes())
    read = load_image(tmp_path / "IMG_0001.HEIC")
    read.save(tmp_path / "a.jpg", quality=85)
    read.rotate(180).save(tmp_path / "turned.jpg", quality=90)
    groups = find_duplicates(None, open_images(tmp_path)).groups
    assert [(group.keep.path, group.kind, group.others[0].path, group.why) for group in groups] == [
        ("IMG_0001.HEIC", "re-encoded", "a.jpg", "has the data of a camera (EXIF)"),
        ("IMG_0001.HEIC", "edited", "turned.jpg", "not edited"),
    ]


def test_two_heic_pictures_of_a_burst_are_no_copies(tmp_path: Path) -> None:
    for second in (1, 3):
        photo(4, (320, 240)).save(tmp_path / f"{second}.heic", quality=80 + second, exif=with_exif(second).tobytes())
    assert [group.kind for group in find_duplicates(None, open_images(tmp_path)).groups] == ["burst"]


def test_the_colours_of_a_phone_are_converted() -> None:
    data = encoded(Image.new("RGB", (64, 64), (200, 30, 30)), "HEIF", quality=95, icc_profile=PROFILES["P3"][0])
    assert load_image(data).getpixel((30, 30))[0] > 205  # type: ignore[index]  # P3's red is redder than sRGB's


def test_a_heic_picture_over_the_limit_is_refused() -> None:
    data = encoded(photo(5, (320, 240)), "HEIF")
    assert load_image(data, max_pixels=320 * 240).size == (320, 240)
    for size_hint in (None, 16):
        with pytest.raises(ImageError, match=r"320 x 240 pixels are over the limit of 76,799"):
            load_image(data, size_hint, max_pixels=320 * 240 - 1)
