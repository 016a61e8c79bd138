"""When and with which camera a picture was taken, and whether its pixels are exact. Only the head of a file is read."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from spq.data.decode import quiet
from spq.data.formats import read_file
from spq.data.image_set import ImageSet
from spq.data.preview import is_raw

BITS = {"1": 1, "I": 16, "F": 16}  # by the first letter of Pillow's mode; all others have 8
HEAD = 2**16  # bytes of a file that tell its kind
LOSSLESS = {"BMP", "DIB", "FITS", "PNG", "PPM", "PSD", "QOI", "SGI", "TGA"}  # formats of Pillow
FEW_COLOURS = {"1", "P", "PA"}  # modes that a photo may have been reduced to
QUARTER = 900.0  # seconds: time zones differ by whole quarters of an hour
SAME_SETTING = 0.03  # relative change of a setting that is written in another way
SETTINGS = (ExifTags.Base.ExposureTime, ExifTags.Base.FNumber, ExifTags.Base.ISOSpeedRatings)
# Title, comment, keywords, rating; in the tags of EXIF, in those of IPTC, and in XMP.
WORDS = (0x010E, 0x4746, 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F)
IPTC_WORDS = 0x0404
XMP_WORDS = (b"dc:subject", b"dc:description", b"dc:title", b"xmp:Rating", b"mwg-rs:")
BURST_SECONDS = 10.0  # pictures of one camera that are taken within this time of each other may belong to a burst


@dataclass(frozen=True)
class Shot:
    """camera: maker and model; empty without EXIF data. seconds: when, on the camera's own clock; None if unknown.

    is_exact: whether the time has a fraction of a second. bits: of a pixel's channel. has_pages: whether the file has more
    pages or frames than one. is_lossless: whether the format keeps pixels exactly. is_raw: whether it is the raw of a camera.
    settings: exposure time, aperture and sensitivity; 0 where unknown. tells: what else its data tell: date, place, words.
    """

    camera: str = ""
    seconds: float | None = None
    is_exact: bool = False
    bits: int = 8
    has_pages: bool = False
    is_lossless: bool = False
    is_raw: bool = False
    settings: tuple[float, ...] = (0.0, 0.0, 0.0)
    tells: frozenset[str] = frozenset()

    def is_other_shot(self, other: Shot) -> bool:
        """Whether both were surely taken by the same camera at different moments, or with different settings.

        Times that are whole quarters of an hour apart may be those of two time zones.
        """
        if not self.camera or self.camera != other.camera:
            return False
        pairs = zip(self.settings, other.settings, strict=True)
        if any(a and b and abs(a - b) > SAME_SETTING * max(a, b) for a, b in pairs):
            return True
        if self.seconds is None or other.seconds is None:
            return False
        apart = abs(self.seconds - other.seconds)
        tolerance = 0 if self.is_exact and other.is_exact else 0.999
        from_zones = apart % QUARTER if apart > QUARTER / 2 else apart
        return apart > tolerance and min(from_zones, QUARTER - from_zones) > tolerance

    def is_near(self, other: Shot) -> bool:
        """Whether both were taken by the same camera within seconds."""
        known = self.camera and self.camera == other.camera
        both = self.seconds is not None and other.seconds is not None
        return bool(known and both and abs((self.seconds or 0) - (other.seconds or 0)) <= BURST_SECONDS)


def read_shot(images: ImageSet, position: int) -> Shot:
    """The shot of a picture. Damaged or missing EXIF data are no error."""
    shot = Shot()
    try:
        path = images.path(position)
        data = b"" if path else images.read(position)
        start = read_file(path, HEAD) if path else data[:HEAD]
        shot = Shot(is_raw=is_raw(start))  # Pillow opens only some raw files
        with quiet(), Image.open(path or io.BytesIO(data)) as opened:
            has_one = opened.format == "MPO" or shot.is_raw  # further ones are a second view for 3D, and previews
            pages = bool(getattr(opened, "is_animated", False)) and not has_one
            bits = BITS.get(opened.mode[:1], opened.info.get("bit_depth", 8))  # pillow-heif tells it
            shot = replace(shot, bits=bits, has_pages=pages, is_lossless=_is_lossless(opened, start))
            tags = opened.getexif()
            inner = tags.get_ifd(ExifTags.IFD.Exif)
            camera = " ".join(filter(None, (_text(tags.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))))
            taken = inner.get(ExifTags.Base.DateTimeOriginal) or tags.get(ExifTags.Base.DateTimeOriginal)
            fraction = _text(inner.get(ExifTags.Base.SubsecTimeOriginal))
            seconds, is_exact = _seconds(_text(taken), fraction)
            shot = replace(shot, camera=camera, seconds=seconds, is_exact=is_exact)
            settings = tuple(_number(inner.get(tag)) for tag in SETTINGS)
            return replace(shot, settings=settings, tells=_told(opened, tags, seconds is not None))
    except Exception:  # decoders raise errors of any type
        return shot


def _is_lossless(image: Image.Image, start: bytes) -> bool:
    if image.mode in FEW_COLOURS:
        return False
    if image.format == "WEBP":
        return b"VP8L" in start and b"VP8 " not in start
    if image.format == "TIFF":
        return image.info.get("compression") not in ("jpeg", "tiff_jpeg", "webp")
    return image.format in LOSSLESS


def _told(opened: Image.Image, tags: Image.Exif, has_date: bool) -> frozenset[str]:
    """What the data of a picture tell beside its camera."""
    xmp, iptc = opened.info.get("xmp", b""), opened.info.get("photoshop", {})
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    has_words = any(tags.get(tag) for tag in WORDS) or any(word in xmp for word in XMP_WORDS) or IPTC_WORDS in iptc
    has_place = bool(tags.get_ifd(ExifTags.IFD.GPSInfo).get(ExifTags.GPS.GPSLatitude))
    return frozenset(name for name, has in (("date", has_date), ("place", has_place), ("words", has_words)) if has)


def _number(value: Any) -> float:
    """A setting; 0 if it is unknown."""
    first = value[0] if isinstance(value, tuple) and value else value
    try:
        number = float(first)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _text(value: Any) -> str:
    text = value.decode("ascii", "ignore") if isinstance(value, bytes) else value
    return text.strip("\0 ") if isinstance(text, str) else ""


def _seconds(taken: str, fraction: str) -> tuple[float | None, bool]:
    """
    >>> _seconds("1970:01:02 00:00:01", "5")
    (86401.5, True)
    >>> _seconds("    :  :     :  :  ", "")
    (None, False)
    """
    try:
        passed = datetime.strptime(taken, "%Y:%m:%d %H:%M:%S") - datetime(1970, 1, 1)
    except ValueError:
        return None, False
    return passed.total_seconds() + (float(f"0.{fraction}") if fraction.isdigit() else 0), fraction.isdigit()
