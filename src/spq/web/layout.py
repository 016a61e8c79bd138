"""The map of a collection by neighbourhoods: pictures that are alike lie together. Computed once and kept on disk.

The optional library openTSNE computes it from the nearest neighbours of each picture, by code. Without it, the map shows the
plane of the largest variance (PCA), which needs no time and tells less.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.files import Replacing, user_cache
from spq.common.locks import held
from spq.common.parallel import cores
from spq.dupes.nearest import Nearest
from spq.index.manifest import Manifest
from spq.pq.projection import project
from spq.pq.tables import Decoder

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]
Progress = Callable[[str, int, int], None]  # stage, done, total

HOW_TO = "pip install 'spq-retrieval[map]'"
NEIGHBOURING, ARRANGING = "finding neighbours", "arranging the map"
NEIGHBOURS = 15
FEW, FEW_PER_NEIGHBOUR = 100, 4  # so few pictures would be drawn into one point if they were gathered first
PLACED_BY = 5  # placed neighbours whose median is the place of a new picture
CHANGED = 0.2  # share of new pictures above which the map is computed again
STEPS = ((150, 12.0, 0.5), (350, 1.0, 0.8))  # iterations, exaggeration, momentum: gather first, then arrange
LEAST_SPREAD = 1e-3  # of the places of different pictures
FEWEST = 5  # pictures; fewer have no neighbourhoods
EXACT_FORCES = 5000  # pictures up to which Barnes-Hut is faster than the grid of FIt-SNE


@dataclass(frozen=True, eq=False)
class Layout:
    """Places of pictures on a plane.

    Attributes:
        ids: (n,), ascending. codes: (n, M), as they were. points: (n, 2) float32.
        placed: how many pictures were put between their neighbours since all of it was computed.
    """

    ids: Ids
    codes: Codes
    points: Floats
    placed: int = 0


def can_arrange() -> bool:
    """Whether the library is installed."""
    return find_spec("openTSNE") is not None


def layout_file(manifest: Manifest, folder: Path) -> Path:
    """Where the layout of an index is kept: in the user's cache, as the index itself may be read-only."""
    name = manifest.key or folder.absolute().name
    return user_cache() / "maps" / f"{name}.npz"


def arrange(ids: Ids, codes: Codes, decoder: Decoder, progress: Progress = lambda *_: None, threads: int = 1) -> Layout:
    """Compute the places of all pictures. The same codes give the same map."""
    return Layout(ids, codes, _scaled(_embedded(codes, decoder, progress, threads)))


def follow(before: Layout, ids: Ids, codes: Codes, decoder: Decoder) -> Layout | None:
    """Return the layout of the pictures of now, in which all known ones stay where they are; None if too many are new.

    A new picture gets the median place of the known ones that are nearest by code.
    """
    rows = np.minimum(before.ids.searchsorted(ids), max(0, len(before.ids) - 1))
    is_known = np.zeros(len(ids), bool)
    if len(before.ids) and before.codes.shape[1:] == codes.shape[1:]:
        is_known = (before.ids[rows] == ids) & (before.codes[rows] == codes).all(1)
    new = int((~is_known).sum())
    if before.placed + new > CHANGED * len(ids):
        return None
    points = before.points[rows].copy()
    if new:
        _, near = Nearest(decoder.decode(codes[is_known])).search(decoder.decode(codes[~is_known]), PLACED_BY)
        known = points[is_known]
        points[~is_known] = [
            np.median(known[some[some >= 0]], axis=0) if (some >= 0).any() else known.mean(0) for some in near
        ]
    return Layout(ids, codes, points, before.placed + new)


def kept_layout(
    file: Path, now: tuple[Ids, Codes], decoder: Decoder, before: Layout | None, progress: Progress = lambda *_: None
) -> Layout:
    """The layout of the pictures of now, ids and codes: the kept one, with new pictures between their neighbours, or a new one.

    Of several processes, one computes it, and the others wait. If nothing can be kept, each computes its own.

    Args:
        before: what this process had last.
    """
    with suppress(OSError), ExitStack() as stack:  # a full disk, or a folder of somebody else
        file.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(held(file.with_suffix(".lock"), wait=math.inf))
        before = read_layout(file) or before
        layout = _followed(before, now, decoder, progress)
        if layout is not before:
            with suppress(OSError):
                write_layout(file, layout)
        return layout
    return _followed(before, now, decoder, progress)


