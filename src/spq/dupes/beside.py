"""Files that belong to a picture: a sidecar with edits or keywords, the video of a live photo. Without it they mean nothing."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

# Edits and ratings (Adobe, Apple, darktable, RawTherapee, DxO, Capture One, ON1), facts of exports, captions, live videos, sound.
SUFFIXES = {
    ".xmp", ".aae", ".pp3", ".dop", ".cos", ".on1", ".nksc", ".arp", ".json", ".xml", ".txt", ".mov", ".mp4", ".m4a", ".wav"
}  # fmt: skip


class Beside:
    """Finds such files. Each folder is listed once.

    A file belongs to a.jpg if it is called a.xmp, a.jpg.xmp or a.jpg.more.json, in small or capital letters.
    """

    def __init__(self) -> None:
        self._folders: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}

    def of(self, path: Path | None) -> tuple[str, ...]:
        """The names of the files that belong to the picture at `path`; none inside a container."""
        if path is None:
            return ()
        folder = os.fspath(path.parent)
        if folder not in self._folders:
            self._folders[folder] = _listed(folder)
        by_stem, by_name = self._folders[folder]
        name = path.name.lower()
        return tuple(dict.fromkeys((*by_stem.get(path.stem.lower(), ()), *by_name.get(name, ()))))


def _listed(folder: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The files of a folder that may belong to a picture, by its name without and with suffix, in small letters."""
    by_stem, by_name = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 (names are all that is needed)
    except OSError:
        return {}, {}
    for name in names:
        stem, suffix = os.path.splitext(name.lower())  # noqa: PTH122 (called for each file of a collection)
        if suffix in SUFFIXES:
            by_stem[stem].append(name)
            by_name[stem].append(name)
            by_name[os.path.splitext(stem)[0]].append(name)  # noqa: PTH122
    return by_stem, by_name


def kinds(names: tuple[str, ...]) -> set[str]:
    """The suffixes of files.

    >>> sorted(kinds(("A.MOV", "A.jpg.xmp")))
    ['.mov', '.xmp']
    """
    return {os.path.splitext(name.lower())[1] for name in names}  # noqa: PTH122
