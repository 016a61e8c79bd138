"""What the manifest of an index says about each of its shards."""

from __future__ import annotations

import re
from dataclasses import dataclass

FOLDER = "shards"  # of an index, with a folder for each shard


@dataclass(frozen=True)
class FileFacts:
    """A file of a shard: its size in bytes, and the beginning of its SHA-256."""

    name: str
    size: int
    check: str


@dataclass(frozen=True)
class ShardFacts:
    """A shard.

    Attributes:
        number: of the shard, unique in its index. name: of its folder.
        count: items. first_id, last_id: their lowest and highest id.
        distinct: different codes. columns: names of metadata that its items have.
    """

    number: int
    name: str
    count: int
    first_id: int
    last_id: int
    distinct: int
    columns: tuple[str, ...] = ()
    files: tuple[FileFacts, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(file.size for file in self.files)


def wrong_shard(shard: ShardFacts) -> str:
    """Why facts cannot be those of a shard; empty if they can. Names that lead out of the index are wrong."""
    numbers = shard.number, shard.count, shard.first_id, shard.distinct, *(file.size for file in shard.files)
    is_named = re.fullmatch(r"\d{5,}-[0-9a-f]{16}", shard.name) and all(
        re.fullmatch(r"[a-z_]+\.(npy|bin|parquet)", file.name) for file in shard.files
    )
    names = {file.name for file in shard.files}
    if not is_named or not {"codes.npy", "items.parquet", "paths.bin"} <= names or len(names) < len(shard.files):
        return f"shard {shard.name!r} has a wrong name, or lacks files"
    if min(numbers) < 1 or shard.last_id - shard.first_id + 1 < shard.count:
        return f"shard {shard.name} has numbers that do not fit"
    return ""
