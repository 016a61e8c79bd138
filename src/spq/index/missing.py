"""Pictures of an index that a collection does not list: which of them were deleted, and which are only out of sight.

A disk that is not mounted looks like a folder that somebody has emptied. So a picture counts as deleted if its folder is gone,
or has other content. If its folder is empty, or was on another disk, the picture is kept and reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import batches
from spq.data.image_set import ImageSet
from spq.data.several import place_of, prefixes_of
from spq.data.source import Source
from spq.data.walk import EMPTY
from spq.errors import LossError
from spq.index.items import Item
from spq.index.store import Store

FEW = 10  # so many pictures may vanish at once from any collection
SHARE = 0.5  # above this share of an index, pictures vanish at once by mistake more often than by wish
AT_ONCE = 65_536  # paths that are compared at a time
OTHER_DISK = "another disk was here when it was indexed"


@dataclass
class Missing:
    """Paths of an index that its collection does not list.

    Attributes:
        gone: deleted, sorted.
        hidden: folder -> paths below it that are out of sight. reasons: folder -> why.
    """

    gone: list[str] = field(default_factory=list)
    hidden: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def without(self, moved: Collection[str]) -> Missing:
        """The same without files that have another name now."""
        hidden = {folder: [path for path in paths if path not in moved] for folder, paths in self.hidden.items()}
        hidden = {folder: paths for folder, paths in hidden.items() if paths}
        return Missing([path for path in self.gone if path not in moved], hidden, self.reasons)

    def report(self) -> list[tuple[str, str]]:
        """(folder, reason) of what is out of sight."""
        return [
            (folder, f"{self.reasons[folder]}; kept: {_counted(len(paths))}, which `remove_missing` removes")
            for folder, paths in self.hidden.items()
        ]


class Listed:
    """The ids of a collection, for asking which paths are among them: 12 to 16 bytes for each.

    A Python set of all ids would take more than the ids themselves.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        keys = _keys(ids)
        order = keys.argsort()
        self._keys, self._positions = keys[order], order.astype(np.uint32) if len(ids) < 2**32 else order

    def without(self, paths: list[str]) -> list[str]:
        """Those of the paths that are no ids."""
        if not len(self._keys):
            return paths
        keys = _keys(paths)
        starts, ends = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        firsts = self._positions[np.minimum(starts, len(self._keys) - 1)].tolist()
        left = []
        for path, first, start, end in zip(paths, firsts, starts.tolist(), ends.tolist(), strict=True):
            if start == end or (self._ids[first] != path and not self._has(path, start + 1, end)):
                left.append(path)
        return left

    def _has(self, path: str, start: int, end: int) -> bool:
        return any(self._ids[position] == path for position in self._positions[start:end].tolist())


def _keys(names: Sequence[str]) -> NDArray[np.int64]:
    """A 64-bit hash of each name, which is valid in this process only."""
    return np.fromiter(map(hash, names), np.int64, len(names))


def unlisted_paths(paths: Iterable[str], source: ImageSet) -> list[str]:
    """Those of the paths of an index that a collection does not list, sorted."""
    listed = Listed(source.ids)
    return sorted(path for some in batches(paths, AT_ONCE) for path in listed.without(some))


def find_missing(unlisted: Sequence[str], source: ImageSet, mounts: Iterable[str]) -> Missing:
    """Find what has become of pictures that the collection no longer lists. Those that could not be checked are in neither list.

    Args:
        unlisted: their paths, see `unlisted_paths`. mounts: folders that were on disks of their own at the last sync.
    """
    unchecked = {path for path, _ in [*source.unlisted, *source.unopened]} - {path for path, _ in source.aside.absent}
    reasons = dict.fromkeys(set(mounts) - set(source.aside.mounts), OTHER_DISK) | dict(source.aside.absent)
    found = Missing(reasons=reasons)
    prefixes = sorted(prefixes_of(source.source), reverse=True)
    for path in unlisted:
        above = _above(path, prefixes)
        if not unchecked.isdisjoint(above):
            continue
        folder = next((folder for folder in above if folder in reasons), None)
        if folder is None:
            found.gone.append(path)
        else:
            found.hidden.setdefault(folder, []).append(path)
    return found


class Moves:
    """Finds the item of a file that has another name now, so that it keeps its id.

    Files of a whole collection that is not there count as copied, not as moved.

    Attributes:
        taken: paths of such items.
    """

    def __init__(self, store: Store, missing: Missing) -> None:
        self.taken: set[str] = set()
        self._store = store
        self._gone = missing.gone
        self._emptied = {
            p for folder, paths in missing.hidden.items() if missing.reasons[folder] == EMPTY for p in paths
        }
        self._by_hash: dict[bytes, list[str]] | None = None

    def take(self, item: Item) -> str | None:
        """The old path of a new item of the same bytes, once."""
        if self._by_hash is None:
            self._by_hash = {}
            for path, digest in self._store.hashes([*self._gone, *self._emptied]).items():
                self._by_hash.setdefault(digest, []).append(path)
        for path in self._by_hash.get(item.hash, ()):
            # a folder that is empty now may be that of an unmounted disk, and the new file a copy: its time would differ
            if path not in self._emptied or self._store.stats([path])[path][:2] == (item.size, item.mtime_ns):
                self._by_hash[item.hash].remove(path)
                self.taken.add(path)
                return path
        return None


def check_loss(gone: Collection[str], count: int, before: Source, now: Source) -> None:
    """Refuse to remove a large part of an index at once.

    Args:
        count: pictures in the index. before: its collections. now: those that it shall have.
    Raises:
        LossError: more than half would be removed, and not just a few; of other collections, also if they are few.
    """
    gone = _vanished(gone, before, now)
    is_other = {*map(place_of, before.names)}.isdisjoint(map(place_of, now.names))
    if len(gone) <= SHARE * count or (len(gone) <= FEW and not is_other):
        return
    other = f"it holds those of {', '.join(before.names)}; " if is_other else ""
    raise LossError(
        f"{len(gone):,} of {count:,} pictures of the index are not in {', '.join(now.names)}, and nothing was removed; "
        f"{other}check the folders, or set `remove_missing` to remove them"
    )


def _vanished(gone: Collection[str], before: Source, now: Source) -> Collection[str]:
    """What is gone without a wish: not what new patterns leave out."""
    if (before.exclude, before.include, before.follow_links) == (now.exclude, now.include, now.follow_links):
        return gone
    places = sorted(zip(prefixes_of(now), now.names, strict=True), reverse=True)
    rules = [(prefix, replace(now.rules(prefix), root=PurePath(name).as_posix())) for prefix, name in places]
    left = []
    for path in gone:
        prefix, rule = next((each for each in rules if path.startswith(f"{each[0]}/" if each[0] else "")), ("", None))
        if rule is None or rule.takes(path[len(prefix) :].lstrip("/")):
            left.append(path)
    return left


def _above(path: str, prefixes: Sequence[str]) -> list[str]:
    """A path and the folders above it, up to its own collection."""
    prefix = next((prefix for prefix in prefixes if path.startswith(f"{prefix}/" if prefix else "")), "")
    whole = [path, *map(str, PurePosixPath(path).parents)]
    return [folder for folder in whole if not prefix or len(folder) >= len(prefix)]


def _counted(number: int) -> str:
    return f"{number:,} picture{'' if number == 1 else 's'}"