def _followed(before: Layout | None, now: tuple[Ids, Codes], decoder: Decoder, progress: Progress) -> Layout:
    if before and np.array_equal(before.ids, now[0]) and np.array_equal(before.codes, now[1]):
        return before
    known = follow(before, *now, decoder) if before else None
    return known or arrange(*now, decoder, progress, threads=max(1, cores() // 2))


def read_layout(file: Path) -> Layout | None:
    """The kept layout; None if there is none, or the file is damaged."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
            ids, codes, points, placed = (kept[name] for name in ("ids", "codes", "points", "placed"))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    is_whole = points.shape == (len(ids), 2) and len(codes) == len(ids) and _is_spread(points, codes)
    return (
        Layout(ids.astype(np.int64), codes.astype(np.uint8), points.astype(np.float32), int(placed))
        if is_whole
        else None
    )


def write_layout(file: Path, layout: Layout) -> None:
    """Keep a layout.

    Raises:
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, ids=layout.ids, codes=layout.codes, points=layout.points, placed=np.int64(layout.placed))


def _embedded(codes: Codes, decoder: Decoder, progress: Progress, threads: int) -> Floats:
    """openTSNE with the same weight for each neighbour, which is what UMAP minimises, but for the sampling."""
    start = project(codes, decoder)
    if len(codes) <= FEWEST or _are_equal(codes):
        return start
    from openTSNE import TSNEEmbedding, affinity
    from openTSNE.initialization import rescale
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    is_few = len(codes) < FEW
    k = min(NEIGHBOURS, max(2, (len(codes) - 1) // FEW_PER_NEIGHBOUR) if is_few else len(codes) - 1)
    distances, rows = _neighbours(codes, decoder, k, progress)
    pairs = affinity.Uniform(knn_index=PrecomputedNeighbors(rows, distances), k_neighbors=k)
    method = "bh" if len(codes) <= EXACT_FORCES else "fft"
    points: Any = TSNEEmbedding(
        rescale(start.astype(np.float64)), pairs, negative_gradient_method=method, n_jobs=threads, random_state=0
    )
    done, total = 0, sum(steps for steps, *_ in STEPS[is_few:])

    def report(*_: object) -> bool:
        nonlocal done
        done += 10
        progress(ARRANGING, done, total)
        return False

    for steps, exaggeration, momentum in STEPS[is_few:]:
        points.optimize(
            steps,
            exaggeration=exaggeration,
            momentum=momentum,
            inplace=True,
            callbacks=report,
            callbacks_every_iters=10,
        )
    found = np.asarray(points, np.float32)
    return found if _is_spread(found, codes) else start


def _are_equal(codes: Codes) -> bool:
    return bool((codes == codes[:1]).all())


def _is_spread(points: Floats, codes: Codes) -> bool:
    """Whether the places are numbers, and those of different codes are not all one point."""
    return bool(np.isfinite(points).all()) and (_are_equal(codes) or float(np.ptp(points)) > LEAST_SPREAD)


def _neighbours(codes: Codes, decoder: Decoder, k: int, progress: Progress) -> tuple[Floats, Ids]:
    """Distances and rows (N, k) of the nearest other pictures; a picture whose lists hold fewer is its own neighbour."""
    x = decoder.decode(codes)
    squared, rows = Nearest(x).search(x, k + 1, lambda done, total: progress(NEIGHBOURING, done, total))
    own = np.arange(len(codes))[:, None]
    others = np.argsort((rows == own) | (rows < 0), axis=1, kind="stable")[:, :k]  # the picture itself comes last
    squared, rows = np.take_along_axis(squared, others, 1), np.take_along_axis(rows, others, 1)
    return np.sqrt(np.maximum(np.where(rows < 0, 0, squared), 0)), np.where(rows < 0, own, rows)


def _scaled(points: Floats) -> Floats:
    """Centred, turned so that the map is wider than high, with a mean square of 1."""
    if len(points) < 2:
        return np.zeros_like(points)
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    turned = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    turned *= np.where(turned[np.abs(turned).argmax(0), [0, 1]] < 0, -1, 1)
    return np.asarray(turned / max(1e-9, np.sqrt(np.square(turned).mean())), np.float32)
