"""`manifest.json`: what kind of codes an index holds, and where its pictures are."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spq.common.files import Replacing, sync_folder, why_shut
from spq.common.json_file import read_json
from spq.config import DISTANCES, from_dict
from spq.data.decode import first_line
from spq.data.formats import kind_of
from spq.data.source import Source
from spq.errors import ConfigError, ModelMismatchError, StoreError
from spq.index.shards.shard_facts import ShardFacts, wrong_shard

FORMAT = 4
SHARDED = 5  # format of an index with shards; without them, an index keeps FORMAT
NEW = ".manifest."  # a manifest that is still being written begins with this
RESTORE = "repair the index, restore the file, or build the index again"
ALWAYS = {"format", "spq_version", "model", "distance", "num_codebooks", "codebook_size", "bits"}
NO_SHARDS = "this is not possible with shards yet; bring its items back with `to_database` first"
MOST_CODEBOOKS = 4096  # far more than codes that are searched have


@dataclass(frozen=True)
class Manifest:
    """What kind of codes an index holds."""

    format: int
    spq_version: str
    model: str  # hash of the model that made the codes
    distance: str
    num_codebooks: int
    codebook_size: int
    bits: int
    source: str = ""  # of the pictures
    more_sources: tuple[str, ...] = ()  # if there are several
    exclude: tuple[str, ...] = ()  # patterns of pictures that are left out
    include: tuple[str, ...] = ()  # patterns of pictures that are taken; all, if there are none
    follow_links: bool = False  # whether linked folders are listed
    prefixes: tuple[str, ...] = ()  # with which the paths of each source begin, if they are not the usual ones
    mounts: tuple[str, ...] = ()  # folders that are on a disk of their own
    decoder: str = ""  # versions that the last sync read pictures with; another one tries unreadable ones again
    key: str = ""  # of this index, in 16 hexadecimal digits; its database has it too
    codebooks: str = ""  # checksum of the model's codebooks
    model_files: str = ""  # checksum of the files of the copy of the model
    quantizer: str = ""  # its kind, if that is not product; versions that know product only refuse the key
    generation: int = 0  # of the shards: it grows with each change of the list
    shards: tuple[ShardFacts, ...] = ()  # of format 5; the database has the copy that counts

    @property
    def origin(self) -> Source:
        """Where the pictures are."""
        names = (self.source, *self.more_sources)
        return Source(names, self.exclude, self.include, self.follow_links, self.prefixes)

    def with_origin(self, origin: Source) -> Manifest:
        """The manifest of an index of other pictures."""
        return replace(
            self,
            source=origin.names[0],
            more_sources=origin.names[1:],
            exclude=origin.exclude,
            include=origin.include,
            follow_links=origin.follow_links,
            prefixes=origin.prefixes,
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index folder.

    Raises:
        StoreError: no index, a lost or damaged manifest, or a newer format.
    """
    try:
        content = read_json(folder / "manifest.json")
    except (FileNotFoundError, NotADirectoryError):
        if has_lost_manifest(folder):
            raise StoreError(why_lost(folder)) from None
        raise StoreError(f"no index at {folder}; build one first, or check the path") from None
    except (OSError, ValueError) as error:
        if shut := why_shut(error):
            raise StoreError(f"index {folder}: manifest.json {shut}") from None
        raise StoreError(f"index {folder}: manifest.json is unreadable ({first_line(error)}); {RESTORE}") from None
    return from_content(content, f"index {folder}", f"{folder}/manifest.json")


def refuse_shards(folder: Path) -> None:
    """Refuse an index with shards, for what works only without.

    Raises:
        StoreError: it has shards.
    """
    if read_manifest(folder).format >= SHARDED:
        raise StoreError(f"index {folder} has shards, and {NO_SHARDS}")


