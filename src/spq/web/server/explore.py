"""What the server says about a whole collection: its map, which pictures are unusual, and how many share a value."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.index.filter_tree import Column
from spq.index.gallery import Gallery, Ids, Rows
from spq.index.image_index import ImageIndex
from spq.index.query import Floats
from spq.index.shared import Recent, SharedIndex
from spq.pq import projection
from spq.web.layout import NEIGHBOURING, Layout, can_arrange, kept_layout, layout_file
from spq.web.server.derived import Derived, Progress
from spq.web.server.facets import colours, facets
from spq.web.server.problems import ComputingError, ProblemError
from spq.web.server.values import Texts, Values, read_values
from spq.web.unusual import Features, unusual_first
from spq.web.view import ON_MAP, Facts

COMPARING = "comparing pictures"
READING = "reading values"
CODEWORD = "codeword"  # of the first codebook: a column of the map
KEPT = 4  # maps


class Explore:
    """The map and the orders of an index, for any thread."""

    def __init__(self, shared: SharedIndex) -> None:
        self.shared = shared
        self.unusual: Derived[Ids] = Derived("unusual pictures", COMPARING, shared, _unusual_ids)
        self.layout: Derived[Layout] = Derived("map", NEIGHBOURING, shared, self._arranged)
        self.values: Derived[Values] = Derived("values", READING, shared, _values, lambda gallery: gallery.version)
        self._cache: Recent[Any] = Recent(KEPT)

    def stop(self) -> None:
        for work in (self.unusual, self.layout, self.values):
            work.stop()

    def map(self, where: str | None, method: str | None = None) -> Facts:
        """The pictures, or a fixed sample of them, as points on a plane: all, or those that `where` matches.

        Args:
            method: `pca`, although neighbours may be ready.
        """
        gallery, arranging = self.shared.gallery, self.progress()
        is_plain = method == "pca" or arranging is not None
        rows, points = self._projected(gallery) if is_plain else self._arranged_places(gallery)
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
            "method": "pca" if is_plain else "neighbours",
            "arranging": arranging,
            "generation": max(gallery.revision, 0),
        }

    def facets(self, where: str | None) -> Facts:
        """Columns with their values, and how many of the pictures that `where` matches have each.

        Raises:
            ComputingError: the values are still read.
        """
        gallery, (values, _) = self.shared.gallery, self.values.get()

        @cache
        def matched(where: str | None) -> NDArray[np.bool_]:
            if where is None:
                return np.ones(len(values.ids), bool)
            rows = self.shared.rows(self.shared.of_thread().store, gallery, where).rows
            return np.isin(values.ids, gallery.ids_of(rows))

        return {"total": int(matched(where).sum()), "facets": facets(values, matched, where)}

    def colours(self, column: str) -> Facts:
        """The value of each picture on the map in a column.

        Raises:
            ComputingError: the values are still read. ProblemError: 404, there is no such column.
        """
        gallery = self.shared.gallery
        map_rows = sampled_rows(gallery)
        ids = gallery.ids_of(map_rows)
        if column == CODEWORD:
            codes = gallery.scan.codes_of(map_rows)[:, 0].astype(np.int64)
            rows = np.arange(len(codes))
            names = [f"1·{k}" for k in range(int(codes.max(initial=0)) + 1)]
            found = colours(Texts(Column(CODEWORD), names, rows, codes), rows, len(rows))
        else:
            values, _ = self.values.get()
            if column not in values.columns:
                raise ProblemError(404, f"no column {column}; columns are {', '.join(values.columns)}")
            rows = values.ids.searchsorted(ids).clip(0, max(0, len(values.ids) - 1))
            found = colours(values.columns[column], rows, len(values.ids))
        kind = "u1" if found["kind"] == "text" else "<f4"
        return {**found, "values": base64_of(found["values"], kind), "ids": base64_of(ids, "<i4")}

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

    def _arranged_places(self, gallery: Gallery) -> tuple[Rows, Floats]:
        """Rows, ascending by id, and their points (n, 2)."""
        layout, _ = self.layout.get()
        rows = gallery.rows_of(layout.ids)
        at = layout.ids.searchsorted(gallery.ids_of(rows))
        order = at.argsort()
        return rows[order], layout.points[at[order]]

    def _projected(self, gallery: Gallery) -> tuple[Rows, Floats]:
        def project() -> tuple[Rows, Floats]:
            rows = sampled_rows(gallery)
            return rows, projection.project(gallery.scan.codes_of(rows), self.shared.of_thread().decoder)

        found: tuple[Rows, Floats] = self._cache.get(("map", gallery.version), project)
        return found

    def _arranged(self, gallery: Gallery, index: ImageIndex, before: Layout | None, progress: Progress) -> Layout:
        """The layout of now: the kept one, with new pictures between their neighbours, or a new one.

        Of several processes, one computes it.
        """
        rows = sampled_rows(gallery)
        now = gallery.ids_of(rows).astype(np.int64), gallery.scan.codes_of(rows)
        file = layout_file(self.shared.manifest, self.shared.folder)
        return kept_layout(file, now, index.decoder, before, progress)


def sampled_rows(gallery: Gallery) -> Rows:
    """Rows of the pictures on a map, ascending by id."""
    ids = gallery.all_ids()
    rows = gallery.rows_of(ids[projection.sample(ids, ON_MAP)])
    return rows[gallery.ids_of(rows).argsort()]


def base64_of(values: NDArray[Any], kind: str) -> str:
    """Numbers of a NumPy kind, little-endian, as base64."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def _unusual_ids(gallery: Gallery, index: ImageIndex, before: Ids | None, progress: Progress) -> Ids:
    ids = np.sort(gallery.all_ids().astype(np.int64))
    return unusual_first(ids, Features(index), lambda done, total: progress(COMPARING, done, total))


def _values(gallery: Gallery, index: ImageIndex, before: Values | None, progress: Progress) -> Values:
    ids = np.sort(gallery.all_ids().astype(np.int64))
    return read_values(index.store, ids, lambda done, total: progress(READING, done, total))
