"""Open any collection of pictures by its name or path: folder, Parquet, tar, named set or the shipped sample."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from spq.common.files import expanded
from spq.data import containers, folder, multilabel, named
from spq.data.image_set import ImageSet
from spq.data.several import SeveralImages, without_excluded
from spq.data.source import Source
from spq.errors import DataError


def open_images(spec: str | Path | Sequence[str | Path] | Source, exclude: Sequence[str] = ()) -> ImageSet:
    """Open a collection by its name or path, or several as one.

    `photos/`, `*.parquet`, `*.tar`, `cifar10:train|test`, `fashion-mnist:train|test`, `sample:train|test`,
    `mirflickr:FOLDER`, `nuswide:FOLDER`.

    Args:
        spec: a name or path; several of them; or the `source` of a collection, with its patterns.
        exclude: patterns of pictures and folders to leave out; `Source` explains them.
    Raises:
        DataError: it does not exist, is empty or is damaged.
    """
    names = [spec] if isinstance(spec, str | Path) else spec.names if isinstance(spec, Source) else spec
    texts = [os.fspath(name) for name in names]
    if not texts:
        raise DataError("no collection given; give a folder of pictures")
    images = _open(texts[0]) if len(texts) == 1 else SeveralImages(texts, [_open(text) for text in texts])
    return without_excluded(images, exclude or (spec.exclude if isinstance(spec, Source) else ()))


def _open(text: str) -> ImageSet:
    kind, _, rest = text.partition(":")
    if kind in named.SETS and rest:
        return named.open_named(kind, rest)
    if kind in multilabel.READERS and rest:
        return multilabel.READERS[kind](expanded(rest))
    path = expanded(text)
    files = [path] if path.exists() else [Path(found) for found in sorted(glob.glob(str(path)))]  # noqa: PTH207 (no absolute patterns there)
    if not files and kind in named.SETS:
        raise DataError(f"{text} needs a part; use {kind}:train or {kind}:test")
    if not files:
        raise DataError(f"no such folder or file: {text}; check the path (you are in {Path.cwd()})")
    if len(files) == 1 and files[0].is_dir():
        return folder.FolderImages(text, files[0])
    suffixes = {file.suffix.lower() for file in files}
    if suffixes == {".parquet"}:
        return containers.ParquetImages(text, files)
    if suffixes == {".tar"}:
        return containers.TarImages(text, files)
    raise DataError(f"{text} is not a folder, Parquet file, tar or named set; give one of those")
