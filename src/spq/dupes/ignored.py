"""Pairs of pictures that the user called no duplicates. They are remembered by content, so a new name changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from spq.common.files import Replacing, read_regular
from spq.common.json_file import parse_json
from spq.errors import DataError
from spq.index.format import NOT_DUPLICATES, PAIRS_BYTES

NAME = NOT_DUPLICATES


@dataclass(frozen=True)
class Ignored:
    """Two pictures: the hashes of their bytes in hexadecimal digits, and what they were called."""

    hashes: tuple[str, str]
    paths: tuple[str, str]

    @property
    def key(self) -> frozenset[str]:
        return frozenset(self.hashes)


def read_ignored(file: Path | None) -> list[Ignored]:
    """The remembered pairs; none if there is no file yet. Damaged lines are passed over; `damaged_lines` counts them.

    Raises:
        DataError: the file cannot be read.
    """
    return [pair for line in _lines(file) if (pair := _pair(line))]


def damaged_lines(file: Path | None) -> int:
    """How many lines are no pair."""
    return sum(_pair(line) is None for line in _lines(file))


def _lines(file: Path | None) -> list[bytes]:
    try:
        return [line for line in read_regular(file, PAIRS_BYTES).splitlines() if line.strip()] if file else []
    except (FileNotFoundError, NotADirectoryError):
        return []
    except ValueError as error:
        raise DataError(f"cannot read {file}: {error}; delete it to forget its pairs") from None
    except OSError as error:
        raise DataError(
            f"cannot read {file}: {error.strerror}; make it readable, or delete it to forget its pairs"
        ) from None


def write_ignored(file: Path, pairs: Iterable[Ignored]) -> None:
    """Remember these pairs and no others."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(file) as temporary, temporary.open("w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(asdict(pair)) + "\n" for pair in pairs)


def revise_ignored(file: Path, add: Iterable[Ignored], drop: Iterable[frozenset[str]] = ()) -> None:
    """Remember more pairs, and forget others.

    Raises:
        DataError: the file cannot be read. OSError: it cannot be written.
    """
    known, gone = read_ignored(file), frozenset(drop)
    kept = {pair.key: pair for pair in known if pair.key not in gone}
    new = {pair.key: pair for pair in add} | kept
    if new.keys() != {pair.key for pair in known}:
        write_ignored(file, new.values())


def _pair(line: bytes) -> Ignored | None:
    try:
        fields = parse_json(line)
        (a, b), (first, second) = fields["hashes"], fields["paths"]
        bytes.fromhex(a), bytes.fromhex(b)
    except (ValueError, TypeError, KeyError):
        return None
    return Ignored((a, b), (first, second)) if isinstance(first, str) and isinstance(second, str) else None
