"""Features of a frozen backbone, computed once and kept on disk: of each whole picture and of some random views of it.

All that affects the features is part of their key: the bytes of the pictures, weights and structure of the backbone, input,
views and precision. A picture always has the same views, so trainings with other seeds and code lengths share them. A cached
file is used only if the features of its first pictures come out the same again. So changed code of a backbone or a decoder is
noticed too. A stopped computation continues where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spq.common.files import remove_stale
from spq.common.locks import held
from spq.common.parallel import cores, map_in_order, slices
from spq.config import InputConfig, Recipe, to_dict
from spq.data.decode import Pixels, decoder_version, load_pixels, to_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError, ImageError, ModelError
from spq.model.feature_store import (
    FeatureStore,
    Known,
    cache_folder,
    cache_limit,
    features_key,
    hash_of,
    make_room,
    weights_digest,
)
from spq.model.model import normalise
from spq.training.out_folder import check_room
from spq.training.own_views import Views, call_views
from spq.training.pixel_memory import larger_side
from spq.training.view_file import ViewFile
from spq.training.views import make_views

FORMAT = 2  # 1 had no checksums
CHUNK = 256  # pictures decoded, described and written at a time: at 224 pixels 39 MB
WHOLE = 20  # whole pictures that a worker decodes and describes at a time
PROBES = 4  # pictures whose features are computed again before a cached file is used
Progress = Callable[[int], None]
Note = Callable[[str], None]
Cut = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Features:
    """Features of the readable pictures of a collection.

    Attributes:
        array: (N, 1 + V, F) float32, first of the whole picture, then of V views of it.
        kept: (N,) positions of the readable pictures. failures: (position, reason) of the others.
        fingerprint: the key of the file. pictures: a hash of the pictures only.
        cached: whether all features were on disk already.
    """

    array: NDArray[np.float32]
    kept: NDArray[np.int64]
    failures: list[tuple[int, str]]
    fingerprint: str
    pictures: str
    cached: bool


def whole_features(
    images: ImageSet,
    extractor: FeatureExtractor,
    feature_dim: int,
    progress: Progress | None,
    folder: Path | None,
    note: Note | None = None,
) -> Features:
    """Return the features of whole pictures, those that the cache has and those that are computed now.

    Each worker reads, decodes and describes a share of the pictures, as in `spq.index.encode`. What was computed is kept if
    this is stopped. The arguments are those of `cached_features`.
    """
    recipe, count = extractor.recipe, len(images)
    extractor.backbone.eval()
    key = features_key(extractor.backbone, recipe.input, recipe.train.channels_last, extractor.precision)
    work = _Whole(images, extractor, FeatureStore(key, folder), threading.Event())
    array, digests = np.zeros((count, 1, feature_dim), np.float32), hashlib.sha256()
    failures: list[tuple[int, str]] = []
    workers = torch.get_num_threads() if extractor.device.type == "cpu" else cores()
    parts = map_in_order(work.describe, slices(count, WHOLE), workers, work.stopped, lambda: torch.set_num_threads(1))
    new, threads = 0, torch.get_num_threads()
    try:
        with closing(parts):
            for rows, part in zip(slices(count, WHOLE), parts, strict=True):
                new += part.new
                failures += part.failures
                digests.update(part.digests)
                if len(part.features):
                    array[part.kept, 0] = part.features
                if progress:
                    progress(rows.stop)
    finally:
        torch.set_num_threads(threads)  # each worker has set it for the whole process
    if work.store.damaged and note:
        note(f"cached features are damaged; they were computed again: {work.store.file}")
    kept = np.setdiff1d(np.arange(count), [position for position, _ in failures])
    return Features(array[kept] if failures else array, kept, failures, key, digests.hexdigest(), not new)


def cached_features(
    images: ImageSet,
    extractor: FeatureExtractor,
    feature_dim: int,
    progress: Progress | None = None,
    folder: Path | None = None,
    note: Note | None = None,
) -> Features:
    """Return the features of all pictures and of `train.cached_views` views of each, from the cache or computed now.

    Without views, these are `whole_features`.

    Args:
        extractor: its backbone is set to evaluation mode, as in search.
        feature_dim: F of the backbone.
        progress: called with the number of pictures done. folder: by default `cache_folder()`.
        note: called with a line about cached features that are damaged.
    Raises:
        ConfigError: more than the cache may hold. ModelError: the features are not finite.
    """
    compute = view_features if extractor.recipe.train.cached_views else whole_features
    return compute(images, extractor, feature_dim, progress, folder, note)


def view_features(
    images: ImageSet,
    extractor: FeatureExtractor,
    feature_dim: int,
    progress: Progress | None,
    folder: Path | None,
    note: Note | None = None,
) -> Features:
    """Return the features of pictures and of random views of each. The arguments are those of `cached_features`."""
    folder = folder or cache_folder()
    extractor = replace(extractor, large=larger_side(images, extractor.recipe.input.size))
    shape = (len(images), 1 + extractor.recipe.train.cached_views, feature_dim)
    check_cache_room(shape)
    folder.mkdir(parents=True, exist_ok=True)
    extractor.backbone.eval()
    pictures = pictures_hash(images)
    key = _key(pictures, extractor)
    file = folder / f"{key}.npy"
    with held(folder / f"{key}.lock", wait=math.inf):  # one process computes, a second one waits and finds it complete
        remove_stale(folder, f"{key}.json")
        views = _open(file, shape)
        job = _Job(images, extractor, views)
        if views.done and not job.is_unchanged():
            views.restart()
        if views.damage and note:
            note(f"cached features are damaged ({views.damage}); they are computed again: {file}")
        if cached := views.done == len(images):
            if progress:
                progress(len(images))
        else:
            needed = 4 * math.prod(shape)
            make_room(folder, needed, keep=key)
            there = file.stat().st_size if file.exists() else 0
            check_room(folder, needed - there, "features of the pictures", "set SPQ_CACHE to a folder on another disk")
            job.fill(progress)
        os.utime(file)  # the least recently used go first
    array, failures = views.array, views.failures
    kept = np.setdiff1d(np.arange(len(images)), [position for position, _ in failures])
    return Features(array if len(kept) == len(images) else array[kept], kept, failures, key, pictures, cached)


def _open(file: Path, shape: tuple[int, int, int]) -> ViewFile:
    try:
        return ViewFile.open(file, shape)
    except IsADirectoryError as error:
        raise ConfigError(f"{error.filename} is a folder in the place of cached features; delete it") from None


@dataclass(frozen=True)
class _Part:
    """Features (n, F) of the pictures at `kept` (n,), reasons of the others, and how many features are new."""

    features: NDArray[np.float32]
    kept: list[int]
    failures: list[tuple[int, str]]
    digests: bytes
    new: int


@dataclass(frozen=True)
class _Whole:
    """The work on whole pictures, for several threads."""

    images: ImageSet
    extractor: FeatureExtractor
    store: FeatureStore
    stopped: threading.Event

    def describe(self, rows: slice) -> _Part:
        """Read pictures, and compute the features that the store does not have."""
        size = self.extractor.recipe.input.size
        pixels = np.empty((rows.stop - rows.start, 3, size, size), np.uint8)
        found: dict[int, Known] = {}
        new: list[tuple[int, bytes, tuple[int, int]]] = []
        failures: list[tuple[int, str]] = []
        digests = b""
        for position in range(rows.start, rows.stop):
            if self.stopped.is_set():
                raise CancelledError
            try:
                data = self.images.read(position)
                digests += (digest := hash_of(data))
                if known := self.store.get(digest):
                    found[position] = known
                    continue
                image = self.images.decode(position, data, size)
            except ImageError as error:
                digests += str(error).encode()
                failures.append((position, str(error)))
                continue
            pixels[len(new)] = to_pixels(image, size)
            new.append((position, digest, image.info.get("full_size", image.size)))
        features = self.extractor.describe(pixels[: len(new)], 0, 0)[:, 0]
        described = [Known(x, *sizes) for x, (_, _, sizes) in zip(features, new, strict=True)]
        self.store.put((digest, known) for (_, digest, _), known in zip(new, described, strict=True))
        found |= {position: known for (position, _, _), known in zip(new, described, strict=True)}
        return _Part(np.array([known.feature for known in found.values()]), list(found), failures, digests, len(new))


@dataclass(frozen=True)
class FeatureExtractor:
    """Computes features of pictures and of random views of them.

    Attributes:
        recipe: its input, views and memory layout count.
        backbone: in evaluation mode, on the device to compute on.
        precision: fp32 or bf16.
        view_input: the input at the size of the views; by default the recipe's input.
        large: side of the pictures that views are cut from; 0: the input's.
        own_views: those of the caller, instead of the recipe's.
    """

    recipe: Recipe
    backbone: nn.Module
    precision: str = "fp32"
    view_input: InputConfig | None = None
    large: int = 0
    own_views: Views | None = None

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.backbone.parameters()), torch.device("cpu"))

    def describe(self, pixels: NDArray[np.uint8], views: int, seed: int, cut: Cut | None = None) -> NDArray[np.float32]:
        """Compute features (n, 1 + views, F) of pictures (n, 3, S, S) and of random views of each.

        Args:
            cut: the same pictures larger (n, 3, C, C), and their width and height as stored (n, 2); views are cut from these.
        """
        recipe, bf16 = self.recipe, self.precision == "bf16"
        device = self.device
        layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
        generator = torch.Generator(device).manual_seed(seed)
        parts = []
        step = max(8, 2**19 // recipe.input.size**2)  # pictures: what a CPU's caches hold
        for start in range(0, len(pixels), step):
            batch = torch.from_numpy(pixels[start : start + step]).to(device)
            shown, frame = [normalise(batch, recipe.input)], None
            if cut:
                batch = torch.from_numpy(cut[0][start : start + step]).to(device)
                frame = torch.from_numpy(np.ascontiguousarray(cut[1][start : start + step, ::-1])).to(device)
            view_input = self.view_input or recipe.input
            if self.own_views:
                shown += [call_views(self.own_views, batch, generator, recipe.input) for _ in range(views)]
            else:
                shown += [make_views(batch, recipe.views, view_input, generator, frame=frame) for _ in range(views)]
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                columns = [self.backbone(images.contiguous(memory_format=layout)).float() for images in shown]
            parts.append(torch.stack(columns, 1).cpu().numpy())
            if not np.isfinite(parts[-1]).all():
                raise ModelError("features of the backbone are not finite; use other weights, or `precision` fp32")
        return np.concatenate(parts) if parts else np.empty((0, 1 + views, 0), np.float32)

    def describe_positions(
        self, images: ImageSet, positions: Sequence[int], views: int
    ) -> tuple[Pixels, NDArray[np.float32]]:
        """Decode pictures; return their pixels, and features (n, 1 + views, F) of those that are readable."""
        pixels = load_pixels(images, self.recipe.input.size, positions=positions, large=self.large if views else 0)
        cut = None if pixels.large is None else (pixels.large, pixels.full_sizes)
        return pixels, self.describe(pixels.array, views, positions[0], cut)


@dataclass(frozen=True)
class _Job:
    """A feature file that is being computed."""

    images: ImageSet
    extractor: FeatureExtractor
    views: ViewFile

    def fill(self, progress: Progress | None) -> None:
        """Compute part after part."""
        views, array = self.views, self.views.reserve()
        while views.done < len(self.images):
            positions = range(views.done, min(views.done + CHUNK, len(self.images)))
            pixels, features = self.extractor.describe_positions(self.images, positions, views.shape[1] - 1)
            if len(features):
                array[pixels.kept] = features
            views.add(array, positions.stop, pixels.failures)
            if progress:
                progress(views.done)

    def is_unchanged(self) -> bool:
        """Whether its first pictures have the same features now."""
        bad = {position for position, _ in self.views.failures}
        probes = [position for position in range(self.views.done) if position not in bad][:PROBES]
        if not probes:
            return True
        pixels, now = self.extractor.describe_positions(self.images, probes, 0)
        before = self.views.array[pixels.kept, 0]
        if not len(now):
            return False
        scale = np.abs(now).mean()
        return bool(np.abs(now[:, 0] - before).mean() <= 0.01 * scale)  # other thread counts change the last digits


def pictures_hash(images: ImageSet) -> str:
    digest = hashlib.sha256()
    for position in range(len(images)):
        try:
            digest.update(hashlib.sha256(images.read(position)).digest())
        except ImageError as error:  # it is counted later
            digest.update(str(error).encode())
    return digest.hexdigest()


def _key(pictures: str, extractor: FeatureExtractor) -> str:
    recipe, backbone, precision = extractor.recipe, extractor.backbone, extractor.precision
    digest = hashlib.sha256(pictures.encode() + weights_digest(backbone))
    settings = {
        "format": FORMAT,
        "network": repr(backbone),
        "input": to_dict(recipe.input),
        "views": to_dict(recipe.views),
        "train": [recipe.train.cached_views, 0, recipe.train.channels_last, precision],  # 0: the seed of the views
        **({"large": extractor.large} if extractor.large else {}),
        "decoder": decoder_version(),  # a file says which pictures are unreadable
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:24]


def check_cache_room(shape: tuple[int, int, int]) -> None:
    needed = 4 * math.prod(shape) / 1e9
    if needed * 1e9 > cache_limit():
        raise ConfigError(
            f"features of {shape[0]:,} pictures x {shape[1]} views take {needed:.1f} GB, but the cache is limited to "
            f"{cache_limit() / 1e9:g} GB; lower train.cached_views, or raise SPQ_CACHE_GB"
        )
