"""Build an index folder from a collection, or bring an existing one up to date."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spq import __version__
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import ConfigError, DataError, SPQError, StoreError
from spq.index.codebooks import check_model
from spq.index.format import has_index, locked
from spq.index.manifest import FORMAT, Manifest, read_manifest, refuse_shards
from spq.index.model_copy import ModelCopy
from spq.index.recode import prepare_recoding
from spq.index.replacing import finish_replacing, replace_index
from spq.index.shards.open_store import open_store
from spq.index.store import Store
from spq.index.sync import Progress, SyncOptions, SyncReport, lasting_source, sync

if TYPE_CHECKING:
    from spq.model.model import Model


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        keep_missing, remove_missing, replace, rehash: as in `SyncOptions`.
        wait: seconds to wait while another process writes to the index.
        bits: one of the model's lengths; by default that of an existing index, or the longest.
        replace_model: give an index that holds codes of another model the codes of this one, instead of refusing.
    """

    keep_missing: bool = False
    wait: float = 0
    bits: int | None = None
    replace_model: bool = False
    remove_missing: bool = False
    replace: bool = False
    rehash: bool = False

    @property
    def sync(self) -> SyncOptions:
        return SyncOptions(self.keep_missing, self.remove_missing, self.replace, self.rehash)


class Built(NamedTuple):
    """An open store, which the caller closes, its model, and what the sync did."""

    store: Store
    model_copy: ModelCopy
    report: SyncReport


def build(
    folder: Path,
    model: Model,
    images: Any,
    progress: Progress | None = None,
    options: BuildOptions | None = None,
) -> Built:
    """Encode a collection into an index folder. `ImageIndex.build` lists the errors."""
    options = options or BuildOptions()
    finish_replacing(folder)
    source, is_new, existed = as_image_set(images), not has_index(folder), folder.exists()
    model = _at_length(folder, model, options.bits, is_new)
    if not is_new and read_manifest(folder).model != model.hash:
        if options.replace_model:
            refuse_shards(folder)
            return _recode(folder.resolve(), model, source, progress, options)
        check_model(folder, read_manifest(folder).model, model.hash)  # raises
    manifest = manifest_of(model, lasting_source(source))
    store = Store.create(folder, manifest, options.wait) if is_new else open_store(folder, options.wait)
    copy = ModelCopy(folder, store.manifest, model)
    try:
        report = sync(store, copy, source, progress, options.sync)
        if is_new and not len(store):
            reason = report.failed[0][1] if report.failed else "it is empty"
            raise DataError(f"none of the {len(source)} pictures in {source.name} is readable, for example: {reason}")
    except (SPQError, OSError):
        if is_new:
            _remove_empty(store, existed)
        store.close()
        raise
    return Built(store, copy, report)


def update_index(
    folder: Path, images: Any, progress: Progress | None = None, options: BuildOptions | None = None
) -> Built:
    """Bring an existing index up to date with its own copy of the model, which is loaded only if a picture is new.

    Raises:
        StoreError: there is no index. ConfigError: `options.bits` is another length than that of the index.
    """
    options = options or BuildOptions()
    finish_replacing(folder)
    manifest = read_manifest(folder)
    if options.bits not in (None, manifest.bits):
        raise ConfigError(f"index {folder} has codes of {manifest.bits} bits; omit `bits`, or make a new index")
    store = open_store(folder, options.wait)
    copy = ModelCopy(folder, manifest)
    try:
        return Built(store, copy, sync(store, copy, as_image_set(images), progress, options.sync))
    except (SPQError, OSError, KeyboardInterrupt):
        store.close()
        raise


def as_image_set(images: Any) -> ImageSet:
    """A collection that can be indexed, opened if it is not yet.

    Raises:
        DataError: an image set of the caller without `stat`.
    """
    found = open_images(images)
    if type(found).stat is ImageSet.stat:
        found.stat(0)  # raises
    return found


def _at_length(folder: Path, model: Model, bits: int | None, is_new: bool) -> Model:
    """The model at the code length of the index, if it has that one."""
    if bits is None and not is_new and (length := read_manifest(folder).bits) in model.config.quantizer.lengths:
        bits = length
    return model.truncate(bits)


def _recode(folder: Path, model: Model, source: ImageSet, progress: Progress | None, options: BuildOptions) -> Built:
    """Make an index of another model beside the old one, and replace the old one when it is complete."""
    with locked(folder, options.wait):
        before = read_manifest(folder)
        fresh = prepare_recoding(
            folder, model, replace(manifest_of(model, before.origin), mounts=before.mounts, decoder=before.decoder)
        )
        built = build(fresh, model, source, progress, options)
        built.store.close()
        replace_index(folder, fresh)
    store = Store.open(folder, options.wait)
    built.report.recoded = max(0, built.report.unchanged - len(built.report.failed))
    return Built(store, ModelCopy(folder, store.manifest, model), built.report)


def manifest_of(model: Model, origin: Source) -> Manifest:
    """The manifest of a new index."""
    q = model.config.quantizer
    manifest = Manifest(FORMAT, __version__, model.hash, q.distance, q.num_codebooks, q.codebook_size, q.bits)
    return replace(manifest, quantizer="" if q.kind == "product" else q.kind).with_origin(origin)


def _remove_empty(store: Store, existed: bool) -> None:
    """Remove a new index that nothing could be written to, unless another process writes to it."""
    try:
        with store.writing():
            if not len(store):
                _clear(store.folder, existed)
    except StoreError:
        pass  # the other process owns it now


def _clear(folder: Path, existed: bool) -> None:
    # in this order: if this is interrupted, the index can be built again
    (folder / "model" / "config.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not existed:
        folder.rmdir()
