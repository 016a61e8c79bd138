"""`ImageIndex`: a collection's codes in a folder, kept in step with the pictures, and searched by picture."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from spq import __version__
from spq.data.images import ImageInput, load_pixels
from spq.data.sources import ImageSet, open_images
from spq.errors import DataError, ImageError, ModelMismatchError, StoreError
from spq.index.scan import Scan
from spq.index.store import FORMAT, Item, Manifest, Store

if TYPE_CHECKING:
    from spq.model.artifact import Model

BATCH = 256


@dataclass(frozen=True)
class Hit:
    """One answer. distance: in the index's own distance, smaller is more similar."""

    rank: int
    id: int
    path: str
    distance: float


@dataclass
class SyncReport:
    """What a sync did. failed: (path, reason) of every unreadable picture of the collection, old ones included."""

    added: int = 0
    changed: int = 0
    renamed: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


class ImageIndex:
    """An open index. Use as a context manager, or `close()` it."""

    def __init__(self, store: Store, model: Model | None = None) -> None:
        self.store = store
        self._model = model
        self._scan: tuple[NDArray[np.int64], Scan] | None = None
        self._version = -1
        self.last_sync = SyncReport()  # of this object's last sync or add

    @classmethod
    def build(
        cls,
        folder: str | Path,
        model: Model,
        images: str | Path | ImageSet,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Encode a collection into a new index folder, or bring an existing one up to date.

        Raises:
            StoreError: the folder holds something else. ModelMismatchError: its codes are another model's.
            DataError: no picture is readable; nothing is left behind then.
        """
        folder = Path(folder)
        source = open_images(images) if isinstance(images, str | Path) else images
        if (folder / "manifest.json").exists():
            index = cls.open(folder)
            index.sync(source, model, progress)
            return index
        existed = folder.exists()
        index = cls(Store.create(folder, _manifest(model, _lasting(source.name))), model)
        try:
            model.save(folder / "model")
            report = index.sync(source, model, progress)
            if not len(index):
                reason = report.failed[0][1] if report.failed else "it is empty"
                raise DataError(
                    f"none of the {len(source)} pictures in {source.name} is readable, for example: {reason}"
                )
        except (DataError, OSError):
            index.close()
            _clear(folder, existed)
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

            self._model = self._checked(Model.load(self.store.folder / "model"))
        return self._model

    def sync(
        self,
        images: str | Path | ImageSet,
        model: Model | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> SyncReport:
        """Make the index hold exactly the pictures of a collection: idempotent, and safe to be killed at any moment.

        An item of unchanged size and time is not opened. Of the others the bytes are hashed: a known hash keeps its code
        (a renamed, copied or touched file), the rest is encoded. An unreadable picture is tried again when it changes.

        Args:
            progress: called with (pictures looked at, pictures to look at).
        """
        source = open_images(images) if isinstance(images, str | Path) else images
        with self.store.writing():
            known, report = self._refresh(source, model, progress)
            gone = sorted(set(known) - set(source.ids))
            self.store.remove(gone)
        # a renamed file is a path gone and a path come with its code: count it once
        report.renamed = min(report.renamed, len(gone))
        report.added, report.removed = report.added - report.renamed, len(gone) - report.renamed
        report.failed = self.store.unreadable()
        self.last_sync = report
        return report

    def add(self, images: str | Path | ImageSet, model: Model | None = None) -> SyncReport:
        """Add or refresh the pictures of a collection and leave all others as they are."""
        source = open_images(images) if isinstance(images, str | Path) else images
        with self.store.writing():
            _, report = self._refresh(source, model, None)
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
        self._scan = None

    def search(self, query: ImageInput | NDArray[np.float32], top: int = 20) -> list[Hit]:
        """The `top` most similar pictures, nearest first, ties by id.

        Args:
            query: a picture in any form that `load_image` takes, or a descriptor (D,) float32.
        Raises:
            ImageError: the query cannot be read.
        """
        return self.search_many([query], top)[0]

    def search_many(self, queries: Sequence[ImageInput | NDArray[np.float32]], top: int = 20) -> list[list[Hit]]:
        """`search` for several queries at once."""
        if top < 1:
            raise StoreError(f"top {top} asks for nothing; give 1 or more")
        ids, scan = self._gallery()
        tables = self.model.tables(self._descriptors(queries), self.store.manifest.distance)  # type: ignore[arg-type]
        distances, rows = scan.search(tables, top)
        paths = self.store.paths(np.unique(ids[rows]).tolist())
        return [
            [
                Hit(rank, int(i), paths.get(int(i), ""), float(d))
                for rank, (i, d) in enumerate(zip(ids[row], distance, strict=True), 1)
            ]
            for row, distance in zip(rows, distances, strict=True)
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
        """Codes in memory, read anew when another process has written."""
        version = self.store.version()
        if self._scan is None or version != self._version:
            ids, codes = self.store.codes()
            self._scan, self._version = (ids, Scan(codes, self.store.manifest.codebook_size)), version
        return self._scan

    def _descriptors(self, queries: Sequence[ImageInput | NDArray[np.float32]]) -> NDArray[np.float32]:
        dim = self.model.config.quantizer.dim
        given = [isinstance(q, np.ndarray) and q.shape == (dim,) and q.dtype == np.float32 for q in queries]
        out = np.empty((len(queries), dim), np.float32)
        for position, is_descriptor in enumerate(given):
            query: Any = queries[position]
            out[position] = query if is_descriptor else self.model.embed([query])[0]
        return out

    def _checked(self, model: Model) -> Model:
        if model.hash != self.store.manifest.model:
            raise ModelMismatchError(
                f"index {self.store.folder} holds codes of model {self.store.manifest.model}, not of {model.hash}; "
                "codes of two models do not mix: give that model, or a new --out"
            )
        return model

    def _refresh(
        self, source: ImageSet, model: Model | None, progress: Callable[[int, int], None] | None
    ) -> tuple[dict[str, tuple[int, int, bool]], SyncReport]:
        """Bring the items of `source` up to date, batch by batch; what the store knew before, and what was done."""
        model = self._checked(model) if model else None
        known, present, report = self.store.stats(), set(source.ids), SyncReport()
        work = [p for p, path in enumerate(source.ids) if not _unchanged(source, p, known.get(path))]
        report.unchanged = len(source) - len(work)
        self._scan = None
        for start in range(0, len(work), BATCH):
            self._sync_batch(source, work[start : start + BATCH], known, present, report, model)
            if progress:
                progress(min(start + BATCH, len(work)), len(work))
        return known, report

    def _sync_batch(
        self,
        source: ImageSet,
        positions: list[int],
        known: dict[str, tuple[int, int, bool]],
        present: set[str],
        report: SyncReport,
        model: Model | None,
    ) -> None:
        """Hash, look up, encode what is new, and write: one batch, one transaction."""
        items = [_hashed(source, position) for position in positions]
        twins = self.store.items_by_hash(item.hash for item in items if not item.reason)
        fresh = [n for n, item in enumerate(items) if not item.reason and item.hash not in twins]
        for n, item in enumerate(items):
            if twin := twins.get(item.hash):
                items[n] = replace(item, code=twin.code, width=twin.width, height=twin.height)
        if fresh:
            model = model or self.model
            pixels = load_pixels(source, model.config.input.size, positions=[positions[n] for n in fresh])
            slot = {positions[n]: n for n in fresh}
            for position, code, (width, height) in zip(
                pixels.kept.tolist(), model.encode(pixels.array), pixels.full_sizes.tolist(), strict=True
            ):
                items[slot[position]] = replace(items[slot[position]], code=code, width=width, height=height)
            for position, reason in pixels.failures:
                items[slot[position]] = replace(items[slot[position]], reason=reason)
        self.store.put(items)
        for item in items:
            if item.code is not None and item.path in known:
                report.changed += 1
            elif item.code is not None:
                report.added += 1
                report.renamed += item.hash in twins and twins[item.hash].path not in present


def _hashed(source: ImageSet, position: int) -> Item:
    path = source.ids[position]
    try:
        size, mtime_ns = source.stat(position)
        return Item(path, size, mtime_ns, hashlib.blake2b(source.read(position), digest_size=16).digest())
    except ImageError as error:
        return Item(path, -1, -1, reason=str(error))


def _unchanged(source: ImageSet, position: int, known: tuple[int, int, bool] | None) -> bool:
    if known is None:
        return False
    try:
        return source.stat(position) == known[:2]
    except ImageError:
        return False  # vanished since it was listed: looked at again, and recorded as unreadable


def _manifest(model: Model, source: str) -> Manifest:
    q = model.config.quantizer
    return Manifest(FORMAT, __version__, model.hash, q.distance, q.num_codebooks, q.codebook_size, q.bits, source)


def _lasting(name: str) -> str:
    """A path that still leads to the pictures from another working directory; other names as they are."""
    return str(Path(name).absolute()) if Path(name).exists() else name


def _clear(folder: Path, existed: bool) -> None:
    """Take back what `build` made in an empty or new folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not existed:
        folder.rmdir()
