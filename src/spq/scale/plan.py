"""List a source, and split it into input shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from spq.common.parallel import batches
from spq.common.text import name_to_id
from spq.data.formats import kind_of
from spq.data.open import open_images
from spq.data.rules import Rules, is_side, own_folders
from spq.data.several import prefixes
from spq.data.source import Source
from spq.data.walk import ALL, PICTURE
from spq.errors import ConfigError, DataError
from spq.index.sync import lasting_source
from spq.scale.inputs import (
    CONTAINERS,
    ContainerFile,
    Input,
    PictureList,
    PictureRange,
    Remote,
    facts_of,
    list_bytes,
    list_name,
    range_digest,
)
from spq.scale.urls import filesystem, is_url, reaching

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from spq.scale.urls import Place


def plan(source: Source, shard_size: int, place: Place) -> tuple[Source, list[Input]]:
    """Split a source into input shards of at most `shard_size` pictures; a tar or Parquet file at a URL is always one shard.

    Lists of pictures are written to the job's place.

    Returns:
        the source with names that mean the same everywhere, and the input shards in their order.
    Raises:
        DataError: it is not there, or has no pictures. ConfigError: URLs and local names are mixed.
    """
    remote = [name for name in source.names if is_url(name)]
    if not remote:
        images = open_images(source, known=())
        ends = range(0, len(images), shard_size)
        parts = (range(start, min(start + shard_size, len(images))) for start in ends)
        return lasting_source(images), [PictureRange(p.start, p.stop, range_digest(images, p)) for p in parts]
    if len(remote) < len(source.names):
        local = next(name for name in source.names if not is_url(name))
        raise ConfigError(f"{remote[0]} is a URL and {local} is none; give all as URLs, such as file:///photos")
    if source.follow_links:
        raise ConfigError(f"`follow_links` is for folders of this machine, not for {remote[0]}; omit it")
    inputs = list(_remote_inputs(source, shard_size, place))
    if not inputs:
        raise DataError(f"no pictures in {source}; give a folder with JPEG or PNG files, or *.tar or *.parquet")
    return source, inputs


def _remote_inputs(source: Source, shard_size: int, place: Place) -> Iterator[Input]:
    found = [each for name in source.names for each in _expanded(name)]
    before = prefixes([url for url, _ in found]) if len(found) > 1 else [""]
    for (url, info), prefix in zip(found, before, strict=True):
        if info["type"] == "file":
            if source.exclude or source.include:
                raise ConfigError(f"`exclude` and `include` are for folders, not for {url}; omit them")
            yield ContainerFile(url, *facts_of(info), prefix)
            continue
        rules = Rules(source.exclude, source.include, prefix=prefix)
        for some in batches(_pictures(url, rules), shard_size):
            data = list_bytes(url, prefix, some)
            place.put(list_name(data), data)
            yield PictureList(list_name(data), len(some))


def _expanded(url: str) -> list[tuple[str, dict[str, Any]]]:
    """The files and folders that a URL names, with what is known of each.

    Raises:
        DataError: there is none, or a file is neither tar nor Parquet.
    """
    fs, path = filesystem(url)
    with reaching(url):
        fs.invalidate_cache()
        try:
            found = [fs.info(path)]
        except FileNotFoundError:
            found = [info for _, info in sorted(fs.glob(path, detail=True).items())] if "*" in path else []
    if not found:
        raise DataError(f"nothing at {url}; check the address")
    urls = [url] if len(found) == 1 and "*" not in url else [fs.unstrip_protocol(str(info["name"])) for info in found]
    for name, info in zip(urls, found, strict=True):
        if info["type"] == "file" and PurePosixPath(name).suffix.lower() not in CONTAINERS:
            raise DataError(f"{name} is no tar or Parquet file; give the folder of single pictures")
    return list(zip(urls, found, strict=True))


def _pictures(url: str, rules: Rules) -> Iterator[Remote]:
    """The pictures below a folder at a URL, in the order of `FolderImages`, listed folder by folder."""
    fs, root = filesystem(url)
    others: set[str] = set()
    is_empty = True
    for below, info in _below(fs, url, root.rstrip("/"), ""):
        if kind_of(below) != PICTURE:
            others.add(PurePosixPath(below).suffix.lower())
        elif rules.takes(name_to_id(below)):
            is_empty = False
            yield Remote(below, *facts_of(info))
    if is_empty:
        held = " and ".join(sorted(others & set(CONTAINERS)))
        hint = f"it has {held} files: give them themselves, as in {url.rstrip('/')}/*{min(others & set(CONTAINERS), default='')}"
        raise DataError(f"no pictures in {url}; {hint if held else 'give a folder with JPEG or PNG files'}")


def _below(fs: AbstractFileSystem, url: str, root: str, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with reaching(url):
        found = {
            str(info["name"]).rstrip("/").rpartition("/")[2]: info for info in fs.ls(f"{root}/{folder}", detail=True)
        }
    fs.invalidate_cache()  # else the whole listing stays in memory
    if folder and own_folders(set(found)) == ALL:
        return
    for name, info in sorted(found.items()):
        below = f"{folder}/{name}" if folder else name
        if not name or is_side(name):
            continue
        if info["type"] == "directory":
            yield from _below(fs, url, root, below)
        else:
            yield below, info
