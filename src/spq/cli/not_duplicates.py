"""`spq dupes --ignore`: remember that two pictures are no duplicates, list what is remembered, and forget it again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from spq.cli.describe import counted
from spq.cli.indexing import is_index
from spq.cli.output import note
from spq.cli.output import show as show_text
from spq.common.files import lasting_cache
from spq.common.text import printable
from spq.data.image_set import ImageSet
from spq.dupes.ignored import NAME, Ignored, damaged_lines, read_ignored, write_ignored
from spq.errors import ConfigError, DataError
from spq.model.feature_store import hash_of


def file_for(index: Path | None) -> Path | None:
    """Where pairs are remembered: in the index, or in the user's cache folder; None if the user has none."""
    if index:
        return index / NAME
    cache = lasting_cache()
    return cache / NAME if cache else None


def known_pairs(file: Path | None) -> list[Ignored]:
    """The remembered pairs, with a note if lines of the file are damaged."""
    if damaged := damaged_lines(file):
        note(f"{file}: {counted(damaged, 'damaged line')} passed over; --ignore the pairs again")
    return read_ignored(file)


def remember(file: Path | None, images: ImageSet, paths: tuple[str, str]) -> None:
    """Remember that two pictures are no duplicates."""
    pair = _pair(images, paths)
    if file is None:
        raise ConfigError(
            "--ignore cannot be kept, as this user has no home; set SPQ_CACHE to a folder, or use an index"
        )
    known = known_pairs(file)
    if pair.key not in {each.key for each in known}:
        _write(file, [*known, pair])
    note(f"{' and '.join(map(printable, paths))} are no longer reported as duplicates")


def forget(file: Path | None, images: ImageSet, paths: tuple[str, str]) -> None:
    """Report a pair again."""
    pair, known = _pair(images, paths), known_pairs(file)
    left = [each for each in known if each.key != pair.key]
    if file is None or len(left) == len(known):
        raise ConfigError(f"--forget {paths[0]} {paths[1]} is not an ignored pair; --ignored lists them")
    _write(file, left)
    note(f"{' and '.join(map(printable, paths))} are reported again")


def show(file: Path | None, as_json: bool) -> None:
    """Print the remembered pairs."""
    known = known_pairs(file)
    if as_json:
        print(json.dumps({"ignored": [list(each.paths) for each in known]}))
        return
    for each in known:
        show_text("  ".join(map(printable, each.paths)))
    note(f"{counted(len(known), 'pair')} ignored")


def _write(file: Path, pairs: list[Ignored]) -> None:
    try:
        write_ignored(file, pairs)
    except OSError as error:
        of_index = is_index(file.parent)
        remedy = "copy the index to a place that can be written" if of_index else "set SPQ_CACHE to a folder"
        raise ConfigError(f"--ignore cannot be kept in {file.parent}: {error.strerror}; {remedy}") from None


def _pair(images: ImageSet, paths: tuple[str, str]) -> Ignored:
    first, second = (_position(images, path) for path in paths)
    if first == second:
        raise ConfigError(f"{paths[0]} and {paths[1]} are one picture; give two")
    a, b = (hash_of(images.read(position)).hex() for position in (first, second))
    return Ignored((a, b), paths)


def _position(images: ImageSet, path: str) -> int:
    """The position of a picture, by its path in the collection or by that of its file."""
    if path in images.ids:
        return images.ids.index(path)
    files = [images.path(position) for position in range(len(images))]
    for spelled in (os.path.abspath, os.path.realpath):  # a link in the collection is found by its own name first
        wanted = spelled(path)
        position = next((n for n, file in enumerate(files) if file and spelled(file) == wanted), None)
        if position is not None:
            break
    if position is None:
        raise DataError(f"{images.name} has no picture {path}; give its path as spq dupes prints it")
    return position
