"""An index as the first format left it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from spq.index.format import Manifest

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
