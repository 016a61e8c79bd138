"""`ImageIndex`: the codes of a collection in a folder, kept in step with the pictures, and searched by picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from spq.errors import DataError, ImageError, MovedError, StoreError
from spq.index.answers import EXACT_TRIES, TRIES, Found, Hit, rank_answers, to_hits
from spq.index.build import BuildOptions, as_image_set, build
from spq.index.codebooks import check_model
from spq.index.gallery import Gallery, GallerySource, OwnGallery, no_item
from spq.index.manifest import read_manifest
from spq.index.merge import merged_tables
from spq.index.model_copy import ModelCopy
from spq.index.originals import Originals
from spq.index.query import known_descriptors, query_pictures
from spq.index.request import Box, Query, SearchRequest
from spq.index.shards.open_store import open_store
from spq.index.store import Store
from spq.index.sync import Progress, SyncOptions, SyncReport, add, sync
from spq.pq.scan import How
from spq.pq.tables import Decoder

if TYPE_CHECKING:
    from PIL import Image

    from spq.model.model import Model

__all__ = ["Hit", "ImageIndex", "SyncReport"]
Floats = NDArray[np.float32]


class ImageIndex:
    """An open index. Use it as a context manager, or `close()` it.

    Args:
        model: the model that made the codes, or the index's copy of it; by default the copy is loaded when it is needed.
        gallery: where the codes in memory come from; by default they are read from the store.
    """

    def __init__(
        self, store: Store, model: Model | ModelCopy | None = None, gallery: GallerySource | None = None
    ) -> None:
        self.store = store
        self.model_copy = model if isinstance(model, ModelCopy) else ModelCopy(store.folder, store.manifest, model)
        self._gallery = gallery or OwnGallery(store, self.model_copy.make_scan)
        self._originals: Originals | None = None

    @classmethod
    def build(
        cls,
        folder: str | Path,
        model: Model,
        images: Any,
        progress: Progress | None = None,
        keep_missing: bool = False,
        wait: float = 0,
        bits: int | None = None,
        remove_missing: bool = False,
    ) -> Self:
        """Encode a collection into a new index folder, or bring an existing one up to date.

        `spq.index.build.build` also returns the report of what was done.

        Args:
            images: what `open_images` takes. An index of pictures at hand, such as an array, has no files to show.
            progress: as in `sync`.
            keep_missing, remove_missing: as in `sync`.
            wait: seconds to wait while another process writes to the index.
            bits: one of the model's lengths, see `Model.truncate`; by default that of an existing index, or the longest.
        Raises:
            StoreError: the folder holds something else, or another process writes to it.
            ModelMismatchError: the index holds codes of another model.
            DataError: no picture is readable; nothing is left behind then.
            ConfigError: the model has no codes of this length.
        """
        options = BuildOptions(keep_missing, wait, bits, remove_missing=remove_missing)
        store, copy, _ = build(Path(folder), model, images, progress, options)
        return cls(store, copy)

    @classmethod
    def open(cls, folder: str | Path, model: Model | None = None) -> Self:
        """Open an existing index. Torch and the model are loaded only when a picture has to be encoded.

        Args:
            model: the model that made the codes, if it is loaded already or has a backbone of your own.
        Raises:
            StoreError: no index, or one of a newer format. ModelMismatchError: its codes are of another model.
        """
        if model is not None:
            check_model(Path(folder), read_manifest(Path(folder)).model, model.hash)
        return cls(open_store(Path(folder)), model)

    @property
    def model(self) -> Model:
        """The model that made the codes.

        Raises:
            ModelMismatchError: the copy in the index is not the model that the manifest names.
        """
        return self.model_copy.model

    @property
    def decoder(self) -> Decoder:
        """What decodes the codes, see `ModelCopy.decoder`."""
        return self.model_copy.decoder

    def gallery(self) -> Gallery:
        """The codes in memory, as they are now in the store."""
        self._follow_move()
        return self._gallery.latest()

    def sync(
        self,
        images: Any,
        model: Model | None = None,
        progress: Progress | None = None,
        keep_missing: bool = False,
        remove_missing: bool = False,
        rehash: bool = False,
    ) -> SyncReport:
        """Make the index hold exactly the pictures of a collection. It can be repeated, and interrupted at any moment.

        A picture of unchanged size and times is not opened. The bytes of the others are hashed: a known hash keeps its code (a
        renamed, copied or touched file), and a renamed file its id too; the rest is encoded. An unreadable picture is tried
        again when it changes.

        Items below a folder that cannot be listed stay as they are, and so do those of a folder that is empty now, or on
        another disk than before: it may not be mounted. The report names these folders. Of several collections, one that is
        missing is such a folder. HEIC pictures stay if nothing can open them any more.

        Args:
            progress: called with (pictures committed, pictures to encode, unreadable ones among the committed).
            keep_missing: keep items whose files have vanished.
            remove_missing: remove also items of folders that are empty or not mounted, and any number of items at once.
            rehash: read all pictures, also those of unchanged size and times.
        Raises:
            DataError: the collection is empty, such as that of a disk that is not mounted; nothing is removed then.
            LossError: more than half of the items would be removed, and more than `spq.index.missing.FEW`, or all items of
                other collections. New pictures are in the index then, and nothing was removed.
        """
        if model:
            self.model_copy.use(model)
        self._follow_move()
        options = SyncOptions(keep_missing, remove_missing, rehash=rehash)
        return sync(self.store, self.model_copy, as_image_set(images), progress, options)

    def add(self, images: Any, model: Model | None = None) -> SyncReport:
        """Add or refresh the pictures of a collection, and leave all others as they are."""
        if model:
            self.model_copy.use(model)
        self._follow_move()
        return add(self.store, self.model_copy, as_image_set(images))

    def remove(self, paths: Sequence[str]) -> None:
        """Remove items by path.

        Raises:
            StoreError: a path that is not in the index; nothing is removed then.
        """
        self._follow_move()
        with self.store.writing():
            known = self.store.stats(paths)
            unknown = next((path for path in paths if path not in known), None)
            if unknown is not None:
                raise StoreError(f"{unknown} is not in the index {self.store.folder}; give a path as hits have it")
            self.store.remove(paths)

    def search(
        self,
        query: Query | Sequence[Query],
        top: int = 20,
        *,
        negative: Sequence[Query] = (),
        weights: Sequence[float] | None = None,
        box: Box | None = None,
        where: str | None = None,
        max_distance: float | None = None,
        fold: bool = False,
        offset: int = 0,
        exclude: Collection[int] = (),
        **how: Unpack[How],
    ) -> list[Hit]:
        """Find the `top` most similar pictures, nearest first, ties by a fixed hash of the id.

        Args:
            query: a picture in any form that `load_image` takes; a descriptor (D,); the id of an item, which stands for its
                code; or a list of these. Only a picture needs the model, and torch. `like` gives the picture of an item.
            negative: pictures that the answers should not be like. `spq.index.merge` has the formula of the distance.
            weights: one for each query picture, then one for each negative; by default 1 and 0.3.
            box: (x, y, width, height) in pixels of the upright picture: search by this region of it.
            where: search among the pictures that match this filter; `spq.index.filter` describes the language. The search is
                exact then: `method` "ivf", `nprobe` and `recall_target` are refused.
            max_distance: leave out pictures with a larger distance.
            fold: one answer for all pictures of the same code, such as identical files; the others are its `folded`. At 16 bits
                many different pictures share a code.
            offset: leave out the first answers. Ranks go on: with offset 20 the first hit has rank 21.
            exclude: ids to leave out, such as that of the query.
            how: method, threads, nprobe and recall_target, as `How` explains them; by default the search is exact.
        Raises:
            ImageError: a query cannot be read.
            StoreError: no such id, or a descriptor of another length.
            ConfigError: an option out of range, options that do not fit together, or a method that does not suit these codes.
        """
        request = SearchRequest([query], top, negative, weights, box, where, max_distance, fold, offset, exclude, **how)
        return self.hits(request)[0]

    def like(self, item: int, size: int | None = None) -> Image.Image | int:
        """What finds pictures like an item: its picture, or its id if the file cannot be read or has changed since.

        It is the id, too, if the model has a part of your own that was not given to `open`. The id stands for the code of the
        item, which is less exact than the picture.

        Args:
            size: decode a large picture only so far that its sides have this many pixels; by default in full.
        Raises:
            StoreError: no such id.
        """
        found = self.store.items_by_id([item]).get(item)
        if found is None:
            raise no_item(item)
        if not self.model_copy.can_embed:
            return item
        try:
            if self._originals is None or self._originals.origin != self.store.manifest.origin:
                self._originals = Originals(self.store.manifest.origin)
            data, decode = self._originals.unchanged(found)
            return decode(data, size)
        except (ImageError, DataError):
            return item

    def search_many(self, queries: Sequence[Query | Sequence[Query]], top: int = 20, **options: Any) -> list[list[Hit]]:
        """`search` for several queries at once, with the same options for all."""
        return self.hits(SearchRequest(queries, top, **options))

    def hits(self, request: SearchRequest) -> list[list[Hit]]:
        """The hits of each query of a request. It raises the errors of `search`."""
        if not request.queries:
            return []
        try:
            return self._hits(request)
        except MovedError:
            self._open_again()
            return self._hits(request)

    def _open_again(self) -> None:
        """Go on with an index whose items were moved into shards since it was opened.

        Raises:
            MovedError: its codes in memory are those of several threads, which open it again themselves.
        """
        if not isinstance(self._gallery, OwnGallery):
            raise MovedError(f"index {self.store.folder} has shards now; open it again")
        self.store.close()
        self.store = open_store(self.store.folder, self.store.wait)
        self._gallery = OwnGallery(self.store, self.model_copy.make_scan)

    def _follow_move(self) -> None:
        try:
            self.store.check_kind()
        except MovedError:
            self._open_again()

    def _hits(self, request: SearchRequest) -> list[list[Hit]]:
        gallery = self._gallery.latest()
        queries = self._described(request, gallery)
        for tries in range(TRIES):
            found = self.answers(request, self._tables(request, queries, gallery), gallery)
            ids = {i for answers in found.answers for _, same_code in answers for i in same_code}
            paths = self.store.paths(ids)
            is_exact = found.is_exact or tries >= EXACT_TRIES
            if is_exact and len(paths) == len(ids):  # else a writer has removed one since the codes were read
                return [to_hits(answers, request.offset, paths) for answers in found.answers]
            gallery = self._gallery.latest(gallery)
        raise self.store.without(ids - paths.keys())

    def tables(self, request: SearchRequest, gallery: Gallery | None = None) -> Floats:
        """The distance table of each query, (Q, M, K). It raises the errors of `search`.

        Args:
            gallery: where the codes of ids come from; by default the codes of now.
        """
        gallery = gallery or self._gallery.latest()
        return self._tables(request, self._described(request, gallery), gallery)

    def _described(self, request: SearchRequest, gallery: Gallery) -> list[Query]:
        """The pictures of a request as descriptors, and its ids. Each picture is read once."""
        gallery.scan.check(**request.how)  # before a model is loaded
        queries = query_pictures(request)
        _, pictures = known_descriptors(queries, gallery, self.decoder)
        if pictures:
            for place, x in zip(pictures, self.model.embed(list(pictures.values())), strict=True):
                queries[place] = x
        return queries

    def _tables(self, request: SearchRequest, queries: list[Query], gallery: Gallery) -> Floats:
        x, _ = known_descriptors(queries, gallery, self.decoder)
        return merged_tables(request, self.model_copy.tables(x))

    def answers(self, request: SearchRequest, tables: Floats, gallery: Gallery) -> Found:
        """The answers to the tables (Q, M, K) of a request among the codes of a gallery, by id."""
        if request.where is None:
            return rank_answers(request, tables, gallery, None)
        rows, is_exact = self._gallery.rows(self.store, gallery, request.where)
        return replace(rank_answers(request, tables, gallery, rows), is_exact=is_exact)

    def info(self) -> dict[str, Any]:
        """Facts of the index, as `spq info` shows them."""
        self._follow_move()
        return self.store.info()

    def close(self) -> None:
        self.store.close()

    def __len__(self) -> int:
        self._follow_move()
        return len(self.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
