"""Damage pictures of all common formats, and make bombs: each is refused with a reason of one line, or read.

    python tests/faults/pictures.py --count 20000 --seed 1       # mutations
    python tests/faults/pictures.py --bombs                      # tests/faults/bombs.py

A fault is: a crash, an error that is no SPQError or has several lines, more than 10 s of processor time, more than 1 GB, a
picture of another shape than RGB. The pictures are drawn, or taken from a folder with --pictures.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from bombs import BOMBS
from measured import Outcome, refused, run, summary

from spq.data.decode import load_image
from spq.data.formats import register_heif
from spq.errors import SPQError

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    31,
    32,
    127,
    128,
    255,
    256,
    4096,
    13_377,
    32_767,
    32_768,
    65_535,
    2**24,
    2**31 - 1,
    2**32 - 1,
)
HINTS = (None, 32, 224)


def drawn(seed: int) -> Image.Image:
    """A picture with smooth parts, edges and noise, RGBA."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 4), np.uint8))
    pixels = np.asarray(small.resize((96, 72), Image.Resampling.BICUBIC)).copy()
    pixels[20:40, 30:60, :3] = rng.integers(0, 256, 3)
    pixels[50:, :20] = rng.integers(0, 256, (22, 20, 4))
    return Image.fromarray(pixels)


def kinds(rgba: Image.Image) -> dict[str, bytes]:
    """The picture in each format and kind."""
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    floats = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    cmyk, few = rgb.convert("CMYK"), rgba.quantize(32)
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "camera"
    other = rgb.transpose(Image.Transpose.ROTATE_180)
    moving = {"save_all": True, "append_images": [other, rgb], "duration": 40}
    made = {
        "jpeg": _encoded(rgb, "JPEG", exif=exif),
        "jpeg progressive": _encoded(rgb, "JPEG", progressive=True),
        "jpeg cmyk": _encoded(cmyk, "JPEG"),
        "jpeg grey": _encoded(grey, "JPEG", quality=30),
        "png": _encoded(rgb, "PNG"),
        "png alpha": _encoded(rgba, "PNG", exif=exif),
        "png palette": _encoded(few, "PNG"),
        "png 16 bits": _encoded(deep, "PNG"),
        "png one bit": _encoded(grey.convert("1"), "PNG"),
        "apng": _encoded(rgb, "PNG", **moving),
        "gif": _encoded(few, "GIF"),
        "gif moving": _encoded(rgb, "GIF", **moving),
        "webp": _encoded(rgb, "WEBP"),
        "webp lossless": _encoded(rgba, "WEBP", lossless=True, exif=exif),
        "webp moving": _encoded(rgb, "WEBP", **moving),
        "bmp": _encoded(rgb, "BMP"),
        "bmp palette": _encoded(grey, "BMP"),
        "avif": _encoded(rgb, "AVIF", speed=10),
        "avif alpha": _encoded(rgba, "AVIF", speed=10),
        "jpeg 2000": _encoded(rgb, "JPEG2000"),
        "jpeg 2000 tiles": _encoded(rgb, "JPEG2000", tile_size=(32, 32), irreversible=True, no_jp2=True),
        "tiff": _encoded(rgb, "TIFF"),
        "tiff floats": _encoded(floats, "TIFF"),
        "tiff 16 bits": _encoded(deep, "TIFF", compression="tiff_lzw"),
        "tiff pages": _encoded(rgb, "TIFF", save_all=True, append_images=[other], compression="tiff_adobe_deflate"),
        "tiff fax": _encoded(grey.convert("1"), "TIFF", compression="group4"),
        "tiff jpeg": _encoded(rgb, "TIFF", compression="jpeg"),
        "tiff cmyk": _encoded(cmyk, "TIFF", compression="packbits"),
    }
    if register_heif():
        made["heic"] = _encoded(rgb, "HEIF", quality=60)
    return made


def _encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return damaged bytes: flipped bits, cut, zeroed, parts swapped or doubled, or numbers of the header changed."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice((_flip, _cut, _zero, _swap, _number, _number, _number, _double))(out, rng)
        if len(out) < 8:
            break
    return with_checksums(bytes(out)) if rng.random() < 0.7 else bytes(out)


def _flip(out: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 20))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _cut(out: bytearray, rng: random.Random) -> None:
    del out[rng.randrange(len(out)) :]


def _zero(out: bytearray, rng: random.Random) -> None:
    at, size = rng.randrange(len(out)), rng.choice((1, 8, 100, 1000))
    out[at : at + size] = bytes(len(out[at : at + size]))


