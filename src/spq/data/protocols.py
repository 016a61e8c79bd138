"""Named, seeded evaluation protocols. Papers call several of them "CIFAR-10", so a result needs the protocol's name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.files import expanded
from spq.data.image_set import ImageSet, labelled, subset
from spq.data.open import open_images
from spq.data.several import Concatenated
from spq.data.split_lists import ListedSplit, find_pool, find_split
from spq.errors import ConfigError, DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Protocol:
    """Queries, the gallery that they search, the pictures to train on, and the N of mAP@N.

    Collections may be anything that `open_images` takes.

    Attributes:
        split_seed: of a split that is drawn; None for a fixed one.
    """

    name: str
    queries: ImageSet
    gallery: ImageSet
    training: ImageSet
    map_at: int
    split_seed: int | None = None

    def __post_init__(self) -> None:
        for part in ("queries", "gallery", "training"):
            if not isinstance(images := getattr(self, part), ImageSet):
                object.__setattr__(self, part, open_images(images))

    @cached_property
    def split(self) -> str:
        """16 hex digits of a hash over ids and labels of queries and gallery."""
        return _hash(self.queries, self.gallery)

    @cached_property
    def training_hash(self) -> str:
        """The same of the training pictures."""
        return _hash(self.training)


@dataclass(frozen=True)
class Split:
    """Positions in one collection. Queries and gallery are disjoint; training pictures are part of the gallery.

    Those of published lists (`ListedSplit`) may lie outside of the gallery, but never among the queries.
    """

    queries: Indices
    gallery: Indices
    training: Indices

    def __post_init__(self) -> None:
        if np.intersect1d(self.queries, self.gallery).size:
            raise DataError("queries and gallery overlap; a query would find itself")
        if np.setdiff1d(self.training, self.gallery).size:
            raise DataError("training pictures must come from the gallery")


def load_protocol(name: str, *, root: str | Path | None = None, seed: int = 0) -> Protocol:
    """Load a protocol by its name. A model that is trained on its training part records the name and the split.

    Args:
        root: folder of the distributed files, for flickr25k and nuswide21; for each protocol it may have the list files of a
            published split (`spq.data.split_lists`), which then decide the split. seed: of a split that is drawn.
    Raises:
        ConfigError: an unknown protocol, or one that needs `root`. DataError: its pictures or lists are missing or damaged.
    """
    if name not in _PROTOCOLS:
        raise ConfigError(f"no protocol {name!r}; there are {', '.join(_PROTOCOLS)}")
    kind = _PROTOCOLS[name]
    if root is None and kind.files != "cifar10":
        raise ConfigError(f"protocol {name} needs `root`, the folder with {kind.needs}")
    folder = None if root is None else expanded(os.fspath(root))
    lists = folder and find_split(folder)
    if lists:
        protocol = _listed(name, kind, lists)
    elif name == "cifar10-spq" and root is None:
        train, test = open_images("cifar10:train"), open_images("cifar10:test")
        protocol = Protocol(name, queries=test, gallery=train, training=train, map_at=1000)
    elif kind.splitter is None:
        raise DataError(f"{root} has no lists of {name}; put test.txt, database.txt and train.txt there")
    else:
        protocol = _drawn(name, kind, _pool(name, kind, folder), seed)
    record = protocol.training.protocol = {
        "name": name, "split": protocol.split, "training": protocol.training_hash
    }  # fmt: skip
    if protocol.split_seed is not None:
        record["split_seed"] = protocol.split_seed
    return protocol


def _listed(name: str, kind: _Kind, lists: ListedSplit) -> Protocol:
    """The protocol of published lists; other sizes than the protocol's are remarked."""
    queries, gallery, training = lists.queries, lists.gallery, lists.training
    sizes = tuple(map(len, (queries, gallery, training)))
    if kind.sizes and sizes != kind.sizes:
        found, published = (", ".join(f"{size:,}" for size in each) for each in (sizes, kind.sizes))
        remark = f"{found} queries, gallery and training pictures; those of {name} have {published}"
        queries.remarks.append((queries.name, remark))
    return Protocol(name, queries, gallery, training, kind.map_at or len(gallery))


def _drawn(name: str, kind: _Kind, pool: ImageSet, seed: int) -> Protocol:
    if pool.labels is None:
        raise DataError(f"{pool.name} has no labels; a protocol needs them")
    assert kind.splitter is not None
    split = kind.splitter(pool.labels, np.random.default_rng(seed))
    queries, gallery, training = (subset(pool, rows) for rows in (split.queries, split.gallery, split.training))
    return Protocol(name, queries, gallery, training, kind.map_at or len(gallery), seed)


def _pool(name: str, kind: _Kind, root: Path | None) -> ImageSet:
    """The pictures that a protocol draws from."""
    if root is None:
        return _concatenate(open_images("cifar10:train"), open_images("cifar10:test"))
    if listed := find_pool(root):
        return listed
    if kind.files == "cifar10":
        raise DataError(
            f"{root} has no lists of {name}; put test.txt, database.txt and train.txt there, or omit `root`"
        )
    return open_images(f"{kind.files}:{root}")


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


@dataclass(frozen=True)
class _Kind:
    """What a protocol is made of.

    Attributes:
        files: cifar10, or the layout of its authors that is read; "" for lists alone. needs: what its folder must have.
        splitter: draws the split; None if only lists have it. map_at: the N of mAP@N; None for the whole gallery.
        sizes: queries, gallery and training pictures of the published lists.
    """

    files: str
    splitter: Callable[..., Split] | None
    map_at: int | None
    needs: str = ""
    sizes: tuple[int, int, int] | None = None


def _cifar10(train_per_class: int | None) -> Callable[..., Split]:
    return lambda labels, rng: split_cifar10(labels, rng, train_per_class)


_LISTS = "its pictures and the lists test.txt, database.txt and train.txt"
_PROTOCOLS: dict[str, _Kind] = {
    "cifar10-spq": _Kind("cifar10", None, 1000),
    "cifar10-i": _Kind("cifar10", _cifar10(None), 1000),
    "cifar10-ii": _Kind("cifar10", _cifar10(500), 1000),
    "cifar10-all": _Kind("cifar10", _cifar10(500), None),  # DistillHash (CVPR 2019) and those that follow it
    "flickr25k": _Kind("mirflickr", split_flickr25k, 5000, "the files of mirflickr"),
    "nuswide21": _Kind("nuswide", split_nuswide21, 5000, "the files of nuswide"),
    "imagenet100": _Kind("", None, 1000, _LISTS, (5000, 128_503, 13_000)),  # the lists of HashNet (ICCV 2017), as below
    "coco": _Kind("", None, 5000, _LISTS, (5000, 117_218, 10_000)),
}
PROTOCOLS = list(_PROTOCOLS)


def _hash(*parts: ImageSet) -> str:
    digest = hashlib.sha256()
    for images in parts:
        digest.update(f"{len(images)}\n".encode())
        for id_ in images.ids:
            digest.update(f"{len(id_)} {id_}\n".encode("utf-8", "surrogatepass"))
        if images.labels is not None:
            digest.update(np.ascontiguousarray(images.labels).tobytes())
    return digest.hexdigest()[:16]


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
