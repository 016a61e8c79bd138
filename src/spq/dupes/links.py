"""One file is one picture: which paths lead to the same file, over symbolic links or as further names (hard links)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from spq.common.files import absolute, expanded
from spq.data.image_set import ImageSet
from spq.dupes.facts import Facts


def with_files(facts: Facts, path: Path | None, roots: Iterable[str]) -> Facts:
    """Facts of a picture with what the system knows about its file.

    Args:
        path: absolute; None inside a container. roots: the folders of the collection; a link on the way to them is no link.
    """
    if path is None:
        return facts
    file = os.fspath(path)
    try:
        status = path.stat()
    except OSError:
        return replace(facts, file=file)
    is_link, is_behind = path.is_symlink(), _is_behind_link(os.fspath(path.parent), tuple(roots))
    target = os.path.realpath(file) if is_link or is_behind else ""
    inode = (status.st_dev, status.st_ino) if status.st_ino else None
    found = replace(facts, file=file, inode=inode, names=status.st_nlink)
    return replace(found, is_link=is_link, is_behind_link=is_behind and not is_link, target=target)


def roots_of(images: ImageSet) -> list[str]:
    """The absolute paths of the folders of a collection, as they were given."""
    return [os.fspath(absolute(expanded(name))) for name in images.source.names]


@lru_cache(100_000)
def _is_behind_link(folder: str, roots: tuple[str, ...]) -> bool:
    """Whether a folder, or one above it inside a root, is a symbolic link."""
    parent = os.path.dirname(folder)  # noqa: PTH120 (called for each folder of a collection)
    if folder in roots or parent == folder:
        return False
    return os.path.islink(folder) or _is_behind_link(parent, roots)  # noqa: PTH114


def note_of_link(facts: Facts, others: Sequence[Facts]) -> str:
    """What a path is to the others that lead to the same file; empty if it is the one that stands for the file.

    Args:
        others: paths of the same group, the kept one first.
    """
    if facts.inode is None:
        return ""
    same = [other for other in others if other.inode == facts.inode and other.path != facts.path]
    itself = [other for other in same if _real(other) == _real(facts)]
    if facts.is_link:
        name = next((other.path for other in itself if not other.is_link), same[0].path if same else facts.target)
        breaks = bool(same) and others[0].inode != facts.inode  # the kept picture is another file
        return f"link to {name}" + (", and leads nowhere without it" if breaks else "")
    if twice := [other for other in itself if not other.is_link and (facts.is_behind_link or other is others[0])]:
        return f"the same file as {twice[0].path}, over a linked folder"
    hard = [other for other in same if not other.is_link and other not in itself]
    return f"hard link of {hard[0].path}, frees nothing" if hard else ""


def _real(facts: Facts) -> str:
    """The path of the file itself."""
    return facts.target or os.path.realpath(facts.file)


def freed_bytes(kept: Iterable[Facts], superfluous: Iterable[Facts]) -> int:
    """Bytes that the disk gets back without the superfluous paths: none for a link, or for a file that has another name left."""
    superfluous = list(superfluous)
    gone = {_real(facts) for facts in superfluous if not facts.is_link}
    held = {facts.inode for facts in kept if facts.inode and _real(facts) not in gone}
    size: dict[tuple[int, int], int] = {}
    names: dict[tuple[int, int], set[str]] = {}
    total = 0
    for facts in superfluous:
        if facts.inode is None:
            total += facts.size
        elif not facts.is_link:
            size[facts.inode] = facts.size if facts.inode not in held else 0
            names.setdefault(facts.inode, set()).add(_real(facts))
            if len(names[facts.inode]) == facts.names:
                total += size[facts.inode]
    return total