def _swap(out: bytearray, rng: random.Random) -> None:
    size = rng.randint(1, max(1, len(out) // 4))
    a, b = sorted((rng.randrange(len(out)), rng.randrange(len(out))))
    first, second = bytes(out[a : a + size]), bytes(out[b : b + size])
    if a + size <= b and b + size <= len(out):
        out[a : a + size], out[b : b + size] = second, first


def _double(out: bytearray, rng: random.Random) -> None:
    at, size = rng.randrange(len(out)), rng.choice((4, 30, 300))
    out[at:at] = bytes(out[at : at + size]) * rng.choice((1, 3, 200))


def _number(out: bytearray, rng: random.Random) -> None:
    """Change a number, mostly in the header, where the sizes are."""
    width = rng.choice((1, 2, 2, 4))
    at = rng.randrange(min(len(out), rng.choice((40, 200, 1000, len(out)))))
    value = rng.choice(NUMBERS) & (1 << 8 * width) - 1
    part = value.to_bytes(width, rng.choice(("big", "little")))
    out[at : at + width] = part[: len(out) - at]


def with_checksums(data: bytes) -> bytes:
    """Return a PNG with right checksums, so that its decoder reads on; other bytes as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 12 + int.from_bytes(out[at : at + 4], "big")
        if end > len(out):
            break
        out[end - 4 : end] = struct.pack(">I", zlib.crc32(out[at + 4 : end - 4]))
        at = end
    return bytes(out)


def answer(data: bytes, hint: int | None) -> str:
    """Load bytes; return "read" or the reason.

    Raises:
        AssertionError: the picture or the reason has a wrong form.
    """
    try:
        image = load_image(data, hint)
    except SPQError as error:
        return refused(error)
    assert image.mode == "RGB", image.mode
    assert 0 < image.width * image.height <= 178_956_970, image.size
    assert min(image.info["full_size"]) > 0
    image.resize((32, 32), Image.Resampling.BILINEAR)
    return "read"


def mutations(seed: int, pictures: Sequence[bytes]) -> Callable[[int], bytes]:
    """Return what makes the mutation of a number."""
    base = [*kinds(drawn(seed)).values(), *kinds(drawn(seed + 1)).values(), *pictures]

    def make(number: int) -> bytes:
        return mutated(base[number % len(base)], random.Random(f"{seed} {number}"))

    return make


def check(make: Callable[[int], bytes], count: int, workers: int) -> list[Outcome]:
    """Load all mutations, and return the outcomes in their order."""
    register_heif()
    outcomes = run(lambda number: answer(make(number), HINTS[number % 3]), range(count), workers)
    return sorted(outcomes, key=lambda outcome: outcome.number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pictures", type=Path, help="a folder whose pictures are damaged, too")
    parser.add_argument("--bombs", nargs="*", metavar="NAME", help="bombs instead of mutations, by default all")
    parser.add_argument("--save", type=Path, help="a folder for the bytes of the faults")
    given = parser.parse_args()
    if given.bombs is not None:
        names = given.bombs or list(BOMBS)
        make: Callable[[int], bytes] = lambda number: BOMBS[names[number]]()  # noqa: E731
        outcomes = bombs(names, given.workers)
    else:
        files = sorted(given.pictures.rglob("*.*"))[:40] if given.pictures else []
        names = [str(number) for number in range(given.count)]
        make = mutations(given.seed, [file.read_bytes() for file in files])
        outcomes = check(make, given.count, given.workers)
    faults = [outcome for outcome in outcomes if outcome.fault]
    for outcome in faults if given.bombs is None else outcomes:
        fault = f" {outcome.fault.upper()}" if outcome.fault else ""
        print(
            f"{names[outcome.number]}:{fault} {outcome.answer[:110]} ({outcome.seconds:.1f} s, {outcome.peak >> 20} MiB)"
        )
        if given.save and outcome.fault:
            (given.save / f"{names[outcome.number]}.bin").write_bytes(make(outcome.number))
    print(summary(outcomes, "pictures"))
    return min(1, len(faults))


def bombs(names: Sequence[str], workers: int) -> list[Outcome]:
    """Load bombs. They are made before, so that only the load counts."""
    outcomes: list[Outcome] = []
    for number, name in enumerate(names):
        data = BOMBS[name]()
        for hint in (None, 224):
            outcomes += [
                Outcome(number, f"{len(data):,} bytes, {found.answer}", found.fault, found.seconds, found.peak)
                for found in run(lambda _, data=data, hint=hint: answer(data, hint), [0], workers)
            ]
    return outcomes


if __name__ == "__main__":
    raise SystemExit(main())
