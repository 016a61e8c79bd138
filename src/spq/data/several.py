"""Several collections as one, and a collection without the pictures that patterns exclude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from spq.common.files import expanded
from spq.common.text import name_to_id
from spq.data.image_set import ImageSet, Labels, LazyColumns, subset
from spq.data.metadata import gapped
from spq.data.source import Source
from spq.errors import DataError


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

    def path(self, position: int) -> Path | None:
        images, inner = self._find(position)
        return images.path(inner)


class SeveralImages(Concatenated):
    """Pictures of several collections. The id of a picture begins with the name of its collection.

    Args:
        opened: the collections, in the order of `names`.
    Raises:
        DataError: two collections have pictures in common.
    """

    def __init__(self, names: Sequence[str], opened: Sequence[ImageSet]) -> None:
        before = prefixes(names)
        ids = [f"{prefix}/{id_}" for prefix, images in zip(before, opened, strict=True) for id_ in images.ids]
        _check_apart(names)
        columns = dict.fromkeys(chain.from_iterable(images.metadata for images in opened))
        metadata = LazyColumns(
            list(columns), lambda key: [value for s in opened for value in s.metadata.get(key, [""] * len(s))]
        )
        super().__init__(opened, ", ".join(names), ids, *_labels(opened), metadata)
        self.source = Source(tuple(names))
        for prefix, images in zip(before, opened, strict=True):
            self.unlisted += [(prefix if path == "." else f"{prefix}/{path}", why) for path, why in images.unlisted]
            self.unopened += [(f"{prefix}/{path}", why) for path, why in images.unopened]
            self.remarks += [(f"{prefix}/{path}", remark) for path, remark in images.remarks]


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


def without_excluded(images: ImageSet, exclude: Sequence[str]) -> ImageSet:
    """Return the collection without what the patterns match; `Source` explains them.

    Raises:
        DataError: nothing is left.
    """
    patterns = tuple(pattern for pattern in exclude if pattern.strip("/"))
    if not patterns:
        return images
    source = Source(images.source.names, patterns)
    kept = [position for position, id_ in enumerate(images.ids) if not source.excludes(id_)]
    if not kept:
        raise DataError(f"`exclude` {', '.join(patterns)} leaves no picture of {images.name}; give other patterns")
    rest = subset(images, kept)
    rest.source = source
    rest.unlisted = [(path, why) for path, why in images.unlisted if not source.excludes(path)]
    rest.unopened = [(path, why) for path, why in images.unopened if not source.excludes(path)]
    return rest


def _parts(name: str) -> list[str]:
    path = expanded(name)
    if not path.exists():  # a named set, or a pattern of files
        return [name_to_id(part) for part in name.split("/") if part]
    path = path.resolve() if ".." in path.parts else path.absolute()
    return [name_to_id(part) for part in path.parts[1:]]


def _check_apart(names: Sequence[str]) -> None:
    """Refuse a folder that is inside another one, because its pictures would be there twice."""
    paths = {name: expanded(name).resolve() for name in names if expanded(name).exists()}
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
    for images in opened:
        if images.labels is None:
            names += [""] * len(images)
        elif images.labels.ndim == 1:
            names += [images.class_names[label] if label >= 0 else "" for label in images.labels.tolist()]
        else:
            return None, []
    return gapped(names)
