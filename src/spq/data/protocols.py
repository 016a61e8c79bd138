"""Named, seeded evaluation protocols. Papers call several of them "CIFAR-10", so a result needs the protocol's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.data.image_set import ImageSet, labelled, subset
from spq.data.open import open_images
from spq.data.several import Concatenated
from spq.errors import ConfigError, DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Protocol:
    """Queries, the gallery that they search, the pictures to train on, and the N of mAP@N.

    Collections may be anything that `open_images` takes.
    """

    name: str
    queries: ImageSet
    gallery: ImageSet
    training: ImageSet
    map_at: int

    def __post_init__(self) -> None:
        for part in ("queries", "gallery", "training"):
            if not isinstance(images := getattr(self, part), ImageSet):
                object.__setattr__(self, part, open_images(images))


@dataclass(frozen=True)
class Split:
    """Positions in one collection. Queries and gallery are disjoint; training pictures are part of the gallery."""

    queries: Indices
    gallery: Indices
    training: Indices

    def __post_init__(self) -> None:
        if np.intersect1d(self.queries, self.gallery).size:
            raise DataError("queries and gallery overlap; a query would find itself")
        if np.setdiff1d(self.training, self.gallery).size:
            raise DataError("training pictures must come from the gallery")


def load_protocol(name: str, *, root: str | Path | None = None, seed: int = 0) -> Protocol:
    """Load a protocol by its name.

    Args:
        root: folder of the distributed files, for flickr25k and nuswide21. seed: of the random splits.
    Raises:
        ConfigError: an unknown protocol. DataError: its pictures are missing.
    """
    if name == "cifar10-spq":
        train, test = open_images("cifar10:train"), open_images("cifar10:test")
        return Protocol(name, queries=test, gallery=train, training=train, map_at=1000)
    if name not in _SPLITS:
        raise ConfigError(f"no protocol {name!r}; there are cifar10-spq, {', '.join(_SPLITS)}")
    kind, splitter, map_at = _SPLITS[name]
    if kind == "cifar10":
        pool = _concatenate(open_images("cifar10:train"), open_images("cifar10:test"))
    elif root is None:
        raise ConfigError(f"protocol {name} needs `root`, the folder with the files of {kind}")
    else:
        pool = open_images(f"{kind}:{root}")
    if pool.labels is None:
        raise DataError(f"{pool.name} has no labels; a protocol needs them")
    split = splitter(pool.labels, np.random.default_rng(seed))
    return Protocol(
        name, subset(pool, split.queries), subset(pool, split.gallery), subset(pool, split.training), map_at=map_at
    )


def custom_protocol(gallery: Any, queries: Any, map_at: int = 1000) -> Protocol:
    """Make a protocol of any two labelled collections; they do not affect what a model was trained on.

    Args:
        gallery, queries: what `open_images` takes, with labels.
    Raises:
        DataError: a collection is missing, they have pictures in common, or their classes differ.
    """
    gallery_set, query_set = open_images(gallery), open_images(queries)
    gallery_set, query_set = labelled(gallery_set), labelled(query_set)
    _check_apart(gallery_set, query_set)
    assert gallery_set.labels is not None
    assert query_set.labels is not None
    if gallery_set.labels.ndim != query_set.labels.ndim:
        raise DataError(f"only one of {gallery_set.name} and {query_set.name} is multi-label; both must agree")
    if gallery_set.class_names != query_set.class_names:
        query_set = _renumbered(query_set, gallery_set.class_names)
    return Protocol("custom", query_set, gallery_set, gallery_set, map_at)


def split_cifar10(labels: Indices, rng: np.random.Generator, train_per_class: int | None) -> Split:
    """Draw 1,000 queries per class of 60,000; the rest is the gallery. Training uses all of it, or some per class."""
    _enough(int(np.bincount(labels, minlength=10)[:10].min()), 1000 + (train_per_class or 0), "a class of CIFAR-10")
    queries = np.concatenate([rng.choice(np.flatnonzero(labels == c), 1000, replace=False) for c in range(10)])
    gallery = np.setdiff1d(np.arange(len(labels)), queries)
    if train_per_class is None:
        return Split(queries, gallery, gallery)
    per_class = [rng.choice(gallery[labels[gallery] == c], train_per_class, replace=False) for c in range(10)]
    return Split(queries, gallery, np.sort(np.concatenate(per_class)))


def split_flickr25k(
    labels: NDArray[np.bool_], rng: np.random.Generator, queries: int = 2000, training: int = 5000
) -> Split:
    """Draw 2,000 queries; the rest is the gallery, and 5,000 of it are for training."""
    order = rng.permutation(len(labels))
    _enough(len(order), queries + training, "MIRFLICKR-25000")
    return Split(np.sort(order[:queries]), np.sort(order[queries:]), np.sort(order[queries : queries + training]))


def split_nuswide21(
    labels: NDArray[np.bool_], rng: np.random.Generator, per_query: int = 100, per_train: int = 500
) -> Split:
    """Draw 100 queries and 500 training pictures for each concept, one concept after the other, without repetition."""
    free = np.ones(len(labels), bool)
    drawn: list[list[Indices]] = [[], []]
    for part, count in enumerate((per_query, per_train)):
        for concept in range(labels.shape[1]):
            candidates = np.flatnonzero(free & labels[:, concept])
            _enough(len(candidates), count, f"concept {concept}")
            picked = rng.choice(candidates, count, replace=False)
            free[picked] = False
            drawn[part].append(picked)
    queries, training = (np.sort(np.concatenate(part)) for part in drawn)
    return Split(queries, np.setdiff1d(np.arange(len(labels)), queries), training)


_SPLITS: dict[str, tuple[str, Callable[..., Split], int]] = {
    "cifar10-i": ("cifar10", lambda labels, rng: split_cifar10(labels, rng, None), 1000),
    "cifar10-ii": ("cifar10", lambda labels, rng: split_cifar10(labels, rng, 500), 1000),
    "flickr25k": ("mirflickr", split_flickr25k, 5000),
    "nuswide21": ("nuswide", split_nuswide21, 5000),
}
PROTOCOLS = ["cifar10-spq", *_SPLITS]


def _concatenate(first: ImageSet, second: ImageSet) -> ImageSet:
    assert first.labels is not None
    assert second.labels is not None
    ids = [f"{images.name}/{i}" for images in (first, second) for i in images.ids]
    labels = np.concatenate([first.labels, second.labels])
    return Concatenated([first, second], f"{first.name}+{second.name}", ids, labels, first.class_names)


def _check_apart(gallery: ImageSet, queries: ImageSet) -> None:
    """Refuse collections with the same name or with common files; copies under other names are not found."""
    at_hand = gallery.given is not None  # different datasets may have the same name
    if gallery.given is queries.given if at_hand else gallery.name == queries.name:
        raise DataError(f"gallery and queries are the same: {gallery.name}; every query would find itself")
    files = [{path.resolve() for i in range(len(s)) if (path := s.path(i))} for s in (gallery, queries)]
    if files[0] & files[1]:
        same = "are the same" if files[0] == files[1] else f"have {len(files[0] & files[1]):,} pictures in common"
        raise DataError(f"gallery and queries {same}: {queries.name}; every query would find itself")


def _renumbered(images: ImageSet, class_names: list[str]) -> ImageSet:
    """Return the same pictures with labels numbered as in `class_names`."""
    unknown = sorted(set(images.class_names) - set(class_names))
    if unknown:
        raise DataError(
            f"{images.name} has the class {unknown[0]!r}, but the gallery does not; give both the same classes"
        )
    assert images.labels is not None
    renamed = subset(images, range(len(images)))
    number = np.array([class_names.index(name) for name in images.class_names])
    if images.labels.ndim == 1:
        renamed.labels = number[images.labels]
    else:
        wide = np.zeros((len(images), len(class_names)), bool)
        wide[:, number] = images.labels
        renamed.labels = wide
    renamed.class_names = class_names
    return renamed


def _enough(have: int, need: int, what: str) -> None:
    if have < need:
        raise DataError(
            f"{what} has {have:,} pictures left, but the protocol draws {need:,}; check that the collection is complete"
        )
