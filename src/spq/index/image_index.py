"""`ImageIndex`: a collection's codes in a folder, kept in step with the pictures, and searched by picture."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from spq import __version__
from spq.data.image_set import ImageSet
from spq.data.multilabel import READERS
from spq.data.open import open_images
from spq.errors import DataError, SPQError, StoreError
from spq.index.codebooks import check_model, read_codebooks
from spq.index.filter_sql import matching
from spq.index.format import has_index
from spq.index.gallery import Gallery, follow
from spq.index.query import Box, Found, Hit, Query, Search, descriptors, hits, ranked
from spq.index.store import FORMAT, Manifest, Store, read_manifest
from spq.index.sync import Progress, SyncReport, missing, refresh
from spq.pq.scan import How, Scan
from spq.pq.tables import decode, distance_tables

if TYPE_CHECKING:
    from spq.model.model import Model

__all__ = ["Hit", "ImageIndex", "SyncReport"]
Floats = NDArray[np.float32]


class ImageIndex:
    """An open index. Use as a context manager, or `close()` it."""

    def __init__(self, store: Store, model: Model | None = None) -> None:
        self.store = store
        self._model = model
        self._codebooks: Floats | None = None
        self._loaded: Gallery | None = None
        self.last_sync = SyncReport()  # of this object's last sync or add

    @classmethod
    def build(
        cls,
        folder: str | Path,
        model: Model,
        images: str | Path | ImageSet,
        progress: Progress | None = None,
        keep_missing: bool = False,
        wait: float = 0,
        bits: int | None = None,
    ) -> Self:
        """Encode a collection into a new index folder, or bring an existing one up to date.

        Args:
            keep_missing: as in `sync`.
            wait: seconds to wait where another process is writing to the index.
            bits: one of the model's lengths, see `Model.truncate`; by default that of the index, if there is one, or the longest.
        Raises:
            StoreError: the folder holds something else, or another process writes to it. ModelMismatchError: its codes
                are another model's.
            DataError: no picture is readable; nothing is left behind then. ConfigError: not a length that the model gives.
        """
        folder = Path(folder)
        source = _opened(images)
        is_new = not has_index(folder)
        model = model.truncate(bits)
        if not is_new:
            known = read_manifest(folder)
            if bits is None and known.bits in model.config.quantizer.lengths:
                model = model.truncate(known.bits)
            check_model(folder, known.model, model.hash)
        existed = folder.exists()
        index = cls(Store.create(folder, _manifest(model, _lasting(source.name)), wait), model)
        try:
            report = index.sync(source, model, progress, keep_missing)
            if is_new and not len(index):
                reason = report.failed[0][1] if report.failed else "it is empty"
                raise DataError(
                    f"none of the {len(source)} pictures in {source.name} is readable, for example: {reason}"
                )
        except (SPQError, OSError):
            if is_new:
                index._take_back(existed)
            index.close()
            raise
        return index

    @classmethod
    def open(cls, folder: str | Path, model: Model | None = None) -> Self:
        """An index that is there. Neither torch nor the model is loaded before a picture is to be encoded.

        Args:
            model: the one that made it, where it is loaded already or has a backbone of the caller's own.
        Raises:
            StoreError: no index there, or not one of this version. ModelMismatchError: its codes are another model's.
        """
        if model is not None:
            check_model(Path(folder), read_manifest(Path(folder)).model, model.hash)
        return cls(Store.open(Path(folder)), model)

    @property
    def model(self) -> Model:
        """The model that made the codes, from the copy inside the index.

        Raises:
            ModelMismatchError: the copy is not the model that the manifest names.
        """
        if self._model is None:
            from spq.model.model import Model  # torch takes seconds

            loaded = Model.load(self.store.folder / "model")
            check_model(self.store.folder, self.store.manifest.model, loaded.hash)
            self._model = loaded
        return self._model

    def sync(
        self,
        images: str | Path | ImageSet,
        model: Model | None = None,
        progress: Progress | None = None,
        keep_missing: bool = False,
    ) -> SyncReport:
        """Make the index hold exactly the pictures of a collection: idempotent, and safe to be killed at any moment.

        An item of unchanged size and time is not opened. Of the others the bytes are hashed: a known hash keeps its code
        (a renamed, copied or touched file), the rest is encoded. An unreadable picture is tried again when it changes.
        What lies below a folder that cannot be listed is kept as it was, and so is HEIC where nothing opens it any more.

        Args:
            progress: called with (pictures committed, pictures to look at, unreadable ones among the committed).
            keep_missing: keep items whose files have vanished.
        Raises:
            DataError: the collection is empty, as that of a disk that is not mounted; nothing is dropped then.
        """
        source = _opened(images)
        if not len(source):
            raise DataError(
                f"no pictures in {source.name}; nothing was dropped: to drop all, delete {self.store.folder}"
            )
        with self.store.writing():
            report = self._refresh(source, model, progress)
            gone = [] if keep_missing else missing(self.store, source)
            self.store.remove(gone)
            self.store.set_source(_lasting(source.name))
            report.kept += len(self.store) + len(self.store.unreadable()) - len(source)
        # a renamed file is a path gone and a path come with its code: count it once
        report.renamed = min(report.renamed, len(gone))
        report.added, report.removed = report.added - report.renamed, len(gone) - report.renamed
        self._finish(report, source)
        return report

    def add(self, images: str | Path | ImageSet, model: Model | None = None) -> SyncReport:
        """Add or refresh the pictures of a collection and leave all others as they are."""
        source = _opened(images)
        with self.store.writing():
            report = self._refresh(source, model, None)
        report.renamed = 0  # whether the old name is gone was not looked at
        self._finish(report, source)
        return report

    def _finish(self, report: SyncReport, source: ImageSet) -> None:
        report.failed = self.store.unreadable()
        report.unseen = [*source.unlisted, *source.unopened, *report.unseen]
        self.last_sync = report

    def remove(self, paths: Sequence[str]) -> None:
        """Drop items by path.

        Raises:
            StoreError: a path that is not in the index; nothing is dropped then.
        """
        with self.store.writing():
            known = self.store.stats(paths)
            unknown = next((path for path in paths if path not in known), None)
            if unknown is not None:
                raise StoreError(f"{unknown} is not in the index {self.store.folder}; paths are as in `spq search`")
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
        """The `top` most similar pictures, nearest first, ties by id.

        Args:
            query: a picture in any form that `load_image` takes; a descriptor (D,); the id of an item, whose code is then
                all that is known of it; or a list of these. Only a picture needs the model, and torch.
            negative: what the answers shall not be like. `spq.index.query` has the formula of the distance.
            weights: one for each query, then one for each negative; by default 1 and 0.3.
            box: (x, y, width, height) in pixels of the upright picture: search by this region of it.
            where: search among the pictures of which this is true; `spq.index.filter` describes the language.
            max_distance: leave out what is farther.
            fold: one answer for all pictures of the same code, as identical files have; the others are its `folded`. At 16 bits
                many different pictures share a code.
            offset: leave out the first answers. Ranks go on: with offset 20 the first hit has rank 21.
            exclude: ids that are no answers, such as that of the query.
            how: method, threads, nprobe and recall_target, as `How` explains them; exact, if nothing is said.
        Raises:
            ImageError: a query cannot be read.
            StoreError: no such id, or a descriptor of another length.
            ConfigError: an option that cannot be meant, or a method that these codes do not allow.
        """
        asked = Search(top, negative, weights, box, where, max_distance, fold, offset, exclude, how)
        return self._search([query], asked)[0]

    def search_many(self, queries: Sequence[Query | Sequence[Query]], top: int = 20, **options: Any) -> list[list[Hit]]:
        """`search` for several queries at once, with the same options for all."""
        how = How(**{key: options.pop(key) for key in How.__annotations__ if key in options})  # type: ignore[typeddict-item]
        return self._search(queries, Search(top, how=how, **options))

    def _search(self, queries: Sequence[Query | Sequence[Query]], asked: Search) -> list[list[Hit]]:
        if not queries:
            return []
        tables = self.tables(queries, asked)
        stale: Gallery | None = None
        while True:
            found = self.answers(tables, asked, stale)
            wanted = {i for answers in found.answers for _, near in answers for i in near}
            paths = self.store.paths(wanted)
            if len(paths) == len(wanted):  # else a writer has dropped one since the codes were read
                break
            stale = found.gallery
        return [hits(answers, asked.offset, paths) for answers in found.answers]

    def tables(self, queries: Sequence[Query | Sequence[Query]], asked: Search) -> Floats:
        """The distance table of each query (Q, M, K): all that the search itself needs to know of it.

        Raises:
            as `search`.
        """
        self._gallery().scan.check(**asked.how)  # before a model is loaded
        flat, sizes = asked.pictures(queries)
        x = descriptors(flat, self.codebooks, lambda pictures: self.model.embed(pictures), self._decoded)
        return asked.tables(self._tables(x), sizes)

    def answers(self, tables: Floats, asked: Search, stale: Gallery | None = None) -> Found:
        """The answers to tables (Q, M, K) as ids, and what they were found among.

        Args:
            stale: look at codes that are newer than these.
        """
        gallery = self._gallery(stale)
        rows = None if asked.where is None else self._rows(gallery, asked.where)
        available = len(gallery.ids) if rows is None else len(rows)
        return Found(gallery, available, ranked(asked, tables, gallery.scan, gallery.ids, rows))

    def info(self) -> dict[str, Any]:
        """What `spq info` says of an index."""
        manifest = self.store.manifest
        return {
            "kind": "index",
            "images": len(self),
            "unreadable": len(self.store.unreadable()),
            "bits": manifest.bits,
            "bytes_per_image": -(-manifest.bits // 8),
            "distance": manifest.distance,
            "model": manifest.model,
            "source": manifest.source,
            "format": manifest.format,
        }

    def close(self) -> None:
        self.store.close()

    def __len__(self) -> int:
        return len(self.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, gallery: Gallery, where: str) -> NDArray[np.int64]:
        """Rows, ascending, of which an expression is true."""
        return np.flatnonzero(np.isin(gallery.ids, matching(self.store, where)))

    def _gallery(self, stale: Gallery | None = None) -> Gallery:
        """ids and codes in memory, as of the last change that anyone has made: never `stale` ones that have become others."""
        self._loaded = follow(self.store, self._scan, self._loaded)
        return self._loaded

    def _scan(self, codes: NDArray[np.uint8]) -> Scan:
        return Scan(codes, self.store.manifest.codebook_size, self._tables_of)

    def _tables(self, descriptors: Floats) -> Floats:
        return distance_tables(descriptors, self.codebooks, self.store.manifest.distance)

    def _tables_of(self, codes: NDArray[np.uint8]) -> Floats:
        return self._tables(decode(codes, self.codebooks))

    def _decoded(self, item: int) -> Floats:
        gallery = self._gallery()
        row = int(np.searchsorted(gallery.ids, item))
        if row == len(gallery.ids) or gallery.ids[row] != item:
            raise StoreError(
                f"no picture with id {item} in index {self.store.folder}; ids are as in `spq search --json`"
            )
        descriptor: Floats = decode(gallery.scan.code(row)[None], self.codebooks)[0]
        return descriptor

    @property
    def codebooks(self) -> Floats:
        """(M, K, d), from the copy of the model, without loading torch."""
        if self._codebooks is None:
            self._codebooks = (
                self._model.codebooks if self._model else read_codebooks(self.store.folder, self.store.manifest)
            )
        return self._codebooks

    def _refresh(self, source: ImageSet, model: Model | None, progress: Progress | None) -> SyncReport:
        if model:
            check_model(self.store.folder, self.store.manifest.model, model.hash)
            self._model = self._model or model
            if not (self.store.folder / "model" / "config.json").exists():  # written last of the model's files
                model.save(self.store.folder / "model")
        return refresh(self.store, source, lambda: self.model, progress)

    def _take_back(self, existed: bool) -> None:
        """Remove what `build` made and could not fill, unless another process is at it."""
        try:
            with self.store.writing():
                if not len(self):
                    _clear(self.store.folder, existed)
        except StoreError:
            pass  # the other writer's now


def _opened(images: str | Path | ImageSet) -> ImageSet:
    return open_images(images) if isinstance(images, str | Path) else images


def _manifest(model: Model, source: str) -> Manifest:
    q = model.config.quantizer
    return Manifest(FORMAT, __version__, model.hash, q.distance, q.num_codebooks, q.codebook_size, q.bits, source)


def _lasting(name: str) -> str:
    """A path that still leads to the pictures from another working directory; other names as they are."""
    kind, colon, rest = name.partition(":")
    if colon and kind in READERS:
        return f"{kind}:{_lasting(rest)}"
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() or glob.glob(str(path)) else name  # noqa: PTH207 (as open_images does)


def _clear(folder: Path, existed: bool) -> None:
    # in this order, so that one who is killed here leaves an index that can be built again
    (folder / "model" / "config.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not existed:
        folder.rmdir()
