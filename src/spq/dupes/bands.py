"""Bands of similarity: what a distance means in this collection, calibrated on altered copies of its own pictures.

A distance alone says little: its scale depends on the model and on the collection. Some of the collection's pictures are copied
as people copy them, see `altered_copy`. Their distances to the originals, those to other pictures, and those of random pairs give
the limits between the bands:

    same picture   two codes are so near that at most 1 in 20 pictures has a different picture as near
    very close     as near as 9 of 10 altered copies, and nearer than 99 of 100 random pictures
    close          nearer than 19 of 20 random pictures
    far            all others

Two codes are compared for the first band: the error of a code is then the same on both sides, and more copies are recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.dupes.threshold import altered_copy, code_distances
from spq.errors import DataError, ImageError
from spq.index.gallery import Gallery
from spq.index.image_index import ImageIndex
from spq.index.items import Item
from spq.index.request import SearchRequest

STAGE = "altered copies"
SAMPLE = 128  # pictures that are copied
RANDOM = 512  # pictures that each of them is compared with
NEIGHBOURS = 50  # among which the nearest different picture is looked for
FEWEST = 20  # pictures of a collection, below which no share means anything
SIDE = 512  # pixels to which a large picture is decoded before it is copied
SAME_OTHERS, SAME_COPIES = 0.05, 0.1  # pictures with a different one in the band, at most; copies in it, at least
COPIES, VERY_CLOSE, CLOSE = 0.9, 0.01, 0.05  # copies, and random pairs, within a limit
BATCH = 16  # pictures at a time

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Read = Callable[[Item, int], Image.Image]  # an item and a side in pixels; raises ImageError
Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class Reach:
    """The largest distances of two bands, and what lies within them.

    Attributes:
        very_close, close: distances, as a search gives them.
        copies: share of altered copies that are very close to their original. random: share of random pairs that are.
    """

    very_close: float
    close: float
    copies: float
    random: float


@dataclass(frozen=True)
class Bands:
    """The limits of all bands of an index.

    Attributes:
        pictures: in the index at that time. copies: altered copies that were made.
        same: the largest distance of two codes, by `code_distances`, of the same picture; None if these codes cannot tell.
        same_copies: share of the copies within it. same_others: share of pictures with a different picture within it.
        picture: for searches with a picture. code: for those with the code of an item, whose picture cannot be read.
    """

    pictures: int
    copies: int
    same: float | None
    same_copies: float
    same_others: float
    picture: Reach
    code: Reach


@dataclass(frozen=True)
class Distances:
    """What the limits are made of, of C copies.

    Attributes:
        copies: (C,) of copies to the codes of their originals. random: (R,) to the codes of random pictures.
        coded_copies, coded_random: the same, of the codes of the copies.
        between: (C,) of the code of a copy to that of its original. nearest: (C,) of that to the nearest code of a different one.
    """

    copies: Floats
    random: Floats
    coded_copies: Floats
    coded_random: Floats
    between: Floats
    nearest: Floats


def find_bands(index: ImageIndex, read: Read, progress: Progress = lambda *_: None) -> Bands | None:
    """Calibrate the bands of an index.

    Args:
        read: gives the picture of an item.
    Returns:
        None for a collection that is too small, or whose pictures cannot be read or described.
    """
    if not index.model_copy.can_embed:
        return None
    gallery = index.gallery()
    ids = np.asarray(gallery.all_ids(), np.int64)
    rng = np.random.default_rng(0)
    found = measure(index, gallery, rng.permutation(ids)[: 2 * SAMPLE], read, rng, progress)
    return None if found is None else limits(found, len(gallery))


def limits(found: Distances, pictures: int) -> Bands:
    """The limits of the bands, from distances."""
    same = _same(found)
    copies, others = (
        0.0 if same is None else float((values <= same).mean()) for values in (found.between, found.nearest)
    )
    return Bands(
        pictures,
        len(found.copies),
        same,
        copies,
        others,
        _reach(found.copies, found.random),
        _reach(found.coded_copies, found.coded_random),
    )


def measure(
    index: ImageIndex,
    gallery: Gallery,
    sample: NDArray[np.int64],
    read: Read,
    rng: np.random.Generator,
    progress: Progress = lambda *_: None,
) -> Distances | None:
    """Distances of altered copies, of neighbours and of random pairs; None if too few pictures can be read.

    Args:
        sample: ids of pictures to copy; the first `SAMPLE` that can be read are.
        rng: of the copies and the pairs. For the others, see `find_bands`.
    """
    ids = np.asarray(gallery.all_ids(), np.int64)
    originals, x = _copies(index, sample.tolist(), read, rng, progress)
    if len(originals) < FEWEST:
        return None
    coded = index.model.encode_descriptors(x)
    own = np.stack([gallery.code_of(item.id) for item in originals])
    others = rng.choice(ids, min(RANDOM, len(ids)), replace=False)
    rows = gallery.rows_of(others)
    is_other = np.array([item.id for item in originals])[:, None] != np.asarray(gallery.ids_of(rows))
    tables, coded_tables = (index.model_copy.tables(values) for values in (x, index.decoder.decode(coded)))
    random_codes = gallery.scan.codes_of(rows)
    return Distances(
        np.concatenate([sums(table, code[None]) for table, code in zip(tables, own, strict=True)]),
        np.stack([sums(table, random_codes) for table in tables])[is_other],
        np.concatenate([sums(table, code[None]) for table, code in zip(coded_tables, own, strict=True)]),
        np.stack([sums(table, random_codes) for table in coded_tables])[is_other],
        code_distances(coded, own, index.decoder, index.store.manifest.distance),
        _nearest(index, gallery, originals, own),
    )


def sums(table: Floats, codes: Codes) -> Floats:
    """The distances (N,) of codes (N, M) by a table (M, K)."""
    total: Floats = table[np.arange(len(table)), codes].sum(1, dtype=np.float32)
    return total


def _copies(
    index: ImageIndex, ids: Sequence[int], read: Read, rng: np.random.Generator, progress: Progress
) -> tuple[list[Item], Floats]:
    """Up to `SAMPLE` of the items whose pictures can be read, and the descriptors (C, D) of a copy of each."""
    originals: list[Item] = []
    parts: list[Floats] = []
    start = 0
    while start < len(ids) and len(originals) < SAMPLE:
        end = start + min(BATCH, SAMPLE - len(originals))
        items, start = index.store.items_by_id(ids[start:end]), end
        batch: list[tuple[Item, Image.Image]] = []
        for item in items.values():
            progress(STAGE, len(originals) + len(batch), min(SAMPLE, len(ids)))
            try:
                batch.append((item, altered_copy(read(item, SIDE), rng)))
            except (ImageError, DataError, OSError):  # a JPEG has no side above 65,500 pixels
                continue
        if batch:
            originals += [item for item, _ in batch]
            parts.append(index.model.embed([copy for _, copy in batch]))
    return originals, np.concatenate(parts) if parts else np.empty((0, index.decoder.dim), np.float32)


def _nearest(index: ImageIndex, gallery: Gallery, originals: Sequence[Item], codes: Codes) -> Floats:
    """The distance (C,) from the code of each item to the nearest one of a picture with other bytes."""
    queries = list(index.decoder.decode(codes))
    request = SearchRequest(queries, top=NEIGHBOURS)
    found = index.answers(request, index.tables(request, gallery), gallery)
    known = index.store.items_by_id({id_ for answers in found.answers for _, (id_, *_) in answers})
    nearest = np.full(len(originals), np.inf, np.float32)
    for place, (item, answers) in enumerate(zip(originals, found.answers, strict=True)):
        near = [known[id_] for _, (id_, *_) in answers if id_ in known and id_ != item.id]
        others = [other.code for other in near if other.hash != item.hash and other.code is not None]
        if others:
            here = np.repeat(codes[place][None], len(others), 0)
            apart = code_distances(here, np.stack(others), index.decoder, index.store.manifest.distance)
            nearest[place] = apart.min()
    return nearest


def _same(found: Distances) -> float | None:
    """The largest distance of two codes of the same picture; None if too few copies lie so near."""
    first = np.sort(found.nearest)[int(SAME_OTHERS * len(found.nearest))]  # that of too many different pictures
    inside = found.between[found.between < first * (1 - 1e-5)]
    if len(inside) < SAME_COPIES * len(found.between):
        return None
    return _rounded_up(float(inside.max()))


def _reach(copies: Floats, random: Floats) -> Reach:
    close = float(np.quantile(random, CLOSE))
    very_close = _rounded_up(
        min(float(np.quantile(copies, COPIES, method="higher")), float(np.quantile(random, VERY_CLOSE)))
    )
    shares = [float((values <= very_close).mean()) for values in (copies, random)]
    return Reach(very_close, _rounded_up(close), *shares)


def _rounded_up(distance: float) -> float:
    """A little more than a distance: sums in another order differ slightly."""
    return distance + abs(distance) * 1e-5 + 1e-6
