"""`ImageIndex`: a collection's codes in a folder, kept in step with the pictures, and searched by picture."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from spq import __version__
from spq.data.images import ImageInput
from spq.data.sources import ImageSet, open_images
from spq.errors import DataError, SPQError, StoreError
from spq.index.scan import How, Scan
from spq.index.store import FORMAT, Manifest, Store, read_manifest
from spq.index.sync import Progress, SyncReport, refresh
from spq.index.tables import check_model, decode, distance_tables, read_codebooks

if TYPE_CHECKING:
    from spq.model.artifact import Model

__all__ = ["Hit", "ImageIndex", "SyncReport"]
Floats = NDArray[np.float32]
Query: TypeAlias = "ImageInput | Floats | int"  # a picture, a descriptor (D,), or the id of an item


@dataclass(frozen=True)
class Hit:
    """One answer. distance: in the index's own distance, smaller is more similar."""

    rank: int
    id: int
    path: str
    distance: float


class ImageIndex:
    """An open index. Use as a context manager, or `close()` it."""

    def __init__(self, store: Store, model: Model | None = None) -> None:
        self.store = store
        self._model = model
        self._codebooks: Floats | None = None
        self._loaded: tuple[int, NDArray[np.int64], Scan] | None = None  # version of the store, ids, codes
        self.last_sync = SyncReport()  # of this object's last sync or add

    @classmethod
    def build(
        cls,
        folder: str | Path,
        model: Model,
        images: str | Path | ImageSet,
        progress: Progress | None = None,
    ) -> Self:
        """Encode a collection into a new index folder, or bring an existing one up to date.

        Raises:
            StoreError: the folder holds something else. ModelMismatchError: its codes are another model's.
            DataError: no picture is readable; nothing is left behind then.
        """
        folder = Path(folder)
        source = _opened(images)
        is_new = not (folder / "manifest.json").exists()
        if not is_new:
            check_model(folder, read_manifest(folder).model, model.hash)
        existed = folder.exists()
        index = cls(Store.create(folder, _manifest(model, _lasting(source.name))), model)
        try:
            report = index.sync(source, model, progress)
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
    def open(cls, folder: str | Path) -> Self:
        """An index that is there. Neither torch nor the model is loaded before a picture is to be encoded.

        Raises:
            StoreError: no index there, or not one of this version.
        """
        return cls(Store.open(Path(folder)))

    @property
    def model(self) -> Model:
        """The model that made the codes, from the copy inside the index.

        Raises:
            ModelMismatchError: the copy is not the model that the manifest names.
        """
        if self._model is None:
            from spq.model.artifact import Model  # torch takes seconds

            loaded = Model.load(self.store.folder / "model")
            check_model(self.store.folder, self.store.manifest.model, loaded.hash)
            self._model = loaded
        return self._model

    def sync(
        self,
        images: str | Path | ImageSet,
        model: Model | None = None,
        progress: Progress | None = None,
    ) -> SyncReport:
        """Make the index hold exactly the pictures of a collection: idempotent, and safe to be killed at any moment.

        An item of unchanged size and time is not opened. Of the others the bytes are hashed: a known hash keeps its code
        (a renamed, copied or touched file), the rest is encoded. An unreadable picture is tried again when it changes.

        Args:
            progress: called with (pictures looked at, pictures to look at).
        """
        source = _opened(images)
        with self.store.writing():
            report = self._refresh(source, model, progress)
            gone = sorted(set(self.store.stats()) - set(source.ids))
            self.store.remove(gone)
            self.store.set_source(_lasting(source.name))
        # a renamed file is a path gone and a path come with its code: count it once
        report.renamed = min(report.renamed, len(gone))
        report.added, report.removed = report.added - report.renamed, len(gone) - report.renamed
        report.failed = self.store.unreadable()
        self.last_sync = report
        return report

    def add(self, images: str | Path | ImageSet, model: Model | None = None) -> SyncReport:
        """Add or refresh the pictures of a collection and leave all others as they are."""
        source = _opened(images)
        with self.store.writing():
            report = self._refresh(source, model, None)
        report.renamed = 0  # whether the old name is gone was not looked at
        report.failed = self.store.unreadable()
        self.last_sync = report
        return report

    def remove(self, paths: Sequence[str]) -> None:
        """Drop items by path.

        Raises:
            StoreError: a path that is not in the index; nothing is dropped then.
        """
        with self.store.writing():
            known = self.store.stats()
            unknown = next((path for path in paths if path not in known), None)
            if unknown is not None:
                raise StoreError(f"{unknown} is not in the index {self.store.folder}; paths are as in `spq search`")
            self.store.remove(paths)

    def search(self, query: Query, top: int = 20, **how: Unpack[How]) -> list[Hit]:
        """The `top` most similar pictures, nearest first, ties by id.

        Args:
            query: a picture in any form that `load_image` takes; a descriptor (D,); or the id of an item, whose code is
                then all that is known of it. Only a picture needs the model, and torch.
            how: method, threads, nprobe and recall_target, as `How` explains them; exact, if nothing is said.
        Raises:
            ImageError: the query cannot be read.
            StoreError: no such id, or a descriptor of another length.
            ConfigError: a method that these codes do not allow, or options that contradict each other.
        """
        return self.search_many([query], top, **how)[0]

    def search_many(self, queries: Sequence[Query], top: int = 20, **how: Unpack[How]) -> list[list[Hit]]:
        """`search` for several queries at once."""
        if top < 1:
            raise StoreError(f"top {top} asks for nothing; give 1 or more")
        if not queries:
            return []
        self._gallery()[1].check(**how)  # before a model is loaded
        tables = self._tables(self._descriptors(queries))
        while True:
            ids, scan = self._gallery()
            distances, rows = scan.search(tables, top, **how)
            wanted = np.unique(ids[rows])
            paths = self.store.paths(wanted.tolist())
            if len(paths) == len(wanted):  # else a writer has dropped one since the codes were read
                break
        return [
            [
                Hit(rank, i, paths[i], d)
                for rank, (i, d) in enumerate(zip(ids[row].tolist(), near.tolist(), strict=True), 1)
            ]
            for row, near in zip(rows, distances, strict=True)
        ]

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

    def _gallery(self) -> tuple[NDArray[np.int64], Scan]:
        """ids (N,) and codes in memory, read anew when anyone has written."""
        version = self.store.version()
        if self._loaded is None or self._loaded[0] != version:
            ids, codes = self.store.codes()
            self._loaded = version, ids, Scan(codes, self.store.manifest.codebook_size, self._tables_of)
        return self._loaded[1:]

    def _tables(self, descriptors: Floats) -> Floats:
        return distance_tables(descriptors, self._codewords(), self.store.manifest.distance)

    def _tables_of(self, codes: NDArray[np.uint8]) -> Floats:
        return self._tables(decode(codes, self._codewords()))

    def _descriptors(self, queries: Sequence[Query]) -> Floats:
        """(Q, D): what was given, embedded, or put together from the codewords of an item."""
        dim = self.store.manifest.num_codebooks * self._codewords().shape[2]
        out = np.empty((len(queries), dim), np.float32)
        pictures: dict[int, ImageInput] = {}
        for position, query in enumerate(queries):
            if isinstance(query, int | np.integer):
                out[position] = self._decoded(int(query))
            elif isinstance(query, np.ndarray) and query.ndim == 1:
                if query.shape != (dim,):
                    raise StoreError(f"a descriptor of {len(query)} numbers cannot be searched; this index wants {dim}")
                out[position] = query
            else:
                pictures[position] = query
        if pictures:
            out[list(pictures)] = self.model.embed(list(pictures.values()))
        return out

    def _decoded(self, item: int) -> Floats:
        ids, scan = self._gallery()
        row = int(np.searchsorted(ids, item))
        if row == len(ids) or ids[row] != item:
            raise StoreError(
                f"no picture with id {item} in index {self.store.folder}; ids are as in `spq search --json`"
            )
        descriptor: Floats = decode(scan.code(row)[None], self._codewords())[0]
        return descriptor

    def _codewords(self) -> Floats:
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
    return str(Path(name).absolute()) if Path(name).exists() else name


def _clear(folder: Path, existed: bool) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not existed:
        folder.rmdir()
