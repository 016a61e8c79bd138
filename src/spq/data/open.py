"""Open any collection of pictures: folder, Parquet, tar, named set, the shipped sample, or what the caller has at hand."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from spq.common.files import check_regular, expanded
from spq.data import folder, multilabel, named
from spq.data.formats import kind_of, starts_as_picture
from spq.data.given import given_images, is_one_picture
from spq.data.image_set import ImageSet, check_image_set
from spq.data.parquet import ParquetImages
from spq.data.rules import Rules, own_folders
from spq.data.several import AbsentImages, SeveralImages, one_for_each_id, only_taken, prefixes_of
from spq.data.source import Source
from spq.data.tar import TarImages
from spq.data.walk import PICTURE
from spq.errors import AbsentError, DataError

NO_MATCH = "this pattern changes nothing; `*` stands for any text, and `a/b` for a path below the collection"


def open_images(
    spec: Any,
    exclude: Sequence[str] | None = None,
    include: Sequence[str] | None = None,
    follow_links: bool | None = None,
    known: Collection[str] | None = None,
) -> ImageSet:
    """Open any collection: by its name or path, or one that the caller has at hand.

    Args:
        spec: a name or path, or several of collections, or a `Source`, as in `open_collections`; a list of paths of pictures; a
            list of PIL images, arrays or tensors; an array or tensor (N, H, W), (N, H, W, 3) or (N, 3, H, W), uint8 or float in
            0..1; a map-style torch `Dataset` with pictures or pairs of picture and label; a Hugging Face `datasets.Dataset`; or
            an `ImageSet`, which is returned.
        exclude, include, follow_links, known: as in `open_collections`; pictures at hand have ids that patterns may match.
    Raises:
        DataError: it does not exist, is empty, is damaged, or is no collection.
    """
    if names_collections(spec):
        return open_collections(spec, exclude, include, follow_links, known)
    images = spec if isinstance(spec, ImageSet) else given_images(spec)
    check_image_set(images)
    if not (exclude or include):
        return images
    rest = only_taken(images, Source((images.name,)).chosen(exclude, include).rules())
    if not len(rest):
        raise DataError(f"the patterns leave no picture of {images.name}; give other patterns")
    return rest


def at_positions(images: Any, size: int) -> Any:
    """Return something whose slices are pictures: a sequence or an array as it is, any other collection opened.

    Args:
        size: the shorter side that is needed of a picture.
    """
    is_text = isinstance(images, str | Path)
    is_sequence = isinstance(images, Sequence) or hasattr(images, "shape")
    is_dataset = isinstance(
        getattr(images, "features", None), Mapping
    )  # of Hugging Face, whose shape is that of a table
    if not is_text and is_sequence and not is_dataset:
        shape = tuple(getattr(images, "shape", ()))
        if shape and is_one_picture(shape):
            raise DataError(f"an array of shape {shape} is one picture; give a list with it")
        return images
    return _Positions(open_images(images), size)


@dataclass(frozen=True)
class _Positions:
    """The pictures of a collection, decoded when a slice asks for them."""

    images: ImageSet
    size: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> list[Image.Image]:
        return [self.images.image(position, self.size) for position in range(*rows.indices(len(self)))]


def names_collections(spec: Any) -> bool:
    """Whether a value names collections, and not pictures: a path, a `Source`, or a list that does not begin with a picture."""
    if isinstance(spec, str | Path | Source):
        return True
    if not isinstance(spec, list | tuple):
        return False
    return not spec or (isinstance(spec[0], str | Path) and not names_picture(spec[0]))


def names_picture(name: str | Path) -> bool:
    """Whether a path is that of a picture, by its suffix or by how the file begins."""
    path = Path(name)
    return not path.is_dir() and (kind_of(path.name) == PICTURE or starts_as_picture(path))


def open_collections(
    spec: str | Path | Sequence[str | Path] | Source,
    exclude: Sequence[str] | None = None,
    include: Sequence[str] | None = None,
    follow_links: bool | None = None,
    known: Collection[str] | None = None,
) -> ImageSet:
    """Open a collection by its name or path, or several as one.

    `photos/`, `*.parquet`, `*.tar`, `cifar10:train|test`, `fashion-mnist:train|test`, `sample:train|test`,
    `mirflickr:FOLDER`, `nuswide:FOLDER`. A pattern such as `20*` may name several folders.

    Args:
        spec: a name or path; several of them; or the `source` of a collection, with its patterns. Of several, those that a
            source names may be missing, as long as one is there.
        exclude: patterns of pictures and folders to leave out; `Source` explains them.
        include: patterns of pictures and folders to take; by default all.
        follow_links: list also folders that are linked.
        known: names of a source that may be missing, if not all of them.
    Raises:
        DataError: it does not exist, is empty or is damaged.
    """
    if isinstance(spec, Source):
        source = spec
    else:
        names = [spec] if isinstance(spec, str | Path) else spec
        source = Source(tuple(found for name in names for found in folders_of(os.fspath(name))))
    source = source.chosen(exclude, include, follow_links)
    if not source.names:
        raise DataError("no collection given; give a folder of pictures")
    may_miss = set(source.names if known is None and isinstance(spec, Source) else known or ())
    hits: set[str] = set()
    opened = [
        _open_known(name, source.rules(prefix, hits), name in may_miss and len(source.names) > 1)
        for name, prefix in zip(source.names, prefixes_of(source), strict=True)
    ]
    images = opened[0]
    if isinstance(images, AbsentImages) and all(isinstance(other, AbsentImages) for other in opened):
        raise AbsentError(f"none of the {len(opened)} collections is there, first {images.name}: {images.reason}")
    if len(opened) > 1 or source.prefixes:
        images = one_for_each_id(SeveralImages(source, opened))
    if not len(images):
        raise DataError(f"{_named(source)} leaves no picture of {images.name}; give other patterns")
    images.source = source
    given = [*(source.exclude if exclude else ()), *(source.include if include else ())]
    idle = [] if any(isinstance(each, AbsentImages) for each in opened) else [p for p in given if p not in hits]
    remarks = [(images.name if path == "." else path, remark) for path, remark in images.remarks]
    images.remarks = [*remarks, *((pattern, NO_MATCH) for pattern in idle)]
    return images


def _named(source: Source) -> str:
    """The patterns of a source, for an error."""
    both = (("`exclude`", source.exclude), ("`include`", source.include))
    return " with ".join(f"{name} {', '.join(patterns)}" for name, patterns in both if patterns)


def folders_of(text: str) -> list[str]:
    """Return the folders that a pattern such as `20*` names, without those of spq; else the name itself.

    >>> folders_of("sample:test")
    ['sample:test']
    """
    path = expanded(text)
    if path.exists() or not glob.has_magic(text):
        return [text]
    found = [name for name in sorted(glob.glob(str(path))) if Path(name).is_dir()]  # noqa: PTH207 (no absolute patterns there)
    return [name for name in found if own_folders(set(os.listdir(name))) == ()] or [text]  # noqa: PTH208 (names alone)


def _open_known(name: str, rules: Rules, may_miss: bool) -> ImageSet:
    try:
        return _open(name, rules)
    except DataError as error:  # a file in the place of a folder is no reason to leave the others as they are
        if not may_miss:
            raise
        return AbsentImages(name, error)


def _open(text: str, rules: Rules) -> ImageSet:
    kind, _, rest = text.partition(":")
    if kind in named.SETS and rest:
        return only_taken(named.open_named(kind, rest), rules)
    if kind in multilabel.READERS and rest:
        return only_taken(multilabel.READERS[kind](expanded(rest)), rules)
    path = expanded(text)
    files = [path] if path.exists() else [Path(found) for found in sorted(glob.glob(str(path)))]  # noqa: PTH207 (no absolute patterns there)
    if files and not files[0].exists():
        raise AbsentError(f"{text} is a link that leads nowhere; check what it links to")
    if not files and kind in named.SETS:
        raise DataError(f"{text} needs a part; use {kind}:train or {kind}:test")
    if not files:
        raise AbsentError(f"no such folder or file: {text}; check the path (you are in {Path.cwd()})")
    if len(files) == 1 and files[0].is_dir():
        return folder.FolderImages(text, files[0], rules)
    suffixes = {file.suffix.lower() for file in files}
    if suffixes in ({".parquet"}, {".tar"}):
        for file in files:
            _check_file(text, file)
        return only_taken((TarImages if suffixes == {".tar"} else ParquetImages)(text, files), rules)
    if kind_of(files[0].name):
        raise DataError(f"{text} is a single picture; give the folder that it is in")
    raise DataError(f"{text} is not a folder, Parquet file, tar or named set; give one of those")


def _check_file(text: str, file: Path) -> None:
    """Refuse what is no file: a pipe could be waited for without end."""
    try:
        check_regular(file)
    except ValueError as error:
        raise DataError(f"{text}: {file.name}: {error}; copy what it gives into a file") from None
    except OSError as error:
        raise DataError(f"{text}: {file.name} cannot be read: {error.strerror}; check it") from None
