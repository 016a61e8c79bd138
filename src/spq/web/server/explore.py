"""What the server says about a whole collection: its map, which pictures are unusual, and how many share a value."""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.locks import held
from spq.common.parallel import cores
from spq.index.gallery import Gallery, Ids, Rows
from spq.index.query import Floats
from spq.index.shared import Recent, SharedIndex
from spq.pq import projection
from spq.pq.tables import Decoder
from spq.web.layout import NEIGHBOURING, Layout, arrange, can_arrange, follow, layout_file, read_layout, write_layout
from spq.web.server.derived import Derived, Progress
from spq.web.server.problems import ComputingError, ProblemError
from spq.web.unusual import unusual_first, unusualness
from spq.web.view import ON_MAP, Facts

COMPARING = "comparing pictures"
KEPT = 4  # maps


class Explore:
    """The map and the orders of an index, for any thread."""

    def __init__(self, shared: SharedIndex) -> None:
        self.shared = shared
        self.unusual: Derived[Ids] = Derived("unusual pictures", COMPARING, shared, _unusual_ids)
        self.layout: Derived[Layout] = Derived("map", NEIGHBOURING, shared, self._arranged)
        self._cache: Recent[Any] = Recent(KEPT)

    def stop(self) -> None:
        for work in (self.unusual, self.layout):
            work.stop()

    def map(self, where: str | None) -> Facts:
        """The pictures, or a fixed sample of them, as points on a plane: all, or those that `where` matches."""
        gallery = self.shared.gallery
        rows, points, layout = self._places(gallery)
        total = len(gallery)
        if where is not None:  # at the same places as on the map of all
            matched = self.shared.rows(self.shared.of_thread().store, gallery, where).rows
            is_shown = np.isin(rows, matched)
            rows, points, total = rows[is_shown], points[is_shown], len(matched)
        return {
            "ids": base64_of(gallery.ids_of(rows), "<i4"),
            "x": base64_of(points[:, 0], "<f4"),
            "y": base64_of(points[:, 1], "<f4"),
            "count": len(rows),
            "total": total,
            "method": "neighbours" if layout is None else "pca",
            "arranging": layout,
            "generation": max(gallery.revision, 0),
        }

    def progress(self) -> Facts | None:
        """How far the arrangement by neighbours is; None if it is ready."""
        if not can_arrange():
            return {"state": "missing", "stage": "", "done": 0, "total": 0}
        try:
            self.layout.get()
        except ComputingError as error:
            return {"state": "computing", "stage": error.stage, "done": error.done, "total": error.total}
        except ProblemError:
            return {"state": "failed", "stage": "", "done": 0, "total": 0}
        return None

    def _places(self, gallery: Gallery) -> tuple[Rows, Floats, Facts | None]:
        """Rows, ascending by id, their points (n, 2), and what keeps them from being arranged by neighbours."""
        progress = self.progress()
        if progress is None:
            layout, _ = self.layout.get()
            rows = gallery.rows_of(layout.ids)
            at = layout.ids.searchsorted(gallery.ids_of(rows))
            order = at.argsort()
            return rows[order], layout.points[at[order]], None

        def project() -> tuple[Rows, Floats]:
            rows = sampled_rows(gallery)
            return rows, projection.project(gallery.scan.codes_of(rows), self.shared.of_thread().decoder)

        rows, points = self._cache.get(("map", gallery.version), project)
        return rows, points, progress

    def _arranged(self, gallery: Gallery, decoder: Decoder, before: Layout | None, progress: Progress) -> Layout:
        """The layout of now: the kept one, with new pictures between their neighbours, or a new one.

        Of several processes, one computes it.
        """
        file = layout_file(self.shared.manifest, self.shared.folder)
        rows = sampled_rows(gallery)
        ids, codes = gallery.ids_of(rows).astype(np.int64), gallery.scan.codes_of(rows)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with held(file.with_suffix(".lock"), wait=math.inf):
                return self._follow_or_arrange(file, (ids, codes), decoder, before, progress)
        except OSError:  # nothing can be kept there
            return arrange(ids, codes, decoder, progress)

    def _follow_or_arrange(
        self,
        file: Any,
        of: tuple[NDArray[np.int64], NDArray[np.uint8]],
        decoder: Decoder,
        before: Layout | None,
        progress: Progress,
    ) -> Layout:
        before = read_layout(file) or before
        layout = follow(before, *of, decoder) if before else None
        if layout is None:
            layout = arrange(*of, decoder, progress, threads=max(1, cores() // 2))
        if before is None or layout.placed != before.placed or not np.array_equal(layout.ids, before.ids):
            with suppress(OSError):
                write_layout(file, layout)
        return layout


def sampled_rows(gallery: Gallery) -> Rows:
    """Rows of the pictures on a map, ascending by id."""
    ids = gallery.all_ids()
    rows = gallery.rows_of(ids[projection.sample(ids, ON_MAP)])
    return rows[gallery.ids_of(rows).argsort()]


def base64_of(values: NDArray[Any], kind: str) -> str:
    """Numbers of a NumPy kind, little-endian, as base64."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def _unusual_ids(gallery: Gallery, decoder: Decoder, before: Ids | None, progress: Progress) -> Ids:
    ids = gallery.all_ids()
    scores = unusualness(ids, gallery.all_codes(), decoder, lambda done, total: progress(COMPARING, done, total))
    return unusual_first(ids, scores)
