"""Check an index folder for faults, with one line for each."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from spq.common.files import read_regular
from spq.common.json_file import parse_json, read_json
from spq.data.decode import first_line
from spq.errors import ModelError, StoreError
from spq.index.checksums import SUMS, of_row
from spq.index.codebooks import check_copy, check_model, files_check
from spq.index.format import (
    CHECKED_SINCE,
    METADATA_SINCE,
    NOT_DUPLICATES,
    PAIRS_BYTES,
    REPAIR,
    SQLITE_ERRORS,
    check_contents,
    check_shards_are_named,
    format_of,
    open_reader,
    why_closed,
)
from spq.index.manifest import RESTORE, Manifest, as_text, has_lost_manifest, read_manifest
from spq.index.shards.verify_shards import shard_faults
from spq.index.side_files import odd_side_files
from spq.index.store import Store
from spq.index.verify_pictures import picture_faults
from spq.model.model_folder import read_config
from spq.model.own_parts import needed_parts

CHANGED = "index {}: its copy of the model is not what was written: the checksum of its files differs"
LISTED = 20  # items that are listed for each kind of fault

_SUMS_WRITTEN = ", ".join(f"CAST({name} AS INTEGER)" for name in ("items", "encoded", "code_sum", "fact_sum"))
DAMAGED = f'{of_row()} IS NOT "check"'  # an SQL condition on a row

# Faults of an item: an SQL condition on its row, and the message.
_ITEM_FAULTS = {
    "id < 1": "has an id below 1",
    "typeof(path) <> 'text' OR path = ''": "has no path",
    "status NOT IN (0, 1)": "has a status that is neither 0 (encoded) nor 1 (unreadable)",
    "status = 0 AND (typeof(code) <> 'blob' OR length(code) <> :M)": "has no code of :M bytes",
    "status = 0 AND reason IS NOT NULL": "has a code, and a reason why it has none",
    "status = 1 AND code IS NOT NULL": "is unreadable and has a code",
    "status = 1 AND coalesce(reason, '') = ''": "is unreadable without a reason",
    "status = 0 AND min(coalesce(width, 0), coalesce(height, 0)) < 1": "has a code but no width and height",
    "coalesce(length(hash), 0) NOT IN (0, 16)": "has a hash that is not 16 bytes",
    "typeof(size) <> 'integer' OR typeof(mtime_ns) <> 'integer'": "has no size or no time of change",
}
_METADATA_FAULTS = {
    "metadata IS NOT NULL AND NOT (json_valid(metadata) AND substr(metadata, 1, 1) = '{')": (
        "has metadata that is no JSON object"
    ),
    "typeof(revision) <> 'integer' OR revision < 0": "has no revision",
}
_LIST_FAULTS = {  # of lists beside the items
    "id IN (SELECT id FROM removed)": "exists and is listed as removed",
    "id > (SELECT seq FROM sqlite_sequence WHERE name = 'items')": "has an id that may be used again",
}


def faults(folder: Path, pictures: bool = False) -> Iterator[str]:
    """Check all of an index: the manifest, the database, each row, and the copy of the model. Nothing is changed.

    Args:
        pictures: read, hash and encode all pictures again, too.
    Raises:
        StoreError: there is no index to check.
    """
    if not os.path.lexists(folder / "manifest.json") and not has_lost_manifest(folder):
        read_manifest(folder)  # raises
    if odd := odd_side_files(folder):  # SQLite may read without them, but not write
        yield from (f"{file.name} is not a regular file; repair the index" for file in odd)
        return
    try:
        manifest = read_manifest(folder)
        database = open_reader(folder)
    except StoreError as error:
        yield str(error)
        return
    except SQLITE_ERRORS as error:
        yield f"items.sqlite {why_closed(folder, error, RESTORE)}"
        return
    found = 0
    with closing(database):
        try:
            check_contents(folder, database, manifest)
            check_shards_are_named(folder, database, manifest)
            for fault in chain(_database_faults(database), _rows_faults(folder, database, manifest)):
                found += 1
                yield fault
            is_empty = not database.execute("SELECT 1 FROM items LIMIT 1").fetchall()
        except StoreError as error:
            yield str(error)
            return
        except SQLITE_ERRORS as error:
            yield f"items.sqlite cannot be read ({first_line(error)}); {REPAIR}"
            return
    yield from shard_faults(folder, manifest)
    if not (is_empty and not (folder / "model" / "config.json").exists()):  # else it was created, and is still empty
        yield from _model_faults(folder, manifest)
    yield from _pairs_faults(folder)
    if pictures and not found:
        yield from picture_faults(folder)


def damaged_ids(store: Store) -> dict[int, str]:
    """id -> path of the items whose rows break a rule, or are not what was written."""
    rules = [*_rules(METADATA_SINCE), DAMAGED]
    M, K = store.manifest.num_codebooks, store.manifest.codebook_size
    condition = " OR ".join(f"({rule})" for rule in rules).replace(":M", str(M))
    rows = store.select(f"SELECT id, ifnull(CAST(path AS TEXT), '') FROM items WHERE {condition}")
    codes = store.select("SELECT id, path, code FROM items WHERE typeof(code) = 'blob'")
    return dict(rows) | {id_: path for id_, path, code in codes if max(code, default=0) >= K}


def _rules(found: int) -> dict[str, str]:
    return _ITEM_FAULTS | (_METADATA_FAULTS if found >= METADATA_SINCE else {})


def _rows_faults(folder: Path, database: sqlite3.Connection, manifest: Manifest) -> Iterator[str]:
    seen: set[int] = set()
    yield from _item_faults(database, manifest, seen)
    if format_of(database) < CHECKED_SINCE:
        return
    damaged = database.execute(f"SELECT id, path FROM items WHERE {DAMAGED} ORDER BY id").fetchall()
    unseen = [row for row in damaged if row[0] not in seen]
    yield from (f"item {id_} ({path}) is not what was written: its checksum differs" for id_, path in unseen[:LISTED])
    if len(unseen) > LISTED:
        yield f"and {len(unseen) - LISTED} more such items"
    known = database.execute(f"SELECT {_SUMS_WRITTEN} FROM contents").fetchone()
    there = database.execute(SUMS).fetchone()
    if known[0] != there[0] or (known != there and not damaged and not seen):
        yield (
            f"items.sqlite lists {there[0]:,} items, {there[1]:,} of them encoded; {known[0]:,} and {known[1]:,} were written"
        )
    if "check" not in read_json(folder / "manifest.json"):
        copy = database.execute("SELECT manifest FROM contents").fetchone()[0]
        if copy != as_text(manifest):
            yield "manifest.json has no checksum, and differs from its copy in items.sqlite"


def _database_faults(database: sqlite3.Connection) -> Iterator[str]:
    for (line,) in database.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"items.sqlite: {' '.join(str(line).split())}"  # SQLite writes some on several lines


def _item_faults(database: sqlite3.Connection, manifest: Manifest, seen: set[int]) -> Iterator[str]:
    """Rows that break a rule. Their ids are added to `seen`."""
    rules = _rules(format_of(database)) | (_LIST_FAULTS if format_of(database) >= METADATA_SINCE else {})
    M = str(manifest.num_codebooks)
    for condition, message in rules.items():
        query = f"FROM items WHERE {condition}".replace(":M", M)
        rows = database.execute(f"SELECT id, path {query} ORDER BY id LIMIT {LISTED + 1}").fetchall()
        seen |= {id_ for id_, _ in rows}
        for id_, path in rows[:LISTED]:
            yield f"item {id_} ({path}) {message.replace(':M', M)}"
        if len(rows) > LISTED:
            count = database.execute(f"SELECT count(*) {query}").fetchone()[0]
            yield f"and {count - LISTED} more such items"
    twins = database.execute(
        "SELECT max(id), path FROM items WHERE length(hash) = 16 GROUP BY hash HAVING count(DISTINCT size) > 1 "
        f"ORDER BY 1 LIMIT {LISTED}"
    ).fetchall()
    seen |= {id_ for id_, _ in twins}
    yield from (f"item {i} ({path}) has the same hash as another item, but not the same size" for i, path in twins)
    K = manifest.codebook_size
    codes = database.execute(
        "SELECT id, path, code FROM items WHERE typeof(code) = 'blob' AND length(code) = ?", (int(M),)
    )
    beyond = [(id_, path) for id_, path, code in codes if max(code) >= K]
    seen |= {id_ for id_, _ in beyond}
    yield from (f"item {id_} ({path}) has a code with numbers above {K - 1}" for id_, path in beyond[:LISTED])


def _model_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    """The copy of the model, and the codebooks that the codes point into."""
    try:
        check_copy(folder, manifest)
        from spq.model.model import Model  # torch takes seconds to load

        if needed_parts(read_config(folder / "model")):  # the caller's own code, which only Python has
            if manifest.model_files and files_check(folder) != manifest.model_files:
                yield CHANGED.format(folder)
            return
        model = Model.load(folder / "model")
        check_model(folder, manifest.model, model.hash, is_copy=True)
        q = model.config.quantizer
        if (q.distance, q.codebook_size) != (manifest.distance, manifest.codebook_size) or (
            manifest.bits not in q.lengths
        ):
            yield (
                f"manifest.json: {manifest.bits} bits of {manifest.codebook_size} codewords, distance {manifest.distance}, "
                f"are not the model's {q.bits} of {q.codebook_size}, {q.distance}"
            )
        elif manifest.model_files and files_check(folder) != manifest.model_files:
            yield CHANGED.format(folder)
    except (StoreError, ModelError) as error:
        yield str(error)


def _pairs_faults(folder: Path) -> Iterator[str]:
    """Lines of the file of pairs that are no pair."""
    try:
        lines = read_regular(folder / NOT_DUPLICATES, PAIRS_BYTES).splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield f"{NOT_DUPLICATES} cannot be read ({first_line(error)}); move it away"
        return
    for number, line in enumerate(lines, 1):
        if line.strip() and not _is_pair(line):
            yield f"{NOT_DUPLICATES}: line {number} is no pair of pictures; delete the line"


def _is_pair(line: bytes) -> bool:
    try:
        fields = parse_json(line)
        has_paths = len(fields["paths"]) == 2 and all(isinstance(path, str) for path in fields["paths"])
        return has_paths and len([bytes.fromhex(digest) for digest in fields["hashes"]]) == 2
    except (ValueError, TypeError, KeyError):
        return False
