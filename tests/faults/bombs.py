"""Pictures that are small as files and large, or slow, when they are decoded. `BOMBS` has name -> a function that makes one.

Most are made from parts of a format by hand, in well under a second; nothing here needs much memory.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import partial

from PIL import Image

SIDE = 13_377  # a square of this side is just within the limit of pixels
MIB = 2**20


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deflated(row: bytes, rows: int, wbits: int = 15) -> bytes:
    """Deflate a row many times, without having all of them in memory."""
    packer = zlib.compressobj(9, wbits=wbits)
    count = max(1, MIB // len(row))
    parts = [packer.compress(row * min(count, rows - done)) for done in range(0, rows, count)]
    return b"".join([*parts, packer.flush()])


def png(
    width: int, height: int, depth: int, kind: int, bytes_per_row: int, more: bytes = b"", interlace: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    pixels = deflated(b"\0" + bytes(bytes_per_row), height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def small_png(more: Iterable[bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + b"".join(more) + chunk(b"IDAT", deflated(bytes(9), 8)) + chunk(b"IEND", b"")


def palette() -> bytes:
    return chunk(b"PLTE", bytes(range(256)) * 3) + chunk(b"tRNS", bytes(range(256)))


def turned() -> bytes:
    return chunk(b"eXIf", b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, 6, 0))


def apng(frames: int) -> bytes:
    control = struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 1, 0, 0)
    frame = chunk(b"fcTL", control) + chunk(b"fdAT", b"\0\0\0\1" + deflated(bytes(9), 8))
    return small_png([chunk(b"acTL", struct.pack(">II", frames, 0)), chunk(b"fcTL", control)])[:-12] + frame * frames


def gif(width: int, height: int, body: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0\xff\xff\xff" + body + b";"


def gif_frame(width: int = 1, height: int = 1, data: bytes = b"\x02\x02\x44\x01\0") -> bytes:
    return b"\x21\xf9\x04\0\0\0\0\0," + struct.pack("<HHHH", 0, 0, width, height) + b"\0" + data


def lzw_zeros(pixels: int) -> bytes:
    """The LZW code of many zeros in a GIF: each code stands for one zero more than the code before."""
    codes, done, bits, value, out = 0, 0, 0, 0, bytearray()

    def put(code: int, width: int) -> None:
        nonlocal bits, value
        value |= code << bits
        bits += width
        while bits >= 8:
            out.append(value & 255)
            value >>= 8
            bits -= 8

    put(4, 3)
    while done < pixels:
        run = codes + 1
        put(0 if run == 1 else 4 + run, max(3, (4 + run).bit_length()) if run > 1 else 3)
        done += run
        codes += 1
        if codes == 4000:
            put(4, 12)
            codes = 0
    put(5, 12)
    put(0, 8)
    blocks = [bytes([len(part)]) + part for part in (out[i : i + 255] for i in range(0, len(out), 255))]
    return b"\x02" + b"".join(map(bytes, blocks)) + b"\0"


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def jpeg(side: int = 64, size: tuple[int, int] | None = None, **options: object) -> bytes:
    """A JPEG of one colour; its header may tell another size."""
    data = encoded(Image.new("RGB", (side, side), (90, 60, 30)), "JPEG", **options)
    at = next(i for i in (data.find(b"\xff\xc0\0"), data.find(b"\xff\xc2\0")) if i >= 0)
    return data if size is None else data[: at + 5] + struct.pack(">HH", *size) + data[at + 9 :]


def jpeg_of_scans(scans: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes many times; a scan that ends early counts as one of zeros."""
    data = jpeg(64, (side, side), progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def jpeg_of_parts(part: bytes, count: int) -> bytes:
    data = jpeg()
    return data[:2] + part * count + data[2:]


def tiff(entries: list[tuple[int, int, int, int]], tail: bytes, at: int = 0) -> bytes:
    """A TIFF of one page with (tag, type, count, value); `tail` follows at the offset 4096."""
    folder = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<I", 8) + folder + struct.pack("<I", at)).ljust(4096, b"\0") + tail


def tiff_strip(width: int, height: int, bits: int, samples: int, kind: int, more: tuple = ()) -> bytes:
    """A TIFF of one deflated strip of zeros. The bits of all samples are those of the first one."""
    row = width * bits * samples // 8
    data = deflated(bytes(row), height)
    where = (258, 3, samples, 4000) if samples > 2 else (258, 3, 1, bits)
    entries = [(256, 4, 1, width), (257, 4, 1, height), where, (259, 3, 1, 8), (262, 3, 1, kind), (273, 4, 1, 4096)]
    entries += [(277, 3, 1, samples), (278, 4, 1, height), (279, 4, 1, len(data)), *more]
    whole = tiff(sorted(entries), data)
    return whole[:4000] + struct.pack("<H", bits) * samples + whole[4000 + 2 * samples :]


def tiff_pages(count: int) -> bytes:
    page = struct.pack("<H", 8) + b"".join(
        struct.pack("<HHII", *entry)
        for entry in ((256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 4),
                      (278, 3, 1, 1), (279, 4, 1, 1))
    )  # fmt: skip
    size = len(page) + 4
    return (
        b"II*\0" + struct.pack("<I", 8) + b"".join(page + struct.pack("<I", 8 + size * n) for n in range(1, count + 1))
    )


def icon(inner: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def icns(inner: bytes) -> bytes:
    return b"icns" + struct.pack(">I", 16 + len(inner)) + b"ic07" + struct.pack(">I", 8 + len(inner)) + inner


def dds(width: int, height: int) -> bytes:
    header = struct.pack("<7I44x", 124, 0x1007, height, width, 0, 0, 0)
    form = struct.pack("<8I", 32, 0x41, 0, 32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    return b"DDS " + header + form + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + bytes(MIB)


def qoi(side: int) -> bytes:
    return b"qoif" + struct.pack(">IIBB", side, side, 3, 0) + b"\xfd" * (side * side // 62 + 1) + bytes(7) + b"\1"


def bmp_rle(side: int) -> bytes:
    row = b"\xff\0" * (side // 255) + bytes([side % 255, 0]) + b"\0\0"
    pixels = row * side + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + bytes(1024) + pixels


def fits(side: int) -> bytes:
    def cards(*texts: str) -> bytes:
        return b"".join(text.ljust(80).encode() for text in (*texts, "END")).ljust(2880)

    table = cards(
        "XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 8", "NAXIS2  = 1", "PCOUNT  = 0", "GCOUNT  = 1",
        "ZIMAGE  = T", "ZCMPTYPE= 'GZIP_1  '", "ZBITPIX = 8", "ZNAXIS  = 2", f"ZNAXIS1 = {side}", f"ZNAXIS2 = {side}",
    )  # fmt: skip
    packed = deflated(bytes(4 * side), side, 31)
    return cards("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0") + table + bytes(8) + packed


def webp_canvas(width: int, height: int, frames: int) -> bytes:
    """An animation whose canvas is large, and whose frames are small."""
    inner = encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    head = struct.pack("<I", 2)[:1] + bytes(3) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = bytes(6) + b"\x0f\0\0\x0f\0\0" + bytes(4) + inner
    parts = b"VP8X" + struct.pack("<I", 10) + head + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    parts += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * frames
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


def jpeg2000(change: Callable[[bytearray, int], None] | None = None, side: int = 64) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (side, side), (90, 60, 30)), "JPEG2000", no_jp2=True))
    if change:
        change(data, data.find(b"\xff\x51") + 6)
    return bytes(data)


def _large_tiles(data: bytearray, at: int) -> None:
    struct.pack_into(">II8xII", data, at, SIDE, SIDE, SIDE, SIDE)


def _small_tiles(data: bytearray, at: int) -> None:
    struct.pack_into(">II8xII", data, at, 250, 250, 1, 1)


def _many_components(data: bytearray, at: int) -> None:
    struct.pack_into(">II8xII", data, at, SIDE, SIDE, SIDE, SIDE)
    struct.pack_into(">H", data, at + 32, 16384)


def xpm(colours: int) -> bytes:
    lines = [f'"{n:06x} c #000000",\n' for n in range(colours)]
    return f'/* XPM */\nstatic char *x[] = {{\n"9000 9000 {colours} 6",\n'.encode() + "".join(lines).encode()


def wide(kind: str) -> bytes:
    size = (178_000_000, 1) if kind == "wide" else (1, 178_000_000)
    return png(*size, 8, 6, 4 * size[0])


BOMBS: dict[str, Callable[[], bytes]] = {
    "png, grey of 16 bits": partial(png, SIDE, SIDE, 16, 0, 2 * SIDE),
    "png, palette with transparency": partial(png, SIDE, SIDE, 8, 3, SIDE, palette()),
    "png, rgba": partial(png, SIDE, SIDE, 8, 6, 4 * SIDE),
    "png, rgb of 16 bits, dark": partial(png, SIDE, SIDE, 16, 2, 6 * SIDE),
    "png, grey with alpha of 16 bits": partial(png, SIDE, SIDE, 16, 4, 4 * SIDE),
    "png, rgb, turned": partial(png, SIDE, SIDE, 8, 2, 3 * SIDE, turned()),
    "png, rgb with a profile's chunk and gamma": partial(
        png, SIDE, SIDE, 8, 2, 3 * SIDE, chunk(b"gAMA", (90_000).to_bytes(4, "big"))
    ),
    "png, one bit, turned": partial(png, SIDE, SIDE, 1, 0, -(-SIDE // 8), turned()),
    "png, interlaced": partial(png, SIDE, SIDE, 8, 6, 4 * SIDE, b"", 1),
    "png, a header of 4 billion pixels": partial(png, 65_535, 65_535, 8, 2, 100),
    "png, one pixel high": partial(wide, "wide"),
    "png, one pixel wide": partial(wide, "high"),
    "png, a million chunks": lambda: small_png([chunk(b"spAM", b"")] * 1_000_000),
    "png, packed text": lambda: small_png([chunk(b"zTXt", b"a\0\0" + deflated(bytes(1000), 1000))] * 200),
    "png, packed profile of 1 GB": lambda: small_png([chunk(b"iCCP", b"a\0\0" + deflated(bytes(MIB), 1000))]),
    "png, 100,000 frames": partial(apng, 100_000),
    "gif, a million frames": lambda: gif(1, 1, gif_frame() * 1_000_000),
    "gif, frames on a large canvas": lambda: gif(SIDE, SIDE, gif_frame() * 10_000),
    "gif, one large frame": lambda: gif(SIDE, SIDE, gif_frame(SIDE, SIDE, lzw_zeros(SIDE * SIDE))),
    "gif, comments in parts of one byte": lambda: gif(1, 1, (b"\x21\xfe" + b"\1a" * 5_000_000 + b"\0") + gif_frame()),
    "jpeg, a header of 4 billion pixels": partial(jpeg, 64, (65_500, 65_500)),
    "jpeg, a header of 1.4 billion pixels": partial(jpeg, 64, (37_000, 37_000)),
    "jpeg, real pixels at the limit": partial(jpeg, SIDE, None),
    "jpeg, progressive, 4:4:4": partial(jpeg, 64, (SIDE, SIDE), progressive=True, subsampling=0),
    "jpeg, progressive, 4:2:0": partial(jpeg, 64, (SIDE, SIDE), progressive=True),
    "jpeg, 10,000 scans": partial(jpeg_of_scans, 10_000, 3000),
    "jpeg, 300 scans": partial(jpeg_of_scans, 300, 3500),
    "jpeg, millions of filling bytes": partial(jpeg_of_parts, b"\xff", 20_000_000),
    "jpeg, a million notes": partial(jpeg_of_parts, b"\xff\xfe\0\2", 1_000_000),
    "jpeg, a profile of 16 MB": lambda: jpeg_of_parts(b"\xff\xe2\xff\xffICC_PROFILE\0\1\1" + bytes(65_519), 255),
    "tiff, one strip of rgb": partial(tiff_strip, SIDE, SIDE, 8, 3, 2),
    "tiff, one strip of rgb of 16 bits": partial(tiff_strip, SIDE, SIDE, 16, 3, 2),
    "tiff, cmyk of 16 bits": partial(tiff_strip, SIDE, SIDE, 16, 4, 5),
    "tiff, floats": partial(tiff_strip, SIDE, SIDE, 32, 1, 1, ((339, 3, 1, 3),)),
    "tiff, rgb, turned": partial(tiff_strip, 10_000, 10_000, 8, 3, 2, ((274, 3, 1, 6),)),
    "tiff, rgba": partial(tiff_strip, 11_000, 11_000, 8, 4, 2, ((338, 3, 1, 2),)),
    "tiff, a million pages": partial(tiff_pages, 1_000_000),
    "tiff, tags that share their numbers": lambda: tiff(
        [(256, 4, 1, 8), (257, 4, 1, 8), (259, 3, 1, 1)] + [(40_000 + n, 3, 5_000_000, 4096) for n in range(300)],
        bytes(10_000_000),
    ),
    "tiff, millions of strips": lambda: tiff(
        [
            (256, 4, 1, 1),
            (257, 4, 1, 4_000_000),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 4_000_000, 4096),
            (278, 4, 1, 1),
            (279, 4, 4_000_000, 4096),
        ],
        bytes(16_000_000),
    ),
    "webp, a large canvas": partial(webp_canvas, SIDE, SIDE, 2),
    "webp, a canvas and 20,000 frames": partial(webp_canvas, 2000, 2000, 20_000),
    "avif, large": lambda: encoded(Image.new("L", (6000, 6000), 90), "AVIF", speed=10),
    "jpeg 2000, one large tile": partial(jpeg2000, _large_tiles),
    "jpeg 2000, tiles of one pixel": partial(jpeg2000, _small_tiles),
    "jpeg 2000, thousands of components": partial(jpeg2000, _many_components),
    "jpeg 2000, real pixels": lambda: jpeg2000(None, 5000),
    "bmp, runs": partial(bmp_rle, SIDE),
    "ico, a png at the limit": lambda: icon(png(SIDE, SIDE, 8, 6, 4 * SIDE)),
    "icns, a png at the limit": lambda: icns(png(SIDE, SIDE, 8, 6, 4 * SIDE)),
    "dds, pixels in python": partial(dds, SIDE, SIDE),
    "qoi, runs": partial(qoi, SIDE),
    "fits, packed": partial(fits, SIDE),
    "ppm as text, a large header": lambda: b"P3 13377 13377 255\n" + b"0 " * MIB,
    "pgm of 12 bits": lambda: b"P5 13377 13377 4095\n" + bytes(8 * MIB),
    "xpm, colours": partial(xpm, 400_000),
    "gzip of a picture": lambda: gzip.compress(bytes(100 * MIB)),
}
