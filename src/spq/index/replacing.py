"""Put an index into the place of another one, and finish that where a process was killed meanwhile."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from spq.common.locks import held
from spq.index.committed import COMMITTED
from spq.index.format import DECISIONS, LOCK, NOT_DUPLICATES


def place_of_new(folder: Path) -> Path:
    """Where the new index is made, beside the old one."""
    return folder.with_name(f".{folder.name}.recoded")


def _place_of_old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _is_ours(name: str) -> bool:
    """Whether a file of this name is one of an index."""
    known = ("manifest.json", "model", LOCK, COMMITTED, NOT_DUPLICATES)
    return name in known or name.startswith(("items.sqlite", "decisions."))


def replace_index(folder: Path, fresh: Path) -> None:
    """Put the new index in the place of the old one, whose lock the caller holds, and delete the old one."""
    before = _place_of_old(folder)
    shutil.rmtree(before, ignore_errors=True)
    for file in (folder / NOT_DUPLICATES, folder / DECISIONS, *folder.glob("decisions.damaged-*.json")):
        if file.exists():
            shutil.copyfile(file, fresh / file.name)
    folder.rename(before)
    fresh.rename(folder)
    shutil.rmtree(before)


def finish_replacing(folder: Path) -> None:
    """Go on with a `replace_index` that was killed: a complete index gets its name, and the old one is deleted.

    Nothing happens where that is not the case, another process is at it, or this one may not write.
    """
    with suppress(OSError, ValueError, RuntimeError):  # a name too long, the root, a circle of links
        folder = folder.resolve()
        before, fresh = _place_of_old(folder), place_of_new(folder)
        if not all(_is_ours(file.name) for file in before.iterdir()):
            return
        if not any((place / "manifest.json").is_file() for place in (folder, fresh)):
            return
        with held(before / LOCK):
            if not folder.exists():
                fresh.rename(folder)
            shutil.rmtree(before)
