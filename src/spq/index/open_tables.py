"""The database of an index, open for reading: SQL, snapshots, time limits and errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import ProgrammingError
from typing import Any, Self

from spq.data.decode import first_line
from spq.errors import MovedError, StoreError, TimeLimitError
from spq.index.format import METADATA_SINCE, SQLITE_ERRORS, check_contents, open_reader, why_closed
from spq.index.manifest import SHARDED, Manifest
from spq.index.side_files import why_blocked

STEPS = 100_000  # instructions of SQLite between two checks of the time: about a millisecond
VERIFY = "verify the index to see all faults, and repair it"


class OpenTables:
    """The database of an index folder. Nothing is written, and the folder may be read-only.

    Attributes:
        reads_shards: whether the items of shards are read, too. Without them, the database is only a part of the index.
        damaged: id -> reason, of items that were passed over because their row is damaged.
    """

    reads_shards = False

    def __init__(self, folder: Path, manifest: Manifest, may_lack: bool = False) -> None:
        self.folder, self.manifest = folder, manifest
        self.damaged: dict[int, str] = {}
        self._reopened = 0
        # SQLite locks a connection while one thread reads. The functions that it calls need Python's lock, which another thread
        # has while it waits for the connection: both would wait for ever.
        self._reading = threading.RLock()
        try:
            self._reader = open_reader(folder)
        except SQLITE_ERRORS as error:
            reason = why_closed(folder, error, "repair the index, or build it again")
            raise StoreError(f"index {folder}: items.sqlite {reason}") from None
        try:
            check_contents(folder, self._reader, manifest, may_lack)
            self.check_kind()
        except SQLITE_ERRORS as error:
            self.close()
            raise self._unreadable(error) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._reader.interrupt()  # a read of another thread; closing the connection under it would end the process
        with self._reading:
            self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def select_newer(self, statement: str, *values: object) -> list[Any]:
        """Rows of any SELECT statement on the database alone, without the items of shards."""
        return self._select(statement, *values)

    def select(self, statement: str, *values: object) -> list[Any]:
        """Rows of any SELECT statement."""
        return self._select(statement, *values)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see the state of one moment, also while a writer writes."""
        if self._reader.in_transaction:
            yield
            return
        self._select("BEGIN")
        try:
            yield
        finally:
            self._select("ROLLBACK")

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Stop reads inside that take longer than this time.

        Raises:
            TimeLimitError: the time is over.
        """
        end = time.monotonic() + seconds
        with self._reading:
            self._reader.set_progress_handler(lambda: time.monotonic() > end, STEPS)
        try:
            yield
        finally:
            with self._reading, suppress(ProgrammingError):  # it may be closed
                self._reader.set_progress_handler(None, 0)

    def version(self) -> int:
        """A number that changes with every change of the items, by any process."""
        return int(self._select("PRAGMA data_version")[0][0]) + (self._reopened << 32)

    def _select(self, statement: str, *values: object) -> list[Any]:
        with self._reading:
            return self._selected(statement, *values)

    def _selected(self, statement: str, *values: object) -> list[Any]:
        try:
            if self._reader.is_outdated():
                outdated, self._reader = self._reader, open_reader(self.folder)
                outdated.close()  # after the new one opened: that may fail while somebody writes
                self._reopened += 1
            rows = self._reader.execute(statement, values).fetchall()
            self.check_kind()  # afterwards: the items may have been moved while they were read
            return rows
        except SQLITE_ERRORS as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
                raise TimeLimitError(f"reading index {self.folder} took too long; search for less") from None
            raise self._unreadable(error) from None

    def check_kind(self) -> None:
        """Refuse to go on with an index whose items were moved into shards since it was opened.

        Raises:
            MovedError: they were.
        """
        with self._reading:
            is_moved = not self.reads_shards and self._reader.execute("PRAGMA user_version").fetchall()[0][0] >= SHARDED
        if is_moved:
            raise MovedError(f"index {self.folder} has shards now; open it again")

    def _unreadable(self, error: Exception) -> StoreError:
        if blocked := why_blocked(self.folder):
            return StoreError(f"index {self.folder}: items.sqlite could not be read: {blocked}")
        return StoreError(f"index {self.folder} could not be read ({first_line(error)}); {VERIFY}")

    def has_metadata(self) -> bool:
        """Whether items have metadata and revisions. They have none in an index of format 1 that nothing has written to since."""
        return self._format() >= METADATA_SINCE

    def _format(self) -> int:
        """The format of the tables. It grows while they are open, if another process writes to an older index."""
        return int(self._select("PRAGMA user_version")[0][0])

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"index {self.folder} is damaged: {what}; {VERIFY}")
