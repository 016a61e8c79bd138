"""Which pictures does spq read? A file of each kind and each defect, made here; the same in index, search and upload.

    python benchmarks/formats.py --model photos.spq [--write docs/guides/pictures.md]

All files show the same drawing, if they can, so that what is read can be compared with it. The script indexes them, searches for
each, uploads each to a server, and fails if the three disagree. `--write` puts the table into the docs.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, ImageChops, ImageDraw, PngImagePlugin, features

from spq.data.decode import load_image
from spq.data.formats import kind_of, register_heif
from spq.errors import ImageError

SIZE = (96, 64)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


@dataclass(frozen=True)
class Kind:
    """A file of the table: what it is, its bytes, and what it shows (None: nothing, so it must be refused)."""

    file: str
    what: str
    data: bytes
    shows: Image.Image | None
    error: float = 6.0  # mean difference of levels from what it shows, at most
    heif: bool = True  # whether pillow-heif is there when it is read


def drawing() -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, SIZE[1]))
    picture = Image.fromarray((np.stack([x, y, 1 - x * y], 2) * 200 + 30).astype(np.uint8))
    ImageDraw.Draw(picture).ellipse((10, 8, 50, 48), fill=(200, 40, 30))
    ImageDraw.Draw(picture).rectangle((60, 30, 85, 55), fill=(30, 60, 90))
    return picture


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def kinds() -> list[Kind]:
    """All files of the table."""
    parts = (_jpeg, _png, _gif_and_webp, _tiff, _other_formats, _heif, _raw, _refused)
    return [kind for part in parts for kind in part(drawing())]


def _jpeg(d: Image.Image) -> Iterator[Kind]:
    jpeg = encoded(d, "JPEG", quality=92)
    progressive = encoded(d, "JPEG", quality=92, progressive=True)
    exif = Image.Exif()
    exif[0x112] = 6
    yield Kind("baseline.jpg", "JPEG", jpeg, d)
    yield Kind("progressive.jpeg", "JPEG, progressive", progressive, d)
    yield Kind("grey.jpe", "JPEG, grey", encoded(d.convert("L"), "JPEG"), d.convert("L"))
    yield Kind("cmyk.jpg", "JPEG, CMYK", encoded(d.convert("CMYK"), "JPEG", quality=95), d)
    yield Kind(
        "turned.jpg", "JPEG, turned by its EXIF", encoded(d.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif), d
    )
    yield Kind("name.heic", "JPEG under the name .heic", jpeg, d)
    yield Kind("name.jpg_large", "JPEG under the name .jpg_large", jpeg, d)
    yield Kind("name.jfif", "JPEG under the name .jfif", jpeg, d)
    yield Kind("name.png", "JPEG under the name .png", jpeg, d)
    mpo = encoded(d, "MPO", save_all=True, append_images=[d.rotate(90)])
    yield Kind("two.mpo", "MPO, two pictures", mpo, d)
    yield Kind("two-broken.mpo", "MPO, the second picture cut off", mpo[: len(mpo) * 2 // 3], d)
    yield Kind("no-end.jpg", "JPEG without its end marker", jpeg[:-2], d)
    yield Kind("no-end-progressive.jpg", "JPEG, progressive, without its end marker", progressive[:-2], d)
    yield Kind("cut.jpg", "JPEG, the second half lost", jpeg[: len(jpeg) // 2], None)
    yield Kind("cut-zeros.jpg", "JPEG, the second half is zeros", jpeg[: len(jpeg) // 2].ljust(len(jpeg), b"\0"), None)
    yield Kind("cut-progressive.jpg", "JPEG, progressive, the last scans lost", _without_last_scan(progressive), None)
    yield Kind("exif-broken.jpg", "JPEG with broken EXIF", encoded(d, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), d)
    yield Kind("profile-broken.jpg", "JPEG with a broken profile", encoded(d, "JPEG", icc_profile=b"junk" * 50), d)
    yield Kind("garbage.jpg", "JPEG with other bytes after its end", jpeg + b"garbage" * 999, d)


def _without_last_scan(jpeg: bytes) -> bytes:
    return jpeg[: jpeg.rindex(b"\xff\xda")]


def _png(d: Image.Image) -> Iterator[Kind]:
    png, grey = encoded(d, "PNG"), d.convert("L")
    wide = np.asarray(grey).astype(np.uint16)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("workflow", "x" * 3_000_000, zip=True)
    yield Kind("rgb.png", "PNG", png, d)
    yield Kind("palette.png", "PNG, palette", encoded(d.quantize(128), "PNG"), d)
    see_through = d.quantize(128)
    yield Kind(
        "palette-alpha.png", "PNG, palette with transparency", encoded(see_through, "PNG", transparency=0), d, 40
    )
    yield Kind("one-bit.png", "PNG, one bit", encoded(d.convert("1"), "PNG"), d.convert("1").convert("L"))
    yield Kind("interlaced.png", "PNG, interlaced", png_of(np.asarray(d), 8, interlaced=True), d)
    yield Kind("grey16.png", "PNG, grey, 16 bits", encoded(Image.fromarray(wide * 257), "PNG"), grey)
    bright = Image.fromarray(np.interp(wide, np.percentile(wide, (0.1, 99.9)), (0, 255)).astype(np.uint8))
    yield Kind("grey12.png", "PNG, grey, 12 bits of 16 in use", encoded(Image.fromarray(wide * 16), "PNG"), bright)
    yield Kind("rgb16.png", "PNG, RGB, 16 bits", png_of(np.asarray(d).astype(">u2") * 257, 16), d)
    dim = np.asarray(d).astype(np.uint16) * 16
    seen = Image.fromarray(np.interp(dim, np.percentile(dim, (0.1, 99.9)), (0, 255)).astype(np.uint8))
    yield Kind("dim.png", "PNG, RGB, 12 bits of 16 in use", png_of(dim.astype(">u2"), 16), seen)
    yield Kind("text.png", "PNG with 3 MB of text", encoded(d, "PNG", pnginfo=text), d)
    note = _chunk(b"tEXt", b"Comment\0hello")
    yield Kind("checksum.png", "PNG, a wrong checksum of a note", png[:33] + note[:-1] + b"?" + png[33:], d)
    profile = _chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(80_000_000), 9))
    yield Kind("profile-huge.png", "PNG with a profile of 80 MB", png[:33] + profile + png[33:], d)
    yield Kind("no-end.png", "PNG without its last chunk", png[:-12], d)
    yield Kind("garbage.png", "PNG with other bytes after its end", png + b"garbage" * 999, d)
    changed = bytearray(png)
    changed[len(png) // 2] ^= 255
    yield Kind("changed.png", "PNG, a byte of the pixels changed", bytes(changed), None)
    yield Kind("cut.png", "PNG, the second half lost", png[: len(png) // 2], None)
    icon = Image.new("RGBA", SIZE, (255, 255, 255, 0))
    ImageDraw.Draw(icon).ellipse((10, 8, 50, 48), fill="white")
    on_black = Image.alpha_composite(Image.new("RGBA", SIZE, "black"), icon)
    yield Kind(
        "white-icon.png", "PNG, white on transparency (shown on black)", encoded(icon, "PNG"), on_black.convert("RGB")
    )
    apng = encoded(d, "PNG", save_all=True, append_images=[d.rotate(90), d.rotate(180)])
    yield Kind("moving.apng", "APNG", apng, d)
    yield Kind("broken.apng", "APNG, the third picture cut off", apng[: len(apng) * 5 // 6], d)
    blank = Image.new("RGB", SIZE, "black")
    yield Kind(
        "fade-in.apng", "APNG, black at first", encoded(blank, "PNG", save_all=True, append_images=[d, blank]), d
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(pixels: np.ndarray, bits: int, interlaced: bool = False) -> bytes:
    """A PNG of (H, W, 3) that Pillow cannot write: 16 bits, or interlaced."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in starts] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.tobytes() for part in passes for row in part)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, 2, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _gif_and_webp(d: Image.Image) -> Iterator[Kind]:
    blank, turned = Image.new("RGB", SIZE, "black"), d.transpose(Image.Transpose.ROTATE_180)
    gif = encoded(d, "GIF", save_all=True, append_images=[turned, d])
    yield Kind("still.gif", "GIF", encoded(d, "GIF"), d, 8)
    yield Kind("moving.gif", "GIF, moving", gif, d, 8)
    yield Kind("broken.gif", "GIF, a later picture cut off", gif[: len(gif) // 2], d, 8)
    yield Kind(
        "fade-in.gif", "GIF, black at first", encoded(blank, "GIF", save_all=True, append_images=[blank, d]), d, 8
    )
    still = encoded(d, "GIF")
    yield Kind("cut.gif", "GIF, the second half lost", still[: len(still) // 2], None)
    lossless = {"lossless": True}
    yield Kind("lossy.webp", "WebP", encoded(d, "WEBP", quality=90), d)
    clear = d.convert("RGBA")
    clear.putalpha(ImageChops.invert(Image.new("L", SIZE, 0)))
    yield Kind("alpha.webp", "WebP, lossless, with alpha", encoded(clear, "WEBP", **lossless), d)
    webp = encoded(d, "WEBP", save_all=True, append_images=[turned, d], **lossless)
    yield Kind("moving.webp", "WebP, moving", webp, d)
    yield Kind("broken.webp", "WebP, moving, the last picture cut off", webp[: len(webp) * 5 // 6], d)
    fade = encoded(blank, "WEBP", save_all=True, append_images=[d, blank], **lossless)
    yield Kind("fade-in.webp", "WebP, black at first", fade, d)
    lossy = encoded(d, "WEBP", quality=90)
    yield Kind("cut.webp", "WebP, the second half lost", lossy[: len(lossy) // 2], None)


def _tiff(d: Image.Image) -> Iterator[Kind]:
    grey = d.convert("L")
    floats = np.asarray(grey).astype(np.float32) / 255
    holes = floats * 1000
    holes[:2] = np.nan
    stretched = Image.fromarray(np.interp(floats, np.percentile(floats, (0.1, 99.9)), (0, 255)).astype(np.uint8))
    for name, what in (
        ("raw", "uncompressed"),
        ("tiff_lzw", "LZW"),
        ("tiff_adobe_deflate", "deflate"),
        ("jpeg", "JPEG inside"),
    ):
        yield Kind(f"{name}.tif", f"TIFF, {what}", encoded(d, "TIFF", compression=name), d)
    yield Kind("cmyk.tiff", "TIFF, CMYK", encoded(d.convert("CMYK"), "TIFF"), d)
    fax = encoded(d.convert("1"), "TIFF", compression="group4")
    yield Kind("fax.tif", "TIFF, one bit, fax", fax, d.convert("1").convert("L"))
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    yield Kind("grey16.tif", "TIFF, grey, 16 bits", encoded(wide, "TIFF"), grey)
    negative = b"II*\0\x08\0\0\0" + tiff_tags(16, 0) + (65535 - np.asarray(wide)).astype("<u2").tobytes()
    yield Kind("negative.tif", "TIFF, grey, 16 bits, 0 is white", negative, grey)
    yield Kind("float.tif", "TIFF, floats in 0..1", encoded(Image.fromarray(floats), "TIFF"), grey)
    yield Kind("holes.tif", "TIFF, floats with NaN", encoded(Image.fromarray(holes), "TIFF"), stretched, 12)
    lab = _lab(d)
    if lab:
        yield Kind("lab.tif", "TIFF, CIE Lab", encoded(lab, "TIFF"), d)
    blank = Image.new("RGB", SIZE, "white")
    pages = encoded(d, "TIFF", save_all=True, append_images=[d.rotate(90)])
    yield Kind("pages.tif", "TIFF, two pages", pages, d)
    yield Kind("pages-broken.tif", "TIFF, the second page cut off", pages[: len(pages) * 2 // 3], d)
    yield Kind(
        "pages-blank.tif", "TIFF, the first page blank", encoded(blank, "TIFF", save_all=True, append_images=[d]), d
    )
    plain = encoded(d, "TIFF")
    yield Kind("cut.tif", "TIFF, the second half lost", plain[: len(plain) // 2], None)


def tiff_tags(bits: int, photometric: int) -> bytes:
    """The directory of an uncompressed TIFF in grey, which its pixels follow."""
    values = {0x100: SIZE[0], 0x101: SIZE[1], 0x102: bits, 0x103: 1, 0x106: photometric, 0x115: 1, 0x116: SIZE[1]}
    values |= {0x111: 8 + 2 + 9 * 12 + 4, 0x117: SIZE[0] * SIZE[1] * bits // 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    return struct.pack("<H", len(values)) + entries + bytes(4)


def _lab(d: Image.Image) -> Image.Image | None:
    if not features.check("littlecms2"):
        return None
    from PIL import ImageCms

    to = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return ImageCms.applyTransform(d, to)


def _other_formats(d: Image.Image) -> Iterator[Kind]:
    grey, one = d.convert("L"), d.convert("1")
    yield Kind("rgb.bmp", "BMP", encoded(d, "BMP"), d)
    yield Kind("palette.bmp", "BMP, palette", encoded(d.quantize(200), "BMP"), d)
    bmp = bytearray(encoded(d, "BMP"))
    bmp[2:6] = b"\xff\xff\xff\x7f"
    yield Kind("size-wrong.bmp", "BMP, a wrong size of the file in its header", bytes(bmp), d)
    clear = d.convert("RGBA")
    clear.putalpha(0)
    yield Kind("no-alpha.tga", "TGA, its alpha zero everywhere", encoded(clear, "TGA"), d)
    yield Kind("clipboard.dib", "DIB, a BMP without its first header", encoded(d, "DIB"), d)
    square = d.resize((64, 64))
    for kind, ending in (("ICO", "ico"), ("CUR", "cur"), ("ICNS", "icns")):
        data = (
            encoded(square, "ICO", sizes=[(64, 64)], bitmap_format="bmp") if kind != "ICNS" else encoded(square, kind)
        )
        yield Kind(f"icon.{ending}", kind, data[:2] + b"\2" + data[3:] if kind == "CUR" else data, square)
    yield Kind("rle.tga", "TGA", encoded(d, "TGA", compression="tga_rle"), d)
    for kind, endings in (("PCX", "pcx"), ("SGI", "sgi rgb"), ("QOI", "qoi"), ("DDS", "dds")):
        for ending in endings.split():
            yield Kind(f"rgb.{ending}", f"{kind} (.{ending})", encoded(d, kind), d)
    yield Kind("palette.blp", "BLP", encoded(d.quantize(200), "BLP"), d)
    yield Kind("binary.ppm", "PPM", encoded(d, "PPM"), d)
    yield Kind("text.pnm", "PPM as text", b"P3\n96 64\n255\n" + " ".join(map(str, d.tobytes())).encode(), d)
    yield Kind("grey.pgm", "PGM", encoded(grey, "PPM"), grey)
    yield Kind("one-bit.pbm", "PBM", encoded(one, "PPM"), one.convert("L"))
    yield Kind("float.pfm", "PFM", encoded(Image.fromarray(np.asarray(grey) / np.float32(255)), "PPM"), grey)
    yield Kind("one-bit.xbm", "XBM", encoded(one, "XBM"), ImageChops.invert(one.convert("L")), 256)
    yield Kind("one-bit.msp", "MSP", encoded(one, "MSP"), one.convert("L"))
    yield Kind("palette.xpm", "XPM", _xpm(d), d, 16)
    yield Kind("stars.fits", "FITS", encoded_fits(grey), grey)
    yield Kind("layers.psd", "PSD", encoded_psd(d), d)
    yield Kind("sun.ras", "Sun raster", struct.pack(">8I", 0x59A66A95, *SIZE, 24, 0, 3, 0, 0) + d.tobytes(), d)
    for ending in ("jp2", "j2k", "jpx"):
        if features.check("jpg_2000"):
            yield Kind(f"rgb.{ending}", f"JPEG 2000 (.{ending})", encoded(d, "JPEG2000", no_jp2=ending == "j2k"), d)
    if features.check("avif"):
        yield Kind("still.avif", "AVIF", encoded(d, "AVIF", quality=90), d)
        moving = encoded(Image.new("RGB", SIZE), "AVIF", quality=90, save_all=True, append_images=[d])
        yield Kind("fade-in.avifs", "AVIF, black at first", moving, d)


def _xpm(d: Image.Image) -> bytes:
    palette = d.quantize(64)
    colours = palette.getpalette() or []
    signs = [chr(48 + i) if 48 + i != 92 else "~" for i in range(64)]
    lines = [f"{SIZE[0]} {SIZE[1]} 64 1"]
    lines += [f"{signs[i]} c #{colours[3 * i]:02x}{colours[3 * i + 1]:02x}{colours[3 * i + 2]:02x}" for i in range(64)]
    lines += ["".join(signs[value] for value in row) for row in np.asarray(palette)]
    return ("/* XPM */\nstatic char *x[] = {\n" + ",\n".join(f'"{line}"' for line in lines) + "\n};\n").encode()


def encoded_fits(grey: Image.Image) -> bytes:
    cards = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    2"]
    cards += [f"NAXIS1  = {SIZE[0]:20d}", f"NAXIS2  = {SIZE[1]:20d}", "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    return header + grey.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes()


def encoded_psd(d: Image.Image) -> bytes:
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, SIZE[1], SIZE[0], 8, 3)
    return header + bytes(12) + bytes(2) + b"".join(band.tobytes() for band in d.split())


def raw_of(d: Image.Image, order: str, tags: dict[int, tuple[int, int]], jpeg: bytes) -> bytes:
    """A TIFF as cameras write it: a first directory with `tags`, and one below it with the sensor's pixels and a JPEG."""

    def folder(entries: dict[int, tuple[int, int]]) -> bytes:
        body = b"".join(
            struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(f"{order}{'I' if kind == 4 else 'Hxx'}", value)
            for tag, (kind, value) in sorted(entries.items())
        )
        return struct.pack(f"{order}H", len(entries)) + body + bytes(4)

    first = folder(tags | {0x14A: (4, 0)})
    at = 8 + len(first)
    below = folder({0x106: (3, 32803), 0x201: (4, at + 42), 0x202: (4, len(jpeg))})
    first = folder(tags | {0x14A: (4, at)})
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8) + first + below + jpeg


def _heif(d: Image.Image) -> Iterator[Kind]:
    register_heif()
    import pillow_heif

    turned = Image.Exif()
    turned[0x112] = 6
    clear = d.convert("RGBA")
    clear.putalpha(0)
    clear.paste(d, (20, 10))
    ground = Image.new("RGB", SIZE, "white")
    ground.paste(d, (20, 10))
    deep = pillow_heif.from_bytes("RGB;16", SIZE, (np.asarray(d).astype("<u2") * 257).tobytes())
    buffer = io.BytesIO()
    deep.save(buffer, quality=-1)
    heic = encoded(d, "HEIF", quality=90)
    yield Kind("phone.heic", "HEIC", heic, d)
    yield Kind(
        "phone-turned.HEIC",
        "HEIC, turned",
        encoded(d.transpose(Image.Transpose.ROTATE_90), "HEIF", exif=turned.tobytes()),
        d,
    )
    yield Kind("heic-named.jpg", "HEIC under the name .jpg", heic, d)
    yield Kind("deep.heif", "HEIC of 10 or 12 bits", buffer.getvalue(), d)
    yield Kind("clear.hif", "HEIC with transparency", encoded(clear, "HEIF", quality=90), ground)
    yield Kind("cut.heic", "HEIC, the end missing", heic[:-90], None)
    yield Kind("bare.heic", "HEIC, only its beginning", HEIC, None)
    yield Kind("heic-none.HEIC", "HEIC, without pillow-heif", HEIC, None, heif=False)
    yield Kind("heic-none.jpg", "HEIC under the name .jpg, without pillow-heif", HEIC, None, heif=False)


def _raw(d: Image.Image) -> Iterator[Kind]:
    jpeg, turned = encoded(d, "JPEG"), encoded(d.transpose(Image.Transpose.ROTATE_90), "JPEG")
    yield Kind("camera.dng", "DNG with a JPEG preview", raw_of(d, "<", {0xC612: (4, 1025)}, jpeg), d)
    yield Kind("camera.nef", "TIFF of a camera, turned, with a preview", raw_of(d, ">", {0x112: (3, 6)}, turned), d)
    yield Kind("no-preview.dng", "DNG without a preview", raw_of(d, "<", {0xC612: (4, 1025)}, b"raw pixels"), None)


def _refused(d: Image.Image) -> Iterator[Kind]:
    yield Kind("new.jxl", "JPEG XL", b"\xff\x0a" + bytes(90), None)
    yield Kind("camera.cr3", "CR3 of a camera", b"\0\0\0\x18ftypcrx " + bytes(90), None)
    yield Kind("film.jpg", "MP4 under the name .jpg", b"\0\0\0\x18ftypisom" + bytes(90), None)
    yield Kind("drawing.svg", "SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", None)
    yield Kind("page.pdf", "PDF", encoded(d, "PDF"), None)
    yield Kind("drawing.eps", "EPS", encoded(d, "EPS"), None)
    yield Kind("page.jpg", "web page under the name .jpg", b"<!DOCTYPE html><p>Not found", None)
    yield Kind("words.jpg", "text under the name .jpg", b"not a picture", None)
    yield Kind("empty.jpg", "empty file", b"", None)


def reason(message: str) -> str:
    """An error without the name of the file, and without numbers that depend on the bytes."""
    text = re.sub(r"^cannot read [^:]*: ", "", message)
    return re.sub(r" \(\d+ bytes not processed\)", "", text)


def decoded(kind: Kind) -> str:
    """Return why a file is not read; empty if it is.

    Raises:
        AssertionError: what is read is not what the file shows, or it shows nothing.
    """
    try:
        with _installed(kind.heif):
            picture = load_image(kind.data, name=kind.file)
    except ImageError as error:
        if kind.shows:
            raise AssertionError(f"{kind.file}: {error}") from error
        return reason(str(error))
    assert kind.shows, f"{kind.file} is read"
    shown = kind.shows.convert("RGB")
    difference = np.abs(np.asarray(picture.resize(shown.size)).astype(int) - np.asarray(shown)).mean()
    assert difference <= kind.error, f"{kind.file}: off by {difference:.1f} levels"
    return ""


def _installed(heif: bool) -> AbstractContextManager[Any]:
    """As if pillow-heif were not installed, if it shall not be."""
    return nullcontext() if heif else mock.patch.dict(sys.modules, pillow_heif=None)


def agreed(every: list[Kind], model: Any, folder: Path) -> dict[str, str]:
    """Return why each file is not read (empty: it is), by its name. The first file must be one that is read.

    Raises:
        AssertionError: index, search and upload disagree, in the reason or in the answers.
    """
    found = {}
    for heif in (True, False):
        with _installed(heif):
            (folder / str(heif)).mkdir()
            some = [
                kind for kind in every if kind.heif == heif or kind is every[0]
            ]  # the first: an index of nothing is none
            found |= _agreed(some, model, folder / str(heif))
    return {kind.file: found[kind.file] for kind in every}


def _agreed(every: list[Kind], model: Any, folder: Path) -> dict[str, str]:
    from fastapi.testclient import TestClient

    from spq.index.build import build
    from spq.index.image_index import ImageIndex
    from spq.web.server.app import Settings, create_app

    pictures = folder / "pictures"
    pictures.mkdir()
    for kind in every:
        (pictures / kind.file).write_bytes(kind.data)
    build(folder / "index", model, pictures)
    found = {}
    with ImageIndex.open(folder / "index") as index:
        left_out = {name: reason(why) for name, why in index.sync(pictures).failed}
        left_out |= {name: reason(why) for name, why in index.sync(pictures).unseen}
        settings = Settings(cache=folder / "thumbnails", max_upload=200_000_000)
        with TestClient(create_app(index, settings), base_url="http://127.0.0.1:8765") as client:
            for kind in every:
                answers = _searched(index, pictures / kind.file), _uploaded(client, kind.data)
                assert answers[0] == answers[1], f"{kind.file}: search {answers[0]}, upload {answers[1]}"
                found[kind.file] = answers[0] if isinstance(answers[0], str) else ""
                if kind_of(kind.file) == "picture":
                    why = left_out.get(kind.file, "")
                    assert why == found[kind.file], f"{kind.file}: index {why}, search {found[kind.file]}"
    return found


def _searched(index: Any, path: Path) -> Any:
    try:
        return [(hit.path, hit.distance) for hit in index.search(path, 20)]
    except ImageError as error:
        return reason(str(error))


def _uploaded(client: Any, data: bytes) -> Any:
    files = [("image", ("a", data))]
    answer = client.post("/api/search", files=files, data={"query": json.dumps({"top": 20})})
    if answer.status_code != 200:
        return reason(answer.json()["detail"])
    return [(hit["path"], hit["distance"]) for hit in answer.json()["hits"]]


def table(every: list[Kind], reasons: dict[str, str]) -> str:
    """The table of the docs."""
    rows = [f"| {kind.what} | {reasons[kind.file] or 'read'} |" for kind in every]
    return "\n".join(["| file | read, or why not |", "|---|---|", *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    from spq import SPQ

    every = kinds()
    with tempfile.TemporaryDirectory() as folder:
        reasons = agreed(every, SPQ.load(arguments.model), Path(folder))
    assert {kind.file: decoded(kind) for kind in every} == reasons
    new = table(every, reasons)
    if arguments.write:
        page = arguments.write.read_text("utf-8")
        start = page.index("| file |")
        arguments.write.write_text(page[:start] + new, "utf-8")
    sys.stdout.write(new)
    print(f"{len(every)} files, {list(reasons.values()).count('')} read", file=sys.stderr)


if __name__ == "__main__":
    main()
