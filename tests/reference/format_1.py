"""An index as older formats left it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from spq.index.manifest import Manifest, read_manifest

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- an id is never given twice
    path TEXT NOT NULL UNIQUE,
    hash BLOB,                             -- of the picture's bytes
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    width INTEGER,
    height INTEGER,
    status INTEGER NOT NULL,               -- 0 encoded, 1 unreadable
    reason TEXT,
    code BLOB                              -- M bytes, one sub-code each
);
CREATE INDEX IF NOT EXISTS items_by_hash ON items (hash);
"""


def make_format_1(folder: Path, manifest: Manifest, rows: Iterable[tuple[object, ...]] = ()) -> None:
    """Rows are id, path, hash, size, mtime_ns, width, height, status, reason, code. The id 12 was given once."""
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(asdict(replace(manifest, format=1)), indent=2) + "\n", "utf-8")
    database = sqlite3.connect(folder / "items.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(SCHEMA)
    database.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.execute("INSERT INTO items VALUES (12, 'dropped.jpg', x'00', 1, 1, 1, 1, 0, NULL, x'0000')")
    database.execute("DELETE FROM items WHERE id = 12")
    database.commit()
    database.close()


def make_format_3(folder: Path, ctimes: bool = True) -> None:
    """Take from an index what format 4 has added: checksums, and what names the model. Without ctimes, it is of format 2."""
    database = sqlite3.connect(folder / "items.sqlite", isolation_level=None)
    database.execute('ALTER TABLE items DROP COLUMN "check"')
    database.execute("DROP TABLE contents")
    if not ctimes:
        database.execute("ALTER TABLE items DROP COLUMN ctime_ns")
    database.execute(f"PRAGMA user_version = {3 if ctimes else 2}")
    database.close()
    old = replace(read_manifest(folder), format=3 if ctimes else 2, key="", codebooks="", model_files="")
    content = {key: value for key, value in asdict(old).items() if not (value in ((), "") or value is False)}
    (folder / "manifest.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
