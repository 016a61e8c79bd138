"""Repair an index: what was damaged is encoded again, restored from a copy, or counted again. All else stays as it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.common.files import check_regular
from spq.common.json_file import parse_json
from spq.data.open import open_images
from spq.errors import ModelError, SPQError, StoreError
from spq.index.checksums import FACTS, SUMS, TEXTS, add_functions, row_check
from spq.index.codebooks import check_copy, files_check
from spq.index.committed import COMMITTED, lacks_changes, note_lacking
from spq.index.format import (
    SQLITE_ERRORS,
    check_contents,
    locked,
    make_tables,
    open_reader,
    transaction,
    why_closed,
)
from spq.index.manifest import Manifest, as_text, from_content, read_manifest, write_manifest
from spq.index.missing import Missing, Moves, find_missing, unlisted_paths
from spq.index.model_copy import ModelCopy
from spq.index.shards.shard_facts import FOLDER as SHARDS
from spq.index.side_files import KEPT, NEW, clear_odd, continue_swap, mend_odd, side_files, swap
from spq.index.store import Store
from spq.index.sync import SyncReport, Work, encode_into
from spq.index.verify import damaged_ids, faults

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.model.model import Model

_COLUMNS = ("id", "code", *FACTS, "check")
COUNT_AGAIN = f"UPDATE contents SET (items, encoded, code_sum, fact_sum) = ({SUMS})"
ELSE = "restore it from a backup, or build the index again"
OUTSIDE = {  # what SQLite says if something else than the content of the database is the reason
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH,
}  # fmt: skip
SHORT = {sqlite3.SQLITE_IOERR_SHORT_READ}  # the file ends too early, which is damage


@dataclass
class Repair:
    """What a repair did. mended: a line for each thing. left: a line for each fault that is still there."""

    mended: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def repair(folder: Path, model: Model | None = None, wait: float = 0) -> Repair:
    """Mend what can be mended of an index.

    - A damaged manifest is restored from its copy in the database.
    - A damaged database is made again of the rows that are sound.
    - A damaged copy of the model is written again, if the model is given.
    - Pictures whose rows are damaged or lost are encoded again. They keep their ids, if their rows have not been lost.

    An index with shards is only checked.

    Args:
        model: the model that made the codes.
        wait: seconds to wait while another process writes to the index.
    Raises:
        StoreError: there is no index, or another process writes to it. ModelMismatchError: the model is another one.
    """
    done = Repair()
    if not any(os.path.lexists(folder / name) for name in ("manifest.json", "items.sqlite")):
        read_manifest(folder)  # raises
    if (folder / "manifest.json").exists() and not list(faults(folder)):
        return done
    if (folder / SHARDS).is_dir():
        done.left += [
            *faults(folder),
            f"index {folder} has shards, and repairing is not possible with shards yet; restore a copy",
        ]
        return done
    with locked(folder, wait):
        is_remade = _mend_files(folder, done)
    if is_remade is not None:
        _mend_content(folder, model, wait, is_remade, done)
        done.left += faults(folder)
    return done


def _mend_files(folder: Path, done: Repair) -> bool | None:
    """Mend the manifest and the database as files. Returns whether the database was made again; None if they cannot be used."""
    try:
        for file in side_files(folder):
            if what := mend_odd(file):
                done.mended.append(f"{file.name}: {what}")
        continue_swap(folder)
        _roll_back(folder, done)
        manifest = _with_manifest(folder, done)
        return None if manifest is None else _with_database(folder, manifest, done)
    except StoreError as error:
        done.left.append(str(error))
    except SQLITE_ERRORS as error:
        done.left.append(f"items.sqlite {why_closed(folder, error, ELSE)}")
    return None


def _roll_back(folder: Path, done: Repair) -> None:
    """Take back what a killed process had begun in a journal. A connection that only reads may not."""
    if all((folder / name).is_file() for name in ("items.sqlite", "items.sqlite-journal")):
        with suppress(*SQLITE_ERRORS), closing(sqlite3.connect(folder / "items.sqlite")) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if not (folder / "items.sqlite-journal").exists():
            done.mended.append("items.sqlite-journal: removed, with what a stopped process had begun")


def _with_manifest(folder: Path, done: Repair) -> Manifest | None:
    """The manifest, restored from its copy if it is lost, damaged, or of another index."""
    file = folder / "manifest.json"
    try:
        manifest = read_manifest(folder)
        copy = _manifest_of_database_and_model(folder)
        if copy is None or copy.model == manifest.model:
            return manifest
    except StoreError as error:
        if file.exists() and not os.access(file, os.R_OK):
            done.left.append(str(error))
            return None
        copy = _manifest_of_database(folder)
    if copy is None:
        done.left.append(_why_not_restored(folder))
        return None
    clear_odd(file)  # writing would go through a link, and into a pipe
    write_manifest(folder, copy)
    done.mended.append("manifest.json: restored from its copy in items.sqlite")
    return copy


def _manifest_of_database(folder: Path, is_checked: bool = False) -> Manifest | None:
    """The copy of the manifest in the database; None if there is no sound one.

    Args:
        is_checked: take it only if it names the key and the model that the database has.
    """
    with (
        suppress(StoreError, ValueError, TypeError, OSError, *SQLITE_ERRORS),
        closing(open_reader(folder)) as database,
    ):
        copy = parse_json(database.execute("SELECT manifest FROM contents").fetchone()[0])
        manifest = from_content(copy, f"index {folder}", f"{folder}/items.sqlite")
        if is_checked:
            check_contents(folder, database, manifest, may_lack=True)
        return manifest
    return None


def _manifest_of_database_and_model(folder: Path) -> Manifest | None:
    """The copy of the manifest in the database, if database and copy of the model belong together."""
    with suppress(StoreError):
        manifest = _manifest_of_database(folder, is_checked=True)
        if manifest and manifest.key and files_check(folder) in (manifest.model_files, ""):
            check_copy(folder, manifest)  # raises if they are of another model
            return manifest
    return None


def _why_not_restored(folder: Path) -> str:
    lost = "manifest.json is lost or damaged, and"
    try:
        open_reader(folder).close()
    except StoreError as error:
        return f"{lost} {error}"
    except SQLITE_ERRORS as error:
        return f"{lost} items.sqlite, which has a copy of it, {why_closed(folder, error, ELSE)}"
    return f"{lost} items.sqlite has no sound copy of it; {ELSE}"


def _with_database(folder: Path, manifest: Manifest, done: Repair) -> bool | None:
    """Make the database again if it is damaged. Returns whether it was made again; None if there is nothing to make it of."""
    if _is_sound(folder, manifest):
        if not _is_lacking(folder, manifest):
            return False
        done.mended.append("items.sqlite: what it lacked is encoded again; update the index, too")
        return True
    if not manifest.key:
        done.left.append(
            "items.sqlite is damaged, and older than checksums; restore it from a backup, or build it again"
        )
        return None
    clear_odd(folder / KEPT)
    kept, wrong = _remake(folder, manifest)
    if not kept and wrong:
        (folder / NEW).unlink()
        done.left.append("items.sqlite has no row of this index; restore it from a backup, or build the index again")
        return None
    was_there = (folder / "items.sqlite").exists()
    clear_odd(folder / COMMITTED)
    note_lacking(folder, manifest.key)  # until all is encoded again, also if this is killed
    swap(folder)
    done.mended.append(
        f"items.sqlite: made again of {kept:,} sound rows; other items get new ids, and are gone if their pictures are"
        + f"; the damaged file is {KEPT}" * was_there
    )
    return True


def _is_sound(folder: Path, manifest: Manifest) -> bool:
    """Whether the database is the one of the manifest, and SQLite finds no damage in it.

    Raises:
        sqlite3.Error, StoreError: it does not open, for a reason outside of its content.
    """
    if not os.path.lexists(folder / "items.sqlite"):
        return False
    try:
        with suppress(OSError):  # SQLite says why
            check_regular(folder / "items.sqlite")
    except ValueError as error:
        raise StoreError(f"items.sqlite: {error}; move it away, and repair again") from None
    with _damage_passed_over(), suppress(StoreError), closing(open_reader(folder)) as database:
        check_contents(folder, database, manifest, may_lack=True)
        return database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return False


def _is_lacking(folder: Path, manifest: Manifest) -> bool:
    with closing(open_reader(folder)) as database:
        return bool(manifest.key) and lacks_changes(folder, manifest.key, database)


@contextmanager
def _damage_passed_over() -> Iterator[None]:
    """Suppress an error of SQLite if it is about the content of the database. A missing permission, for example, is not."""
    try:
        yield
    except SQLITE_ERRORS as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in OUTSIDE and code not in SHORT:
            raise


def _remake(folder: Path, manifest: Manifest) -> tuple[int, int]:
    """Write `items.sqlite.new`. Returns how many rows were taken, and how many are damaged."""
    key, kept, wrong = int(manifest.key, 16), 0, 0
    for leftover in folder.glob(f"{NEW}*"):
        if not clear_odd(leftover):
            leftover.unlink()
    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    places = ", ".join("CAST(? AS TEXT)" if name in TEXTS else "?" for name in _COLUMNS)
    with closing(sqlite3.connect(folder / NEW, isolation_level=None)) as database:
        add_functions(database)
        with transaction(database):
            make_tables(database)
            database.execute(
                "UPDATE contents SET key = ?, model = ?, manifest = ?", (key, manifest.model, as_text(manifest))
            )
            for row in _readable_rows(folder):
                if row_check(key, *row[:-1]) == row[-1]:
                    kept += database.execute(f"INSERT OR IGNORE INTO items ({names}) VALUES ({places})", row).rowcount
                else:
                    wrong += 1
            database.execute(
                "INSERT INTO removed SELECT 0, 1 + coalesce(max(revision), 0) FROM items"
            )  # read all again
            database.execute(COUNT_AGAIN)
    return kept, wrong


def _readable_rows(folder: Path) -> Iterator[tuple[Any, ...]]:
    """The rows of a damaged database, as far as SQLite can read them. Texts come as bytes."""
    names = ", ".join(f"CAST({name} AS BLOB)" if name in TEXTS else f'"{name}"' for name in _COLUMNS)
    if not (folder / "items.sqlite").exists():
        return
    with _damage_passed_over(), closing(open_reader(folder)) as database:
        end = _last_id(database)
        next_id = 1
        while next_id <= end:
            with _damage_passed_over():
                for row in database.execute(f"SELECT {names} FROM items WHERE id >= ? ORDER BY id", (next_id,)):
                    if not isinstance(row[0], int) or row[0] < next_id:
                        break  # out of order: this would never end
                    next_id = row[0] + 1
                    yield row
                else:
                    return
            next_id = _after_gap(database, next_id, end)


def _last_id(database: sqlite3.Connection) -> int:
    """No id is larger."""
    found = [0]
    for query in ("SELECT max(seq) FROM sqlite_sequence", "SELECT max(id) FROM items"):
        with _damage_passed_over():
            found += [id_ for (id_,) in database.execute(query) if isinstance(id_, int)]
    return max(found)


def _after_gap(database: sqlite3.Connection, first: int, end: int) -> int:
    """The first id from which on the table can be read again. Ids on a damaged page follow each other."""

    def is_readable(id_: int) -> bool:
        with _damage_passed_over():
            rows = database.execute("SELECT id, hash FROM items WHERE id >= ? ORDER BY id LIMIT 1", (id_,)).fetchall()
            return not rows or rows[0][0] >= id_
        return False

    bad, step = first, 1
    while bad + step <= end and not is_readable(bad + step):
        bad, step = bad + step, 2 * step
    good = min(bad + step, end + 1)
    while good - bad > 1:
        middle = (bad + good) // 2
        bad, good = (bad, middle) if is_readable(middle) else (middle, good)
    return good


def _mend_content(folder: Path, model: Model | None, wait: float, is_remade: bool, done: Repair) -> None:
    """Mend the copy of the model and the rows."""
    with Store.open(folder, wait, may_lack=True) as store, store.writing():
        copy = ModelCopy(folder, store.manifest)
        if model:
            copy.use(model)
        with suppress(StoreError, ModelError):  # the faults that are left say why
            copy.keep(store)
        done.mended += ["model: written again"] * copy.was_written
        store.save_manifest(store.manifest)
        _mend_lists(store)
        _mend_rows(store, copy, is_remade, done)
        with store.change() as (writer, _):
            writer.execute(COUNT_AGAIN)
        store.complete()


def _mend_lists(store: Store) -> None:
    """Mend what readers and the database itself note of removed items, and of ids that were given."""
    with store.change() as (writer, _):
        writer.execute("DELETE FROM removed WHERE id IN (SELECT id FROM items)")
        writer.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, (SELECT max(id) FROM items)) "
            "WHERE name = 'items' AND (SELECT count(*) FROM items)"
        )
        writer.execute(
            "DELETE FROM items WHERE typeof(path) <> 'text' OR path = ''"
        )  # nothing says which picture it was


def _mend_rows(store: Store, copy: ModelCopy, is_remade: bool, done: Repair) -> None:
    """Encode pictures again whose rows are damaged or lost."""
    damaged = damaged_ids(store)
    is_counted = store.select("SELECT items, encoded FROM contents") == store.select(
        "SELECT count(*), ifnull(sum(status IS 0), 0) FROM items"
    )
    if not damaged and not is_remade and is_counted:
        return
    try:
        images = open_images(store.manifest.origin)
        again = _encode_again(store, images, copy, damaged)
    except SPQError as error:
        done.left.append(f"damaged or lost items are not encoded again: {error}")
        return
    left = damaged_ids(store)
    gone = set(find_missing(unlisted_paths(store.each_path(), images), images, store.manifest.mounts).gone)
    ghosts = [id_ for id_, path in left.items() if path in gone]
    with store.change() as (writer, _):
        writer.executemany("DELETE FROM items WHERE id = ?", ((id_,) for id_ in ghosts))
    mended = len(damaged) - len(left)
    done.mended += [f"items.sqlite: damaged items encoded again: {mended:,}"] * bool(mended)
    done.mended += [f"items.sqlite: {again.added:,} items added again"] * bool(again.added)
    done.mended += [f"items.sqlite: {len(ghosts):,} damaged items without a picture removed"] * bool(ghosts)


def _encode_again(store: Store, images: ImageSet, copy: ModelCopy, damaged: dict[int, str]) -> SyncReport:
    known, place = store.stats(), {path: position for position, path in enumerate(images.ids)}
    here = [place[path] for path in damaged.values() if path in place]
    away = [path for path in damaged.values() if path not in place]
    unknown = [position for path, position in place.items() if path not in known]  # lost, or of another name
    report = SyncReport()
    work = Work(store, images, moves=Moves(store, Missing(gone=away)))
    if here or unknown:
        encode_into(work, sorted([*here, *unknown]), copy.model, report)
    return report
