"""Pictures whose pixels are whole, in files that are not: what can be left out of a file, or added, without touching a pixel."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from functools import reduce

from PIL import Image

from spq.data.strips import boxes, part

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"IEND"}
_FRAMES = {b"acTL", b"fcTL", b"fdAT"}
_LOOKS = {b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"eXIf"}  # colours and orientation
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)  # of a segment: not pixels, filling or restarts
JFIF = 14  # bytes of the first segment
_AFTER = (b"", b"\x5a" * 64, b"\xa5" * 64)  # what could follow; the first bits differ


def repaired(data: bytes, max_pixels: int) -> Iterator[bytes]:
    """Yield other files with the same pixels, the most similar first, for a file that cannot be read as it is.

    What is really cut off stays so: nothing here makes up pixels.
    """
    if data.startswith(b"\xff\xd8\xff"):
        whole = with_end(data, max_pixels)
        if whole:
            yield whole
        bare = without_notes(data)
        yield bare
        whole = with_end(bare, max_pixels)
        if whole:
            yield whole
    elif data.startswith(_PNG):
        for kept in (_PIXELS | _FRAMES | _LOOKS, _PIXELS | _LOOKS, _PIXELS):
            yield only_chunks(data, kept)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        if _is_whole_webp(data):
            yield data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
        first = first_webp_frame(data)
        if first:
            yield first


def without_padding(data: bytes) -> bytes:
    """Return a JPEG without zeros at its end. Where a copy was interrupted they stand for lost pixels, and would be decoded."""
    is_padded = data.startswith(b"\xff\xd8\xff") and data.endswith(bytes(16))
    return data.rstrip(b"\0") if is_padded else data


def with_end(data: bytes, max_pixels: int) -> bytes | None:
    """Add the end marker to a JPEG that lacks nothing else; None if it lacks more.

    It lacks nothing else if its pixels do not depend on what might have followed: three different continuations give the same
    picture. In a progressive JPEG, the scans must also bring all bits of all coefficients.
    """
    data = data.removesuffix(b"\xff")
    if data.endswith(_END) or not _has_all_scans(data):
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                return None
        different = {_checksum(data + after + _END) for after in _AFTER}
    except Exception:  # errors of any type: it lacks more
        return None
    return data + _END if len(different) == 1 else None


def _checksum(data: bytes) -> int:
    """Return a checksum of the pixels of a JPEG."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        parts = (part(image, box).tobytes() for box in boxes(image.size))
        return reduce(lambda known, more: zlib.crc32(more, known), parts, 0)


def _has_all_scans(data: bytes) -> bool:
    """Whether each coefficient of each component of a JPEG has its last bit."""
    components: set[int] = set()
    missing: set[tuple[int, int]] = set()
    for kind, start, end in _segments(data):
        body = data[start:end]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            components = {body[6 + 3 * i] for i in range(body[5]) if 6 + 3 * i < len(body)}
            missing = {(component, k) for component in components for k in range(64)}
        elif kind == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            selected = [body[1 + 2 * i] for i in range(body[0])]
            first, last, bits = body[-3:]
            if not bits & 15:
                missing -= {(component, k) for component in selected for k in range(first, last + 1)}
    return bool(components) and not missing


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the segments of a JPEG. The pixels between them are passed over."""
    at = 2
    while (found := _MARKER.search(data, at)) and found.end() + 2 <= len(data):
        kind, start = data[found.end() - 1], found.end()
        end = start + int.from_bytes(data[start : start + 2], "big")
        if kind == 0xD9 or end > len(data):
            return
        yield kind, start + 2, end
        at = end


def without_notes(data: bytes) -> bytes:
    """Return a JPEG without EXIF, comments and notes of programs, and without a first segment that is too short.

    Adobe's segment stays, because it tells the colours.
    """
    parts, at = [data[:2]], 2
    for kind, start, end in _segments(data):
        if kind == 0xDA:
            break
        is_note = kind == 0xFE or (0xE1 <= kind <= 0xEF and kind != 0xEE) or (kind == 0xE0 and end - start < JFIF)
        is_profile = kind == 0xE2 and data[start : start + 12] == b"ICC_PROFILE\0"
        if is_note and not is_profile:
            parts.append(data[at : start - 4])
            at = end
    return b"".join([*parts, data[at:]])


def only_chunks(data: bytes, kept: set[bytes]) -> bytes:
    """Return a PNG with chunks of some kinds only; of chunks that Pillow need not have, only those with a right checksum."""
    parts, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, is_needed = data[at + 4 : at + 8], not data[at + 4] & 32
        if kind in kept:
            is_right = end <= len(data) and zlib.crc32(data[at + 4 : end - 4]) == int.from_bytes(
                data[end - 4 : end], "big"
            )
            if is_right or is_needed:
                parts.append(data[at:end])
        at = end
    return b"".join(parts)


def _is_whole_webp(data: bytes) -> bool:
    """Whether the parts of a WebP file fill it, whatever its first size says."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return at == len(data)


def first_webp_frame(data: bytes) -> bytes | None:
    """Return the first frame of a WebP animation as a picture, if it fills the picture and is whole."""
    at, canvas = 12, b""
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        start, end = at + 8, at + 8 + size
        if kind == b"VP8X":
            canvas = data[start + 4 : start + 10]
        elif kind == b"ANMF":
            frame = data[start + 16 : end]
            fills = data[start : start + 6] == bytes(6) and data[start + 6 : start + 12] == canvas
            if not fills or end > len(data):
                return None
            has_alpha = frame[:4] in (b"ALPH", b"VP8L")
            header = b"VP8X" + (10).to_bytes(4, "little") + bytes([16 * has_alpha, 0, 0, 0]) + canvas
            return b"RIFF" + (4 + len(header) + len(frame)).to_bytes(4, "little") + b"WEBP" + header + frame
        at = end + size % 2
    return None