def has_lost_manifest(folder: Path) -> bool:
    """Whether a folder is an index but for its manifest: it has `items.sqlite`, no picture, and no folder of others.

    What is no regular file, such as a pipe in the place of the manifest, is no manifest.
    """
    try:
        entries = list(os.scandir(folder))
    except (OSError, ValueError):  # no folder, or no name of one
        return False
    names = {entry.name for entry in entries}
    folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return (
        "items.sqlite" in names
        and not os.path.isfile(folder / "manifest.json")  # noqa: PTH113 (a Path raises where it is not let in)
        and not any(kind_of(name) for name in names)
        and all(name.startswith((".", "manifest.json", "model", "items.sqlite")) for name in folders)
    )


def why_lost(folder: Path) -> str:
    """The line about a manifest that is lost."""
    return f"index {folder} has lost its manifest.json; {RESTORE}"


def from_content(content: Any, name: str, where: str) -> Manifest:
    """The manifest of parsed JSON, with its checksum and its numbers checked.

    Args:
        name: of the index, and where: what was parsed; both for messages.
    Raises:
        StoreError: damaged, or of a newer format.
    """
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and (reason := newer_format(name, found)):
        raise StoreError(reason)
    check = content.pop("check", None) if isinstance(content, dict) else None
    if check is not None and check != _digest(content):
        raise StoreError(f"{name}: manifest.json is damaged: its checksum does not match; {RESTORE}")
    try:
        manifest = from_dict(Manifest, content, where=where)
    except (ConfigError, TypeError) as error:
        raise StoreError(f"{error}; {RESTORE}") from None
    if fault := _wrong_value(manifest):
        raise StoreError(f"{name}: manifest.json: {fault}; {RESTORE}")
    return manifest


def _wrong_value(manifest: Manifest) -> str:
    M, K = manifest.num_codebooks, manifest.codebook_size
    if not 1 <= M <= MOST_CODEBOOKS or not 2 <= K <= 256 or manifest.bits != M * (K.bit_length() - 1):
        return f"{M} codebooks of {K} codewords do not make {manifest.bits} bits"
    if fault := next(filter(None, map(wrong_shard, manifest.shards)), ""):
        return fault
    texts = (manifest.source, *manifest.more_sources, *manifest.exclude, *manifest.include, *manifest.prefixes)
    for text in (*texts, *manifest.mounts, manifest.decoder, manifest.quantizer):
        if "\0" in text or any("\ud800" <= character < "\udc80" for character in text):
            return f"{text!r} is no name of a file, and no pattern"
    for name in ("model", "key", "codebooks", "model_files"):
        if not (value := str(getattr(manifest, name))).isascii() or (name == "key" and value and not _is_key(value)):
            return f"{name} {value!r} is not in hexadecimal digits"
    if manifest.distance not in DISTANCES:
        return f"distance {manifest.distance!r} is not one of {', '.join(DISTANCES)}"
    return ""


def check_same_model(folder: Path, before: str, now: str) -> None:
    """Refuse to go on with an index that was given another model since it was opened.

    Raises:
        ModelMismatchError: names both hashes.
    """
    if before != now:
        raise ModelMismatchError(f"index {folder} has codes of model {now} now, not of {before}; open it again")


def newer_format(name: str, found: int) -> str:
    """Why this version cannot read a format; empty if it can."""
    return f"{name} has format {found}, this spq reads up to {SHARDED}; update spq" if found > SHARDED else ""


def _is_key(text: str) -> bool:
    return len(text) == 16 and set(text) <= set("0123456789abcdef") and int(text, 16) < 2**63


def as_text(manifest: Manifest) -> str:
    """The manifest as it is written: JSON with a checksum of all other fields."""
    content = {key: value for key, value in asdict(manifest).items() if value or key in ALWAYS}
    return json.dumps(content | {"check": _digest(content)}, indent=2) + "\n"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest in one step. With it, a folder is an index."""
    with Replacing(folder / "manifest.json") as temporary:
        temporary.write_text(as_text(manifest), "utf-8")
    sync_folder(folder)  # else a power cut may undo the rename, but not later writes
