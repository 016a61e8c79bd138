"""The layout of a published index: files that never change, and generations, each of which names its files.

The file of a generation is written last, and only if there is none of its number. So a generation is whole as soon as it is
there, and of two publishers at once one wins. The newest generation is the one with the highest number.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from spq.common.json_file import MOST_BYTES, JsonError, parse_json
from spq.config.strict import from_dict
from spq.errors import ConfigError, DataError, StoreError
from spq.scale.urls import Place

FORMAT = 1
FILES, GENERATIONS = "files", "generations"
MOST = 10**8 - 1  # the highest number
AGAIN = "publish the index again"
NEEDED = {"manifest.json", "items.sqlite", "model/config.json", "model/model.safetensors"}
_SHARD = r"[0-9]{5,}-[0-9a-f]{16}"
_PATH = re.compile(
    r"manifest\.json|items\.sqlite|not-duplicates\.jsonl|model/(config\.json|model\.safetensors|README\.md)|"
    rf"shards/{_SHARD}/[a-z_]+\.(npy|bin|parquet)|shards/lists/(coarse|{_SHARD})\.npz"
)
_CHECK = re.compile(r"[0-9a-f]{16}")
_FILE, _GENERATION = re.compile(r"([0-9]{8})-[0-9a-f]{16}"), re.compile(r"([0-9]{8})\.json")


@dataclass(frozen=True)
class PublishedFile:
    """A file of a published index.

    Attributes:
        path: in the index folder. size: in bytes. check: the first 16 digits of its SHA-256.
        since: number of the generation that it was uploaded for.
    """

    path: str
    size: int
    check: str
    since: int

    @property
    def name(self) -> str:
        """Its name at the URL."""
        return f"{self.since:08d}-{self.check}"


@dataclass(frozen=True)
class Generation:
    """A published index as it was at one moment.

    Attributes:
        key, model: of the index. images: with a code. revision: number of its last change.
        time: of the publication, UTC.
    """

    format: int
    spq_version: str
    number: int
    key: str
    model: str
    images: int
    revision: int
    time: str
    files: tuple[PublishedFile, ...]

    @cached_property
    def check(self) -> str:
        """A checksum of all of it."""
        return _digest(json.loads(json.dumps(asdict(self))))

    @property
    def stem(self) -> str:
        """A name for it that no other generation has, also of an index that was published anew."""
        return f"{self.number:08d}-{self.check}"

    @property
    def name(self) -> str:
        """The name of its file at the URL."""
        return generation_name(self.number)

    @property
    def nbytes(self) -> int:
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        """The file."""
        return (json.dumps(asdict(self) | {"check": self.check}, indent=1) + "\n").encode()


def generation_name(number: int) -> str:
    """The name of the file of a generation."""
    return f"{GENERATIONS}/{number:08d}.json"


def list_generations(place: Place) -> dict[int, dict[str, Any]]:
    """What is known of the file of each generation at a place, by its number, ascending."""
    found = place.list(GENERATIONS).items()
    return dict(sorted((int(match[1]), facts) for name, facts in found if (match := _GENERATION.fullmatch(name))))


def list_files(place: Place) -> dict[str, int]:
    """The size of each file of a published index, by its name."""
    return {name: int(facts["size"] or 0) for name, facts in place.list(FILES).items() if _FILE.fullmatch(name)}


def since_of(name: str) -> int:
    """The number of the generation that a file was uploaded for."""
    return int(name[:8])


def read_generation(place: Place, number: int, facts: dict[str, Any]) -> Generation:
    """Read a generation at a place.

    Args:
        facts: what `list_generations` knows of it.
    Raises:
        DataError: it is damaged. StoreError: it is of a newer format. FileNotFoundError: it was deleted.
    """
    where = f"{place.url}/{generation_name(number)}"
    if int(facts["size"] or 0) > MOST_BYTES:
        raise DataError(f"{where} is damaged: it has {facts['size']:,} bytes; {AGAIN}")
    return parse_generation(place.read(generation_name(number)), number, where)


def parse_generation(data: bytes, number: int, where: str) -> Generation:
    """The generation of the content of a file.

    Args:
        where: names the file in errors.
    Raises:
        DataError: it is damaged. StoreError: it is of a newer format.
    """
    try:
        table = parse_json(data)
        found = table.get("format") if isinstance(table, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise StoreError(f"{where} has format {found}, this spq reads up to {FORMAT}; update spq")
        if isinstance(table, dict) and table.pop("check", None) != _digest(table):
            raise JsonError("its checksum does not match")
        generation = from_dict(Generation, table, where)
    except (JsonError, ConfigError, TypeError) as error:
        raise DataError(f"{where} is damaged: {str(error).removeprefix(f'{where}: ')}; {AGAIN}") from None
    if fault := _wrong_value(generation, number):
        raise DataError(f"{where} is damaged: {fault}; {AGAIN}")
    return generation


def _wrong_value(generation: Generation, number: int) -> str:
    """Why a generation is not one of an index; empty if it is. Names that lead out of the index folder are wrong."""
    if generation.number != number:
        return f"it is generation {generation.number}"
    for file in generation.files:
        if not _PATH.fullmatch(file.path):
            return f"{file.path[:80]!r} is no file of an index"
        if file.size < 0 or not _CHECK.fullmatch(file.check) or not 1 <= file.since <= number:
            return f"{file.path} has numbers that do not fit"
    paths = {file.path for file in generation.files}
    if len(paths) < len(generation.files) or not paths >= NEEDED:
        return "it names a file twice, or lacks files"
    return ""


def is_published(place: Place) -> bool:
    """Whether a place has a published index."""
    return bool(list_generations(place))


def foreign_entry(place: Place) -> str:
    """A file or folder at a place that is no part of a published index; empty if there is none."""
    entries: Collection[str] = place.entries().keys() - {FILES, GENERATIONS}
    parts = ((FILES, _FILE), (GENERATIONS, _GENERATION))
    inside = ((folder, name) for folder, kind in parts for name in place.entries(folder) if not kind.fullmatch(name))
    return min(entries, default="") or next(("/".join(names) for names in inside), "")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
