"""Check an index folder for faults, with one line for each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np

from spq.config import DISTANCES
from spq.errors import ModelError, StoreError
from spq.index.codebooks import check_model, read_codebooks
from spq.index.format import (
    METADATA_SINCE,
    SQLITE_ERRORS,
    Manifest,
    format_of,
    newer_format,
    open_reader,
    read_manifest,
)
from spq.index.store import Store

LISTED = 20  # items that are listed for each kind of fault

# Faults of an item: an SQL condition on its row, and the message.
_ITEM_FAULTS = {
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
    "id IN (SELECT id FROM removed)": "exists and is listed as removed",
    "id > (SELECT seq FROM sqlite_sequence WHERE name = 'items')": "has an id that may be used again",
}


def faults(folder: Path) -> Iterator[str]:
    """Check the manifest, the database, each item, and the copy of the model. Nothing is changed.

    Raises:
        StoreError: there is no index to check.
    """
    if not (folder / "manifest.json").exists():
        read_manifest(folder)  # raises
    try:
        manifest = read_manifest(folder)
        database = open_reader(folder)
    except StoreError as error:
        yield str(error)
        return
    except SQLITE_ERRORS as error:
        yield f"items.sqlite does not open ({error})"
        return
    yield from _manifest_faults(manifest)
    with closing(database):
        try:
            yield from _database_faults(database)
            yield from _item_faults(database, manifest)
        except SQLITE_ERRORS as error:
            yield f"items.sqlite cannot be read ({error})"
            return
    yield from _model_faults(folder, manifest)


def _manifest_faults(manifest: Manifest) -> Iterator[str]:
    M, K = manifest.num_codebooks, manifest.codebook_size
    if M < 1 or not 2 <= K <= 256 or manifest.bits != M * (K.bit_length() - 1):
        yield f"manifest.json: {M} codebooks of {K} codewords do not make {manifest.bits} bits"
    if manifest.distance not in DISTANCES:
        yield f"manifest.json: distance {manifest.distance!r} is not one of {', '.join(DISTANCES)}"


def _database_faults(database: sqlite3.Connection) -> Iterator[str]:
    if reason := newer_format("items.sqlite", format_of(database)):
        yield reason
    for (line,) in database.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"items.sqlite: {line}"


def _item_faults(database: sqlite3.Connection, manifest: Manifest) -> Iterator[str]:
    rules = _ITEM_FAULTS | (_METADATA_FAULTS if format_of(database) >= METADATA_SINCE else {})
    M = str(manifest.num_codebooks)
    for condition, message in rules.items():
        query = f"FROM items WHERE {condition}".replace(":M", M)
        rows = database.execute(f"SELECT id, path {query} ORDER BY id LIMIT {LISTED + 1}").fetchall()
        for id_, path in rows[:LISTED]:
            yield f"item {id_} ({path}) {message.replace(':M', M)}"
        if len(rows) > LISTED:
            count = database.execute(f"SELECT count(*) {query}").fetchone()[0]
            yield f"and {count - LISTED} more such items"
    twins = database.execute(
        "SELECT max(id), path FROM items WHERE length(hash) = 16 GROUP BY hash HAVING count(DISTINCT size) > 1 "
        f"ORDER BY 1 LIMIT {LISTED}"
    )
    yield from (f"item {i} ({path}) has the same hash as another item, but not the same size" for i, path in twins)
    K = manifest.codebook_size
    codes = database.execute(
        "SELECT id, path, code FROM items WHERE typeof(code) = 'blob' AND length(code) = ?", (int(M),)
    )
    beyond = (
        f"item {id_} ({path}) has a code with numbers above {K - 1}" for id_, path, code in codes if max(code) >= K
    )
    yield from islice(beyond, LISTED)


def _model_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    """The copy of the model, and the codebooks that the codes point into."""
    with Store.open(folder) as store:
        if not store.stats() and not (folder / "model" / "config.json").exists():
            return  # created, and still empty
    try:
        if not np.isfinite(read_codebooks(folder, manifest)).all():
            yield "the model's codebooks hold NaN or infinity"
        from spq.model.model import Model  # torch takes seconds to load

        model = Model.load(folder / "model")
        check_model(folder, manifest.model, model.hash)
        q = model.config.quantizer
        if (q.distance, q.codebook_size) != (manifest.distance, manifest.codebook_size) or (
            manifest.bits not in q.lengths
        ):
            yield (
                f"manifest.json: {manifest.bits} bits of {manifest.codebook_size} codewords, distance {manifest.distance}, "
                f"are not the model's {q.bits} of {q.codebook_size}, {q.distance}"
            )
    except (StoreError, ModelError) as error:
        yield str(error)
