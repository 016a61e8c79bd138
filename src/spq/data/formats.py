"""Which files count as pictures: by their suffix in a folder, by their first bytes when they are opened."""

from __future__ import annotations

import importlib.util
import os
import stat
from pathlib import Path

from spq.errors import ImageError, ShutError

MAX_BYTES = 2**30  # larger files are refused, because a file is read into memory
IRREGULAR = "not a regular file; give a file with a picture"
NEEDS_HEIF = "HEIC needs pip install 'spq-retrieval[heif]'"

_COMMON = "apng avif avifs bmp dib gif jfif jpe jpeg jpeg_large jpg jpg_large mpo png tif tiff webp"
_MORE = (
    "blp bw cur dcx dds fit fits flc fli ftc ftu gbr icb icns ico im j2c j2k jp2 jpc jpf jpx msp pbm pcd pcx pfm pgm"
    " pnm ppm psd pxr qoi ras rgb rgba sgi tga vda vst xbm xpm"
)
_CAMERA = "3fr arw cr2 dng erf kdc mef mos nef nrw pef raw sr2 srw"  # TIFF inside, which often holds a JPEG preview
_UNREAD = (
    "ai bpg bufr cdr cr3 crw dcm dcr djvu emf eps exr fff flif grib h5 hdf hdr heifs iiq j2h jls jng jph jxl jxr mdc"
    " mrw nii orf pct pdf pict pict2 ps raf rw2 rwl svg svgz wbmp wdp wmf x3f xcf"
)


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


NEEDS_EXTRA = _suffixes("heic heics heif hif")  # if the bytes are HEIC, too
CAMERA = _suffixes(_CAMERA)
EXTENSIONS = _suffixes(_COMMON) | _suffixes(_MORE) | CAMERA | NEEDS_EXTRA  # files that are opened as pictures
OTHER_PICTURES = _suffixes(_UNREAD)  # pictures that are not read: a folder's reader counts them

NOT_READ = {
    "BUFR": "weather data", "EPS": "a PostScript drawing", "GRIB": "weather data", "HDF5": "an HDF5 file",
    "IPTC": "a file of notes", "MPEG": "a film", "WMF": "a Windows drawing",
}  # fmt: skip
"""Formats of Pillow that are no pictures, or that only another program draws."""

_SIGNS = {
    "a JPEG of a kind that few programs open (12 bits, lossless, or damaged)": (b"\xff\xd8\xff",),
    "a JPEG XL picture": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "a JPEG XR picture": (b"II\xbc\x01",),
    "an OpenEXR picture": (b"v/1\x01",),
    "a Radiance HDR picture": (b"#?RADIANCE",),
    "a BPG picture": (b"BPG\xfb",),
    "a FLIF picture": (b"FLIF",),
    "a camera's raw file": (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"\0MRM", b"FOVb"),
    "a GIMP project": (b"gimp xcf",),
    "a Windows drawing": (b"\xd7\xcd\xc6\x9a",),
    "a PostScript drawing": (b"%!PS",),
    "an SVG drawing": (b"<svg", b"<?xml"),
    "a PDF document": (b"%PDF",),
    "a DjVu document": (b"AT&TFORM",),
    "a web page": (b"<!DOC", b"<!doc", b"<html"),
    "a ZIP archive": (b"PK\x03\x04",),
    "a film": (b"\x1aE\xdf\xa3",),
}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}


def suffix_of(name: str) -> str:
    """Return what follows the last point, in lower case and with the point.

    >>> suffix_of("holiday/IMG_1.JPG")
    '.jpg'
    """
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""


def kind_of(name: str) -> str:
    """Tell from its name what a file may be: "picture", "other picture" (known, but not read) or "".

    >>> kind_of("a.HEIC"), kind_of("b.svg"), kind_of("notes.txt")
    ('picture', 'other picture', '')
    """
    suffix = suffix_of(name)
    if suffix in EXTENSIONS:
        return "picture"
    return "other picture" if suffix in OTHER_PICTURES else ""


def register_heif() -> bool:
    """Register HEIC with Pillow, and return whether that is possible; it needs pillow-heif."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def is_heif(start: bytes) -> bool:
    """Tell from the first bytes whether a file is HEIC. AVIF, which has the same container, is not."""
    if start[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[8:12], *(start[i : i + 4] for i in range(16, end - 3, 4))}
    return start[8:12] in _HEIF and not brands & {b"avif", b"avis"}


def needs_heif(path: str | Path) -> bool:
    """Look into a file: is it HEIC? False if it cannot be read. For files that are read only if pillow-heif is there."""
    try:
        return is_heif(read_file(path, 64))
    except ImageError:
        return False


def why_unknown(data: bytes) -> str:
    """Say what bytes are that nothing here opens, and what to do about it."""
    if not data:
        return "the file is empty"
    if is_heif(data[:64]):
        return NEEDS_HEIF
    if data[4:8] == b"ftyp":
        return f"{'a camera raw file' if data[8:11] == b'crx' else 'a film'} is not read; save a picture of it as JPEG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "a TIFF without a picture that is read, perhaps the raw pixels of a camera; save it as PNG or JPEG"
    text = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    what = next((what for what, signs in _SIGNS.items() if data.startswith(signs) or text.startswith(signs)), "")
    return (
        f"{what} is not read; save it as PNG or JPEG"
        if what
        else "not a picture in a known format; save it as PNG or JPEG"
    )


def read_file(path: str | Path, first: int | None = None, name: str = "") -> bytes:
    """Read a file of pictures, but only a regular one: a pipe could wait for ever, a device could never end.

    Args:
        first: how many bytes to read, by default all.
        name: used in errors; by default the path.
    Raises:
        ImageError: it is no regular file, or is larger than `MAX_BYTES`. ShutError: the system does not read it.
    """
    name = name or os.fspath(path)
    try:
        _check_regular(os.stat(path), name)  # noqa: PTH116  first, because opening some devices already acts on them
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            size = _check_regular(os.fstat(file.fileno()), name)
            if first is not None or size <= MAX_BYTES:
                data: bytes | None = file.read(MAX_BYTES + 1 if first is None else first)
                if data is None:  # a file of the kernel, such as /proc/kmsg, that has nothing now
                    raise ImageError(f"cannot read {name}: {IRREGULAR}")
                size = len(data)
                if first is not None or size <= MAX_BYTES:
                    return data
    except OSError as error:
        raise ShutError(f"cannot read {name}: {error.strerror or error}") from None
    except ValueError as error:
        raise ImageError(f"cannot read {name}: {error}") from None
    raise ImageError(f"cannot read {name}: {size:,} bytes are over the limit of {MAX_BYTES:,}; scale it down first")


def _check_regular(status: os.stat_result, name: str) -> int:
    """Return the size of a regular file. A folder is called what the system calls it."""
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"cannot read {name}: Is a directory; give a file with a picture")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"cannot read {name}: {IRREGULAR}")
    return status.st_size
