"""The JPEG that a camera puts into its raw files, where they are TIFF inside: DNG, CR2, NEF, ARW, PEF and others."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_FOLDERS = 32  # image file directories that are looked at
MAX_ENTRIES = 1000  # of each
_WIDTHS = {1: 1, 3: 2, 4: 4, 13: 4}  # TIFF's types of whole numbers -> bytes
COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION, COUNTS, SUBFOLDERS, JPEG_AT, JPEG_SIZE, DNG = (
    0x103, 0x106, 0x111, 0x112, 0x117, 0x14A, 0x201, 0x202, 0xC612,
)  # fmt: skip
_SENSOR = {32803, 34892}  # pixels as the sensor saw them
Folder = dict[int, list[int]]


def find_preview(data: bytes) -> tuple[bytes, int] | None:
    """Return the largest JPEG in a camera's raw file, and the orientation of the picture. Raw pixels are never developed.

    None if it is another file, or has no JPEG.
    """
    folders = _raw_folders(data)
    jpegs = [jpeg for folder in folders for jpeg in _jpegs(data, folder)]
    largest = max(jpegs, key=_pixels, default=b"")
    if not largest or not _pixels(largest):
        return None
    return largest, folders[0].get(ORIENTATION, [1])[0]


def is_raw(start: bytes) -> bool:
    """Whether a file that begins so is the raw of a camera, with TIFF inside."""
    return bool(_raw_folders(start))


def _raw_folders(data: bytes) -> list[Folder]:
    """The directories of a raw file; none of another file."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return []
    folders = list(_folders(data))
    marked = any(DNG in folder or _SENSOR & {*folder.get(PHOTOMETRIC, [])} for folder in folders)
    return folders if marked or data[8:10] == b"CR" else []


def _folders(data: bytes) -> Iterator[Folder]:
    """Read the directories of a TIFF: those of its pages, and those below them."""
    order = "<" if data[:2] == b"II" else ">"
    waiting, seen = [*struct.unpack_from(f"{order}I", data + bytes(8), 4)], set[int]()
    while waiting and len(seen) < MAX_FOLDERS:
        at = waiting.pop(0)
        if at in seen or not 8 <= at <= len(data) - 6:
            continue
        seen.add(at)
        count = struct.unpack_from(f"{order}H", data, at)[0]
        end = at + 2 + 12 * count
        if count > MAX_ENTRIES or end > len(data):
            continue
        folder = dict(_entry(data, place, order) for place in range(at + 2, end, 12))
        waiting += folder.get(SUBFOLDERS, [])
        waiting += struct.unpack_from(f"{order}I", data, end) if end + 4 <= len(data) else ()
        yield folder


def _entry(data: bytes, at: int, order: str) -> tuple[int, list[int]]:
    """Read a tag and its whole numbers, at most 64."""
    tag, kind, count = struct.unpack_from(f"{order}HHI", data, at)
    width = _WIDTHS.get(kind, 0)
    count = min(count, 64)
    start = at + 8 if width * count <= 4 else struct.unpack_from(f"{order}I", data, at + 8)[0]
    if not width or start + width * count > len(data):
        return tag, []
    return tag, list(struct.unpack_from(f"{order}{count}{' BH I'[width]}", data, start))


def _jpegs(data: bytes, folder: Folder) -> Iterator[bytes]:
    pairs = [(folder.get(JPEG_AT, []), folder.get(JPEG_SIZE, []))]
    if {6, 7} & {*folder.get(COMPRESSION, [])} and len(folder.get(STRIPS, [])) == 1:
        pairs.append((folder[STRIPS], folder.get(COUNTS, [])))
    for starts, sizes in pairs:
        if starts and sizes and data[starts[0] : starts[0] + 2] == b"\xff\xd8":
            yield data[starts[0] : starts[0] + sizes[0]]


def _pixels(jpeg: bytes) -> int:
    """Return the pixels of a JPEG; 0 if it is of a kind that only raw files have (lossless), or damaged."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        kind = jpeg[at + 1]
        if kind in (0xC0, 0xC1, 0xC2):
            height, width = struct.unpack_from(">HH", jpeg, at + 5)
            return int(height * width)
        if kind in (0xC3, 0xDA):
            return 0
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return 0
