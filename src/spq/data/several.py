"""Several collections as one, and a collection of the pictures that patterns take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from itertools import count as numbers_from
from pathlib import Path

import numpy as np
from PIL import Image

from spq.common.files import absolute, expanded
from spq.common.text import name_to_id
from spq.data.image_set import ImageSet, Labels, LazyColumns, subset
from spq.data.metadata import gapped
from spq.data.rules import Rules
from spq.data.source import Source
from spq.errors import AbsentError, DataError


class Concatenated(ImageSet):
    """Pictures of several collections, one collection after the other."""

    def __init__(
        self,
        opened: Sequence[ImageSet],
        name: str,
        ids: list[str],
        labels: Labels | None,
        class_names: list[str],
        metadata: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(name, ids, labels, class_names, metadata)
        self.opened = list(opened)
        self.ends = np.cumsum([len(images) for images in opened])

    def _find(self, position: int) -> tuple[ImageSet, int]:
        number = int(np.searchsorted(self.ends, position, "right"))
        return self.opened[number], position - (int(self.ends[number - 1]) if number else 0)

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        images, inner = self._find(position)
        return images.image(inner, size_hint)

    def rgba(self, position: int) -> Image.Image:
        images, inner = self._find(position)
        return images.rgba(inner)

    def read(self, position: int) -> bytes:
        images, inner = self._find(position)
        return images.read(inner)

    def decode(self, position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        images, inner = self._find(position)
        return images.decode(inner, data, size_hint)

    def stat(self, position: int) -> tuple[int, int]:
        images, inner = self._find(position)
        return images.stat(inner)

    def status(self, position: int) -> tuple[int, int, int]:
        images, inner = self._find(position)
        return images.status(inner)

    def path(self, position: int) -> Path | None:
        images, inner = self._find(position)
        return images.path(inner)


class AbsentImages(ImageSet):
    """A collection that is known, and is not there now or cannot be opened."""

    def __init__(self, name: str, error: DataError) -> None:
        super().__init__(name, [])
        self.reason = str(error).partition(";")[0]
        is_there = isinstance(error, AbsentError) and error.is_there
        (self.unlisted if is_there else self.aside.absent).append((".", self.reason))


class SeveralImages(Concatenated):
    """Pictures of several collections. The id of a picture begins with the prefix of its collection.

    Args:
        source: names and prefixes of the collections.
        opened: the collections, in the order of the names.
    Raises:
        DataError: two collections have pictures in common.
    """

    def __init__(self, source: Source, opened: Sequence[ImageSet]) -> None:
        before = prefixes_of(source)
        _check_apart(source.names)
        ids = [_joined(prefix, id_) for prefix, images in zip(before, opened, strict=True) for id_ in images.ids]
        columns = dict.fromkeys(chain.from_iterable(images.metadata for images in opened))
        metadata = LazyColumns(
            list(columns), lambda key: [value for s in opened for value in s.metadata.get(key, [""] * len(s))]
        )
        super().__init__(opened, ", ".join(source.names), ids, *_labels(opened), metadata)
        self.source = source
        for prefix, images in zip(before, opened, strict=True):
            self.unlisted += [(_joined(prefix, path), why) for path, why in images.unlisted]
            self.unopened += [(_joined(prefix, path), why) for path, why in images.unopened]
            self.remarks += [(_joined(prefix, path), remark) for path, remark in images.remarks]
            self.aside.add(images.aside, prefix)


def one_for_each_id(images: ImageSet) -> ImageSet:
    """Return the collection without pictures whose id another one has; they are reported.

    A folder of the first collection may get the name that is the prefix of another one.
    """
    last = {id_: position for position, id_ in enumerate(images.ids)}
    if len(last) == len(images):
        return images
    twice = sorted({id_ for position, id_ in enumerate(images.ids) if last[id_] != position})
    rest = subset(images, sorted(last.values()))
    rest.unopened = [*images.unopened, *((id_, "two collections have this path; rename a folder") for id_ in twice)]
    return rest


def prefixes_of(source: Source) -> Sequence[str]:
    """Return the prefix of the ids of each collection; it is empty for one alone, and may be for one of several."""
    return source.prefixes or (prefixes(source.names) if len(source.names) > 1 else [""])


def prefixes(names: Sequence[str]) -> list[str]:
    """Return a short prefix for the ids of each collection: its last name, or more of its path if two have the same.

    >>> prefixes(["/data/2023", "/data/2024/"]), prefixes(["/a/photos", "/b/photos"])
    (['2023', '2024'], ['a/photos', 'b/photos'])
    """
    parts = [_parts(name) for name in names]
    for count in range(1, max(map(len, parts)) + 1):
        tails = ["/".join(part[-count:]) for part in parts]
        if len(set(tails)) == len(tails):
            return tails
    raise DataError(f"{_twice(names)} is given twice; give it once")


def with_more(source: Source, names: Sequence[str], taken: Collection[str]) -> Source:
    """Return the source with further collections. The ids of those that it has stay.

    Args:
        names: those that the source has already are left out.
        taken: first parts of ids, which no new prefix may have.
    Raises:
        DataError: a new one holds one that the source has.
    """
    known = {place_of(name) for name in source.names}
    more = [name for name in dict.fromkeys(names) if place_of(name) not in known]
    if not more:
        return source
    for name in more:
        inner = next((old for old in source.names if expanded(name).resolve() in expanded(old).resolve().parents), None)
        if inner:
            raise DataError(f"{name} holds {inner}, which the index has already; set `replace` to have {name} alone")
    before = list(prefixes_of(source))
    for name in more:
        before.append(_new_prefix(name, {*before, *taken}))
    return replace(source, names=(*source.names, *more), prefixes=tuple(before))


def instead_of(source: Source, names: Sequence[str]) -> Source:
    """Return a source of other collections. Those that the old one has keep their ids.

    If one collection takes the place of one, it has moved, and keeps the ids too.
    """
    known = dict(zip(map(place_of, source.names), prefixes_of(source), strict=True))
    places = [place_of(name) for name in names]
    gone = [place for place in known if place not in places]
    new = [place for place in places if place not in known]
    if len(gone) == len(new) == 1:
        known[new[0]] = known[gone[0]]
    if len(names) > 1 and not any(place in known for place in places):
        return replace(source, names=tuple(names), prefixes=())
    before: list[str] = []
    for name, place in zip(names, places, strict=True):
        alone = "" if len(names) == 1 else _new_prefix(name, {*known.values(), *before})
        before.append(known.get(place, alone))
    return replace(source, names=tuple(names), prefixes=() if before == [""] else tuple(before))


def place_of(name: str) -> str:
    """Return the same text for all spellings of a name, as seen from the working directory; the path may be missing."""
    return str(expanded(name).resolve())


def only_taken(images: ImageSet, rules: Rules) -> ImageSet:
    """Return the pictures that patterns take, of a collection that does not look at the patterns itself."""
    if not (rules.exclude or rules.wanted):
        return images
    rest = subset(images, [position for position, id_ in enumerate(images.ids) if rules.takes(id_)])
    rest.unlisted = [(path, why) for path, why in images.unlisted if rules.takes(path)]
    rest.unopened = [(path, why) for path, why in images.unopened if rules.takes(path)]
    return rest


def _joined(prefix: str, path: str) -> str:
    """
    >>> _joined("in", "a.jpg"), _joined("", "a.jpg"), _joined("in", ".")
    ('in/a.jpg', 'a.jpg', 'in')
    """
    return path if not prefix else prefix if path == "." else f"{prefix}/{path}"


def _new_prefix(name: str, taken: Collection[str]) -> str:
    """The last name of a path, or more of it, or with a number, so that no other id begins so."""
    parts = _parts(name)
    tails = ["/".join(parts[-size:]) for size in range(1, len(parts) + 1)]
    numbered = (f"{tails[0]}-{number}" for number in numbers_from(2))
    firsts = {prefix.split("/")[0] for prefix in taken if prefix}
    return next(tail for tail in chain(tails, numbered) if tail.split("/")[0] not in firsts)


def _parts(name: str) -> list[str]:
    path = expanded(name)
    if not path.exists():  # a named set, or a pattern of files
        return [name_to_id(part) for part in name.split("/") if part]
    return [name_to_id(part) for part in absolute(path).parts[1:]]


def _check_apart(names: Sequence[str]) -> None:
    """Refuse a folder that is another one or inside it, because its pictures would be there twice."""
    paths = {name: expanded(name).resolve() for name in names if expanded(name).exists()}
    seen: dict[tuple[int, int], str] = {}
    for name, path in paths.items():
        status = path.stat()
        first = seen.setdefault((status.st_dev, status.st_ino), name) if status.st_ino else name
        if first != name:
            raise DataError(f"{name} is the same as {first}, under another name; give one of them")
    for inner, path in paths.items():
        outer = next((name for name, other in paths.items() if other in path.parents), None)
        if outer:
            raise DataError(f"{inner} is inside {outer}, which has all its pictures; give {outer} alone")


def _twice(names: Sequence[str]) -> str:
    resolved = [expanded(name).resolve() for name in names]
    return next(name for name, path in zip(names, resolved, strict=True) if resolved.count(path) > 1)


def _labels(opened: Sequence[ImageSet]) -> tuple[Labels | None, list[str]]:
    """Class numbers of all pictures; those of a collection without labels have none. None with a multi-label collection."""
    names: list[str] = []
    for images in filter(len, opened):
        if images.labels is None:
            names += [""] * len(images)
        elif images.labels.ndim == 1:
            names += [images.class_names[label] if label >= 0 else "" for label in images.labels.tolist()]
        else:
            return None, []
    return gapped(names)
