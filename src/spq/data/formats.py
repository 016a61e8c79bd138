"""Which files count as pictures: by their suffix in a folder, by their first bytes when they are opened."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
from pathlib import Path

from spq.errors import ImageError, ShutError

MAX_BYTES = 2**30  # larger files are refused, because a file is read into memory
READ_AT_ONCE = 2**16  # bytes, of a file whose size the system does not say
IRREGULAR = "not a regular file; give a file with a picture"
NEEDS_HEIF = "HEIC needs pip install 'spq-retrieval[heif]'"
BROKEN_HEIF = (
    "HEIC that is damaged or of a newer kind is not read; pip install -U 'spq-retrieval[heif]', or save it as JPEG"
)

_COMMON = "apng avif avifs bmp dib gif jfi jfif jif jpe jpeg jpg mpo png thm tif tiff webp"
_MORE = (
    "blp bw cur dcx dds fit fits flc fli ftc ftu gbr icb icns ico im j2c j2k jp2 jpc jpf jpx msp pbm pcd pcx pfm pgm"
    " pnm ppm psd pxr qoi ras rgb rgba sgi tga vda vst xbm xpm"
)
_CAMERA = "3fr arw cr2 dng erf kdc mef mos nef nrw pef raw sr2 srw"  # TIFF inside, which often holds a JPEG preview
_UNREAD_CAMERA = "cr3 crw dcr fff iiq mdc mrw orf raf rw2 rwl x3f"  # no other program writes these
_UNREAD = (
    "ai bpg bufr cdr dcm djvu emf eps exr flif grib h5 hdf hdr j2h jls jng jph jxl jxr nii pct pdf pict pict2 ps svg"
    " svgz wbmp wdp wmf xcf"
)


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


NEEDS_EXTRA = _suffixes("heic heics heif heifs hif")  # if the bytes are HEIC, too
CAMERA = _suffixes(_CAMERA)
EXTENSIONS = _suffixes(_COMMON) | _suffixes(_MORE) | CAMERA | NEEDS_EXTRA  # files that are opened as pictures
OTHER_PICTURES = _suffixes(_UNREAD) | _suffixes(
    _UNREAD_CAMERA
)  # pictures that are not read: a folder's reader counts them
_SURPRISING = _suffixes(_UNREAD)

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
    "a PDF document": (b"%PDF",),
    "a DjVu document": (b"AT&TFORM",),
    "a ZIP archive": (b"PK\x03\x04",),
    "a film": (b"\x1aE\xdf\xa3",),
    "a PNG that is damaged": (b"\x89PNG",),
    "a GIF that is damaged": (b"GIF8",),
    "a Photoshop picture of a kind that few programs open, or damaged,": (b"8BPS",),
}
_TEXTS = {  # in small letters
    "an SVG drawing": (b"<svg",),
    "a web page": (b"<!doctype html", b"<html"),
    "an answer of a server in XML": (b"<?xml",),
    "an answer of a server in JSON": (b"{", b"["),
}
_POINTER = b"version https://git-lfs"
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LETTERS = re.compile("[a-z0-9]*")
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}


def suffix_of(name: str) -> str:
    """Return what follows the last point, in lower case and with the point, up to a character that is no letter or digit.

    >>> suffix_of("holiday/IMG_1.JPG"), suffix_of("a.jpg_large"), suffix_of("a.png~"), suffix_of("a.jpg (1)")
    ('.jpg', '.jpg', '.png', '.jpg')
    """
    dot = name.rfind(".")
    suffix = name[dot + 1 :].lower() if dot >= 0 else ""
    return f".{suffix if suffix.isalnum() else _LETTERS.match(suffix)[0]}" if dot >= 0 else ""  # type: ignore[index]


def kind_of(name: str) -> str:
    """Tell from its name what a file may be: "picture", "other picture" (known, but not read) or "".

    >>> kind_of("a.HEIC"), kind_of("b.svg"), kind_of("notes.txt")
    ('picture', 'other picture', '')
    """
    suffix = suffix_of(name)
    if suffix in EXTENSIONS:
        return "picture"
    return "other picture" if suffix in OTHER_PICTURES else ""


def may_surprise(name: str) -> bool:
    """Whether only its content tells if a file is a picture that is read: it has no suffix, or one of an unread format.

    >>> may_surprise("IMG_0001"), may_surprise("really-jpeg.jxl"), may_surprise("notes.txt"), may_surprise("a.jpg")
    (True, True, False, False)
    """
    return "." not in name or suffix_of(name) in _SURPRISING


def starts_as_picture(path: str | Path) -> bool:
    """Look into a file: does it begin as a picture that is read? False if it is no regular file, or cannot be read."""
    try:
        start = read_file(path, 64)
    except ImageError:
        return False
    is_boxed = start[4:8] == b"ftyp" and (is_heif(start) or start[8:12] in (b"avif", b"avis"))
    return is_boxed or start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def has_heif() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def register_heif() -> bool:
    """Register HEIC with Pillow, and return whether that is possible; it needs pillow-heif."""
    if not has_heif():
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
        return BROKEN_HEIF if has_heif() else NEEDS_HEIF
    if data[4:8] == b"ftyp":
        return f"{'a camera raw file' if data[8:11] == b'crx' else 'a film'} is not read; save a picture of it as JPEG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "a TIFF without a picture that is read, perhaps the raw pixels of a camera; save it as PNG or JPEG"
    if data.startswith(_POINTER):
        return "Git LFS left a pointer in place of the file; run git lfs pull"
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    what = next((what for what, signs in _SIGNS.items() if data.startswith(signs)), "")
    what = what or next((what for what, signs in _TEXTS.items() if text.startswith(signs)), "")
    if text.startswith(b"<") and b"<svg" in text:
        what = "an SVG drawing"
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
                wanted = (
                    max(size, READ_AT_ONCE) + 1 if first is None else first
                )  # Python takes the memory for all of it
                data: bytes | None = file.read(wanted)
                if data is None:  # a file of the kernel, such as /proc/kmsg, that has nothing now
                    raise ImageError(f"cannot read {name}: {IRREGULAR}")
                if first is None and len(data) == wanted:  # it is longer than the system says
                    data += file.read(MAX_BYTES + 1 - wanted) or b""
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
