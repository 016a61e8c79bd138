"""What the server does with an index, in worker threads: plain functions of plain values, without HTTP except its errors."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.common.text import printable
from spq.data.decode import load_image
from spq.index import codewords
from spq.index.encode import hash_of
from spq.index.explain import explain
from spq.index.filter_sql import known_columns, matching
from spq.index.gallery import Gallery
from spq.index.query import Box, Floats, Found, Ids, Query, Rows, Search, cut
from spq.index.shared import Recent, SharedIndex
from spq.index.store import Item
from spq.pq import projection
from spq.web.server.pictures import Pictures
from spq.web.server.problems import ProblemError
from spq.web.server.schemas import Ask
from spq.web.server.settings import Settings
from spq.web.view import ON_MAP, ORDERS, Facts, facts, facts_of_codes, label

FOLDED = 100  # ids of the same code that are listed with an answer
KEPT = 8  # cached orders, counts and maps; for a million pictures one is up to 8 MB
UPLOADS = 256  # cached descriptors of uploads


@dataclass(frozen=True)
class Uploads:
    """Pictures to be like and not to be like, as files that are open: read where they are needed, one at a time."""

    positive: Sequence[BinaryIO] = ()
    negative: Sequence[BinaryIO] = ()


class Library:
    """Answers requests about an index, from any thread."""

    def __init__(self, shared: SharedIndex, pictures: Pictures, settings: Settings) -> None:
        self.shared, self.pictures, self.settings = shared, pictures, settings
        self._cache: Recent[Any] = Recent(KEPT)
        self._descriptors: Recent[Floats] = Recent(UPLOADS)  # each page of results sends the picture again

    def warm(self) -> None:
        """Load torch and the model, so that the first search does not wait for them."""
        size = self.shared.model.config.input.size
        self.shared.model.embed([Image.new("RGB", (size, size))])

    def status(self) -> Facts:
        """Return the state of the index."""
        index, gallery = self.shared.mine(), self.shared.gallery

        def count() -> Facts:
            columns = [dict(zip(("name", "kind", "values"), c, strict=True)) for c in known_columns(index.store)]
            return {"unreadable": len(index.store.unreadable()), "columns": columns}

        return {
            **facts_of_codes(index.store),
            "images": len(gallery.ids),
            "generation": self.shared.generation,
            **self._cache.get(("status", gallery.version), count),
        }

    def search(self, uploads: Uploads, ask: Ask) -> Facts:
        """Hits, how many there are in all, and how long it took."""
        start = time.perf_counter()
        queries, asked = self._asked(uploads, ask)
        tables = self.shared.mine().tables([queries], asked)
        found, items = self._answered(tables, asked)
        hits = [self._hit(rank, *answer, items) for rank, answer in enumerate(found.answers[0], asked.offset + 1)]
        return {
            "hits": hits,
            "total": found.available - self._excluded(found, asked),
            "seconds": round(time.perf_counter() - start, 6),
            "generation": max(found.gallery.revision, 0),
        }

    def explain(self, uploads: Uploads, ask: Ask, item: int) -> Facts:
        """The parts of the distance that `search` gives an item."""
        queries, asked = self._asked(uploads, ask)
        table = self.shared.mine().tables([queries], asked)[0]
        parts = explain(table, self._code(item))
        return {"total": math.fsum(part.distance for part in parts), "parts": [asdict(part) for part in parts]}

    def item(self, id_: int) -> Item:
        """Return an item by its id.

        Raises:
            ProblemError: 404.
        """
        item = self.shared.mine().store.items_by_id([id_]).get(id_)
        if item is None:
            raise _missing(id_)
        return item

    def browse(self, offset: int, top: int, where: str | None, order: str, since: int | None) -> Facts:
        """Return a page of all items, or of those that match `where` and changed after generation `since`."""
        ids = self._ordered(where, order, since)
        return {
            "items": self._items(ids[offset : offset + top].tolist()),
            "total": len(ids),
            "generation": self.shared.generation,
        }

    def codewords(self) -> Facts:
        """Return how many items use each codeword."""
        gallery = self.shared.gallery
        K = self.shared.mine().store.manifest.codebook_size
        counts = self._cache.get(("usage", gallery.version), lambda: codewords.usage(gallery.scan.codes, K).tolist())
        return {"codebooks": len(counts), "codewords": K, "counts": counts}

    def codeword(self, m: int, k: int, offset: int, top: int) -> Facts:
        """Return a page of the items that use a codeword."""
        gallery, manifest = self.shared.gallery, self.shared.mine().store.manifest
        if m >= manifest.num_codebooks or k >= manifest.codebook_size:
            there = f"{manifest.num_codebooks} codebooks of {manifest.codebook_size} codewords"
            raise ProblemError(404, f"no codeword {k} in codebook {m}; there are {there}, counted from 0")
        rows = self._cache.get(
            ("members", gallery.version, m, k),
            lambda: codewords.members(gallery.scan.codes, m, k, self._codebooks(), manifest.distance),
        )
        page = gallery.ids[rows[offset : offset + top]].tolist()
        return {"m": m, "k": k, "count": len(rows), "items": self._items(page)}

    def map(self, where: str | None) -> Facts:
        """Return positions on a plane: of all pictures or a fixed sample, or only of those that match `where`."""
        gallery = self.shared.gallery

        def project() -> tuple[Rows, Floats]:
            rows = projection.sample(gallery.ids, ON_MAP)
            return rows, projection.project(gallery.scan.codes_of(rows), self._codebooks())

        rows, points = self._cache.get(("map", gallery.version), project)
        total = len(gallery.ids)
        if where is not None:  # the positions stay those of the whole map
            matched = self.shared.rows(self.shared.mine(), gallery, where)
            is_shown = np.isin(rows, matched)
            rows, points, total = rows[is_shown], points[is_shown], len(matched)
        return {
            "ids": _base64(gallery.ids[rows], "<i4"),
            "x": _base64(points[:, 0], "<f4"),
            "y": _base64(points[:, 1], "<f4"),
            "count": len(rows),
            "total": total,
            "method": "pca",
            "generation": max(gallery.revision, 0),
        }

    def _asked(self, uploads: Uploads, ask: Ask) -> tuple[list[Query], Search]:
        """What is to be like, and the rest of what a search is told."""
        if not uploads.positive and not ask.ids:
            raise ProblemError(422, "nothing to be like; send a picture as image, or ids")
        self._check(*ask.ids, *ask.not_ids)
        box = None if ask.box is None else (ask.box[0], ask.box[1], ask.box[2], ask.box[3])
        if box and len(uploads.positive) + len(ask.ids) != 1:
            raise ProblemError(422, "box: it belongs to one picture or one id; send one")
        queries: list[Query] = [self._descriptor(file, f"image {n}", box) for n, file in enumerate(uploads.positive, 1)]
        queries += [self._region(id_, box) if box else id_ for id_ in ask.ids]
        negative: list[Query] = [self._descriptor(f, f"negative_image {n}") for n, f in enumerate(uploads.negative, 1)]
        asked = Search(
            top=ask.top,
            negative=[*negative, *ask.not_ids],
            weights=ask.weights,
            where=ask.where,
            max_distance=ask.max_distance,
            fold=ask.fold,
            offset=ask.offset,
            exclude={*ask.ids, *ask.not_ids},
        )
        return queries, asked

    def _check(self, *ids: int) -> None:
        """Refuse items that are not there. One that has just come may be in the store and not yet among the codes in memory.

        Raises:
            ProblemError: 404.
        """
        there = self.shared.mine().store.items_by_id(ids)
        for id_ in ids:
            if id_ not in there:
                raise _missing(id_)
        gallery = self.shared.gallery
        if len(_positions_of(gallery.ids, there)) < len(there):
            self.shared.refresh(gallery)

    def _descriptor(self, file: BinaryIO, name: str, box: Box | None = None) -> Floats:
        """Of an upload, or of a region of it."""
        data = file.read()
        key = (hash_of(data), box)
        return self._descriptors.get(key, lambda: self._embedded(self._decoded(data, name, box), box))

    def _decoded(self, data: bytes, name: str, box: Box | None) -> Image.Image:
        hint = None if box else self.shared.model.config.input.size  # a box is counted in the picture's own pixels
        return load_image(data, hint, name, self.settings.max_pixels)

    def _region(self, id_: int, box: Box) -> Floats:
        return self._embedded(self.pictures.image(self.item(id_)), box)

    def _embedded(self, image: Image.Image, box: Box | None) -> Floats:
        x: Floats = self.shared.model.embed([cut(image, box) if box else image])[0]
        return x

    def _answered(self, tables: Floats, asked: Search) -> tuple[Found, dict[int, Item]]:
        """The answers, and the items that they name."""
        stale: Gallery | None = None
        while True:
            found = self.shared.mine().answers(tables, asked, stale)
            wanted = {i for _, near in found.answers[0] for i in near[: 1 + FOLDED]}
            items = self.shared.mine().store.items_by_id(wanted)
            if len(items) == len(wanted):  # else a writer has dropped one since the codes were read
                return found, items
            stale = found.gallery

    def _hit(self, rank: int, distance: float, ids: list[int], items: dict[int, Item]) -> Facts:
        item, folded = items[ids[0]], ids[1:]
        return {
            "rank": rank,
            "id": item.id,
            "distance": distance,
            "path": printable(item.path),
            "label": label(item),
            "width": item.width,
            "height": item.height,
            "folded": folded[:FOLDED],
            "folded_total": len(folded),
        }

    def _excluded(self, found: Found, asked: Search) -> int:
        """Return how many of the excluded items would have been available."""
        if not found.available:
            return 0
        rows = _positions_of(found.gallery.ids, asked.exclude)
        if asked.where is None:
            return len(rows)
        return len(_positions_of(self.shared.rows(self.shared.mine(), found.gallery, asked.where), rows))

    def _ordered(self, where: str | None, order: str, since: int | None) -> Ids:
        """Return the ids of a list. They stay cached for its next page."""
        gallery, store = self.shared.gallery, self.shared.mine().store

        def ids() -> Ids:
            has_revisions = gallery.revision >= 0  # an index of format 1 has none
            after = " AND revision > ?" if since is not None and has_revisions else ""
            by = ORDERS[order if has_revisions or order != "new" else "last"]
            query = f"SELECT id FROM items WHERE status = 0{after} ORDER BY {by}"
            found = store.ids(query, *((since,) if after else ()))
            return found if where is None else found[np.isin(found, matching(store, where))]

        if order == "id" and since is None:
            if where is None:
                return gallery.ids
            return gallery.ids[self.shared.rows(self.shared.mine(), gallery, where)]
        found: Ids = self._cache.get(("order", gallery.version, where, order, since), ids)
        return found

    def _items(self, ids: Sequence[int]) -> list[Facts]:
        """Return facts of items in the order of `ids`, without those that a writer has just deleted."""
        items = self.shared.mine().store.items_by_id(ids)
        return [facts(items[i]) for i in ids if i in items]

    def _code(self, id_: int) -> NDArray[np.uint8]:
        code = self.item(id_).code
        assert code is not None  # items_by_id gives none without
        return code

    def _codebooks(self) -> Floats:
        return self.shared.mine().codebooks


def _missing(id_: int) -> ProblemError:
    return ProblemError(404, f"no item {id_}; ids are those of hits")


def _positions_of(ascending: NDArray[Any], values: Collection[int] | Rows) -> Rows:
    """Return the positions in `ascending` of those `values` that it contains.

    >>> _positions_of(np.array([2, 3, 7]), [7, 4, 9])
    array([2])
    """
    wanted = np.fromiter(values, np.int64, len(values))
    found = np.searchsorted(ascending, wanted)
    inside = found < len(ascending)
    found, wanted = found[inside], wanted[inside]
    positions: Rows = found[ascending[found] == wanted]
    return positions


def _base64(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()
