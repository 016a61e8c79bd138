"""A connection to SQLite that passes Ctrl-C on."""

from __future__ import annotations

import sqlite3
from typing import Any


class _Cursor(sqlite3.Cursor):
    """Raises KeyboardInterrupt again: if it comes in a function that SQLite calls, SQLite makes an error of its own of it."""

    def execute(self, *arguments: Any) -> _Cursor:
        try:
            return super().execute(*arguments)
        except sqlite3.OperationalError as error:
            raise _passed_on(error) from None

    def executemany(self, *arguments: Any) -> _Cursor:
        try:
            return super().executemany(*arguments)
        except sqlite3.OperationalError as error:
            raise _passed_on(error) from None

    def fetchall(self) -> list[Any]:
        try:
            return super().fetchall()
        except sqlite3.OperationalError as error:
            raise _passed_on(error) from None


def _passed_on(error: sqlite3.OperationalError) -> BaseException:
    return KeyboardInterrupt() if str(error) == "user-defined function raised exception" else error


class Connection(sqlite3.Connection):
    """A connection to the items of an index. Functions that it is given raise nothing but KeyboardInterrupt."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        return self.cursor(_Cursor).execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        return self.cursor(_Cursor).executemany(*arguments)
