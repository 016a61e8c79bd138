"""What the server reads from an index, in worker threads. Nothing here knows of HTTP, except for its problems."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from spq.common.text import encodable
from spq.data.decode import load_image
from spq.errors import DataError, ImageError, ModelError
from spq.index.answers import EXACT_TRIES, TRIES, Found
from spq.index.explain import explain
from spq.index.filter_sql import known_columns, matching
from spq.index.gallery import Gallery, Ids, Rows
from spq.index.items import Item
from spq.index.query import Floats, cut
from spq.index.request import Box, Query, SearchRequest, check_box_count
from spq.index.shared import Recent, SharedIndex
from spq.pq import codewords
from spq.pq.projection import shuffled
from spq.pq.tables import Decoder
from spq.web.server.derived import Derived
from spq.web.server.kept_pictures import Uploads
from spq.web.server.nearness import compared_with, nearness
from spq.web.server.pictures import Pictures
from spq.web.server.problems import OverloadedError, ProblemError
from spq.web.server.schemas import Ask, AskWhy
from spq.web.server.settings import Settings
from spq.web.view import ORDERS, Facts, facts, facts_of_codes, label

_LOG = logging.getLogger("spq.serve")
FOLDED = 100  # ids of the same code that are listed with a hit
KEPT = 8  # orders, counts and maps that are kept; for a million pictures, each takes up to 8 MB
UPLOADS = 256  # descriptors of uploads that are kept


class Library:
    """An index as the server shows it, for any thread."""

    def __init__(self, shared: SharedIndex, pictures: Pictures, settings: Settings, unusual: Derived[Ids]) -> None:
        """Args: unusual: the ids of all pictures, the most unusual first."""
        self.shared, self.pictures, self.settings, self.unusual = shared, pictures, settings, unusual
        self._cache: Recent[Any] = Recent(KEPT)
        self._descriptors: Recent[Floats] = Recent(UPLOADS)  # each page of a result needs it again

    def warm(self) -> None:
        """Load torch and the model, so that the first search need not wait."""
        size = self.shared.model.config.input.size
        self.shared.model.embed([Image.new("RGB", (size, size))])

    def status(self) -> Facts:
        """Facts of the index itself."""
        index, gallery = self.shared.of_thread(), self.shared.gallery

        def count() -> Facts:
            columns = [dict(zip(("name", "kind", "values"), c, strict=True)) for c in known_columns(index.store)]
            return {"unreadable": len(index.store.unreadable()), "columns": columns}

        return {
            **facts_of_codes(index.store),
            **({"name": self.settings.name} if self.settings.name else {}),
            "images": len(gallery),
            "generation": max(gallery.revision, 0),
            **self._cache.get(("status", gallery.version), count),
        }

    def search(self, uploads: Uploads, ask: Ask) -> Facts:
        """Hits, how many there are in total, and the seconds that it took."""
        start = time.perf_counter()
        request = self._request(uploads, ask)
        found, items = self._answers(request)
        near = nearness(self.shared, request, found, items, self._hashes(uploads, ask))
        answers = enumerate(found.answers[0], request.offset + 1)
        hits = [self._hit(rank, *answer, items) | near[answer[1][0]] for rank, answer in answers]
        return {
            "hits": hits,
            "compared": compared_with(request),
            "total": found.available - self._excluded(found, request),
            "seconds": round(time.perf_counter() - start, 6),
            "generation": max(found.gallery.revision, 0),
            "model": self.shared.model_hash,
            "partial": found.missing > 0,
            "missing": found.missing,
            **uploads.names(ask.pictures, ask.not_pictures),
        }

    def explain(self, uploads: Uploads, ask: Ask, item: int) -> Facts:
        """The parts of the distance that `search` gives an item."""
        request = self._request(uploads, ask)
        gallery = self._gallery_with({*request.exclude, item})
        table = self.shared.of_thread().tables(request, gallery)[0]
        parts = explain(table, gallery.code_of(item))
        return {
            "total": math.fsum(part.distance for part in parts),
            "parts": [asdict(part) for part in parts],
            **uploads.names(ask.pictures, ask.not_pictures),
        }

    def explain_ask(self, uploads: Uploads, ask: AskWhy) -> Facts:
        """As `explain`, of the item that the request names."""
        return self.explain(uploads, ask, ask.id)

    def item(self, id_: int) -> Item:
        """The item of an id.

        Raises:
            ProblemError: 404.
        """
        item = self.shared.of_thread().store.items_by_id([id_]).get(id_)
        if item is None:
            raise _missing(id_)
        return item

    def chosen(self, ids: Collection[int]) -> dict[int, Item]:
        """The items of ids, without those that are gone."""
        return dict(self.shared.of_thread().store.items_by_id(ids))

    def browse(self, offset: int, top: int, where: str | None, order: str, since: int | None, seed: int = 0) -> Facts:
        """A page of the items that `where` matches and that were written after generation `since`; by default all.

        Args:
            seed: of the order `random`.
        Raises:
            ComputingError: order `unusual` is not known yet.
        """
        gallery = self.shared.gallery
        for _ in range(EXACT_TRIES):
            ids, is_exact = self._ordered(gallery, where, (order, seed), since)
            page = ids[offset : offset + top].tolist()
            items = self._items(page)
            if is_exact and len(items) == len(page):
                break  # else a writer has changed something since the codes were read
            gallery = self.shared.latest(gallery)
        return {"items": items, "total": len(ids), "generation": max(gallery.revision, 0)}

    def codewords(self, where: str | None) -> Facts:
        """Return how many of the items that `where` matches use each codeword."""
        gallery = self.shared.gallery
        K = self.shared.of_thread().store.manifest.codebook_size

        def usage() -> list[list[int]]:
            codes = gallery.all_codes()
            counted = codes if where is None else codes[np.isin(gallery.all_ids(), self._matching(gallery, where))]
            return codewords.usage(counted, K).tolist()  # type: ignore[no-any-return]

        counts = self._cache.get(("usage", gallery.version, where), usage)
        return {"codebooks": len(counts), "codewords": K, "counts": counts}

    def codeword(self, m: int, k: int, offset: int, top: int, where: str | None) -> Facts:
        """A page of the items that use a codeword and that `where` matches."""
        gallery, manifest = self.shared.gallery, self.shared.of_thread().store.manifest
        if m >= manifest.num_codebooks or k >= manifest.codebook_size:
            there = f"{manifest.num_codebooks} codebooks of {manifest.codebook_size} codewords"
            raise ProblemError(404, f"no codeword {k} in codebook {m}; there are {there}, counted from 0")

        def members() -> Ids:
            rows = codewords.members(gallery.all_codes(), m, k, self._decoder(), manifest.distance)
            return gallery.all_ids()[rows]

        ids = self._cache.get(("members", gallery.version, m, k), members)
        if where is not None:
            ids = ids[np.isin(ids, self._matching(gallery, where))]
        page = ids[offset : offset + top].tolist()
        return {"m": m, "k": k, "count": len(ids), "items": self._items(page)}

    def _request(self, uploads: Uploads, ask: Ask) -> SearchRequest:
        """The search request of an HTTP request. Pictures become descriptors, which are kept; a box is cut out before."""
        box = None if ask.box is None else (ask.box[0], ask.box[1], ask.box[2], ask.box[3])
        positive: list[BinaryIO | str] = [*uploads.positive, *ask.pictures]
        unlike: list[BinaryIO | str] = [*uploads.negative, *ask.not_pictures]
        if box:
            check_box_count(len(positive) + len(ask.ids))
        query: list[Query] = [self._descriptor(uploads, one, f"image {n}", box) for n, one in enumerate(positive, 1)]
        negative: list[Query] = [
            self._descriptor(uploads, one, f"negative_image {n}") for n, one in enumerate(unlike, 1)
        ]
        like: Callable[[int], Query] = self._like
        if len(query) + len(negative) + len(ask.ids) + len(ask.not_ids) > self.settings.max_pictures:
            like = int  # their codes
        query += [self._region(id_, box) if box else like(id_) for id_ in ask.ids]
        return SearchRequest(
            [query],
            top=ask.top,
            negative=[*negative, *map(like, ask.not_ids)],
            weights=ask.weights,
            where=ask.where,
            max_distance=ask.max_distance,
            fold=ask.fold,
            offset=ask.offset,
            exclude={*ask.ids, *ask.not_ids},
            partial=ask.partial,
        )

    def _hashes(self, uploads: Uploads, ask: Ask) -> set[bytes]:
        """The hashes of the query pictures, which are those of the files of items, too."""
        items = self.shared.of_thread().store.items_by_id(ask.ids) if ask.ids else {}
        sent = uploads.names(ask.pictures, ask.not_pictures)["pictures"]
        return {*map(bytes.fromhex, sent), *(item.hash for item in items.values())}

    def _gallery_with(self, ids: Collection[int], stale: Gallery | None = None) -> Gallery:
        """The codes in memory, with these items. Those of an item that was just added are read now.

        Args:
            stale: read newer codes than these.
        Raises:
            ProblemError: 404, for an unknown item.
        """
        gallery = self.shared.latest(stale)
        if any(gallery.row_of(id_) is None for id_ in ids):
            gallery = self.shared.latest(gallery)
        for id_ in ids:
            if gallery.row_of(id_) is None:
                raise _missing(id_)
        return gallery

    def _descriptor(self, uploads: Uploads, picture: BinaryIO | str, name: str, box: Box | None = None) -> Floats:
        """The descriptor of an uploaded picture, or of a region of it. The picture is kept, so that it need not come again."""
        key, data = uploads.read(picture)
        x = self._descriptors.get((bytes.fromhex(key), box), lambda: self._describe(data, name, box))
        uploads.keep(key, data)
        return x

    def _describe(self, data: bytes, name: str, box: Box | None) -> Floats:
        hint = None if box else self.shared.model.config.input.size  # a box counts the pixels of the full picture
        most = self.settings.max_pixels
        with self.pictures.room.hold(data, hint, most):
            return self._embed(load_image(data, hint, name, most), box)

    def _like(self, id_: int) -> Query:
        """The descriptor of an item's picture. If its file cannot be read or has changed: the id, which stands for its code."""
        item = self.item(id_)
        if not self.shared.can_embed:
            return id_

        def describe() -> Floats:
            data, decode = self.pictures.unchanged(item)
            hint = self.shared.model.config.input.size
            with self.pictures.room.hold(data, hint):
                return self._embed(decode(data, hint), None)

        try:
            return self._descriptors.get((item.hash, None), describe)
        except (ImageError, DataError, ModelError, OverloadedError):
            return id_

    def _region(self, id_: int, box: Box) -> Floats:
        with self.pictures.image(self.item(id_)) as image:
            return self._embed(image, box)

    def _embed(self, image: Image.Image, box: Box | None) -> Floats:
        x: Floats = self.shared.model.embed([cut(image, box) if box else image])[0]
        return x

    def _answers(self, request: SearchRequest) -> tuple[Found, dict[int, Item]]:
        """The answers, and the items that they name."""
        index, stale = self.shared.of_thread(), None
        for tries in range(TRIES):
            gallery = self._gallery_with(request.exclude, stale)
            found = index.answers(request, index.tables(request, gallery), gallery)
            ids = {i for _, same_code in found.answers[0] for i in same_code[: 1 + FOLDED]}
            items = index.store.items_by_id(ids)
            # a filter reads the store of now; a writer that never rests may be too quick for large codes
            is_exact = found.is_exact or tries >= EXACT_TRIES
            if is_exact and _are_of(gallery, items, len(ids)):  # else a writer has changed something since
                return found, items
            stale = gallery
        raise index.store.without(ids - items.keys())

    def _hit(self, rank: int, distance: float, ids: list[int], items: dict[int, Item]) -> Facts:
        item, folded = items[ids[0]], ids[1:]
        return {
            "rank": rank,
            "id": item.id,
            "distance": distance,
            "path": encodable(item.path),
            "label": label(item),
            "width": item.width,
            "height": item.height,
            "folded": folded[:FOLDED],
            "folded_total": len(folded),
        }

    def _excluded(self, found: Found, request: SearchRequest) -> int:
        """How many of the excluded items would otherwise have been available."""
        if not found.available:
            return 0
        rows = found.gallery.rows_of(_as_ids(request.exclude))
        if request.where is not None:
            rows = rows[np.isin(rows, self._rows(found.gallery, request.where))]
        return len(rows)

    def _rows(self, gallery: Gallery, where: str) -> Rows:
        return self.shared.rows(self.shared.of_thread().store, gallery, where).rows

    def _matching(self, gallery: Gallery, where: str) -> Ids:
        return np.asarray(gallery.ids_of(self._rows(gallery, where)), np.int64)

    def _ordered(self, gallery: Gallery, where: str | None, by: tuple[str, int], since: int | None) -> tuple[Ids, bool]:
        """Ids in the order of a browse, kept for its next page; and whether they are those of the gallery."""
        store, (order, seed) = self.shared.of_thread().store, by
        unusual, is_current = self.unusual.get() if order == "unusual" else (None, True)

        def ids() -> tuple[Ids, bool]:
            has_revisions = gallery.revision >= 0  # an index of format 1 has none
            sql = ORDERS.get(order if has_revisions or order != "new" else "last", "id")
            with store.snapshot():
                found = store.ids_by(sql, since if has_revisions else None)
                if where is not None:
                    found = found[np.isin(found, matching(store, where))]
                is_exact = store.revision() == gallery.revision
            return _arranged(found, unusual, seed if order == "random" else None), is_exact

        if order == "id" and since is None:
            rows, is_exact = (None, True) if where is None else self.shared.rows(store, gallery, where)
            ids_ = gallery.all_ids() if rows is None else gallery.ids_of(rows)
            return np.sort(np.asarray(ids_, np.int64)), is_exact
        key = ("order", gallery.version, where, order, seed, since, is_current)
        found: tuple[Ids, bool] = self._cache.get(key, ids)
        return found

    def _items(self, ids: Sequence[int]) -> list[Facts]:
        """Facts of items in their order, without those that a writer has just removed."""
        store = self.shared.of_thread().store
        before = set(store.damaged)
        items = store.items_by_id(ids)
        for id_ in store.damaged.keys() - before:
            _LOG.warning("item %d is left out: %s; repair the index", id_, store.damaged[id_])
        return [facts(items[i]) for i in ids if i in items]

    def _decoder(self) -> Decoder:
        return self.shared.of_thread().decoder


def _arranged(ids: Ids, unusual: Ids | None, seed: int | None) -> Ids:
    """Ids as they come in `unusual`, new ones last, or shuffled, or as they are."""
    if unusual is not None:
        return np.concatenate([unusual[np.isin(unusual, ids)], ids[~np.isin(ids, unusual)]])
    return ids if seed is None else shuffled(ids, seed)


def _are_of(gallery: Gallery, items: Mapping[int, Item], count: int) -> bool:
    """Whether `count` items are there, and have the codes that they have in the gallery."""
    rows = gallery.rows_of(_as_ids(items))
    codes = [items[id_].code for id_ in gallery.ids_of(rows).tolist()]
    if len(items) != count or len(rows) != count or any(code is None for code in codes):
        return False
    return not count or np.array_equal(np.stack(codes), gallery.scan.codes_of(rows))  # type: ignore[arg-type]


def _missing(id_: int) -> ProblemError:
    return ProblemError(404, f"no item {id_}; ids are those of hits")


def _as_ids(values: Collection[int]) -> Rows:
    """Ids as an array (n,)."""
    return np.fromiter(values, np.int64, len(values))
