"""Checksums of the rows of `items.sqlite`: for each row one number, which says whether the row is as spq has written it.

The lower 32 bits are of id and code. NumPy computes them for many rows at once, so that all codes are checked whenever they are
loaded. The upper 31 bits are of id and all other columns. All are salted with the key of the index, so a row of another index
does not fit. Sums over all rows are kept beside them, so that a missing row is noticed, too.

These are checks against faults of disks and programs. Somebody who wants to deceive can compute them again.
"""

from __future__ import annotations

import sqlite3
import zlib

import numpy as np
from numpy.typing import NDArray

CODE_BITS = 2**32 - 1  # of a checksum
_ALL = 2**64 - 1
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # multipliers of splitmix64 (Steele et al., 2014)
TEXTS = ("path", "reason", "metadata")  # may hold bytes that are not UTF-8
FACTS = ("path", "hash", "size", "mtime_ns", "width", "height", "status", "reason", "metadata", "ctime_ns", "revision")


def code_checks(key: int, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The lower halves (N,) of the checksums of rows with these ids (N,) and codes (N, M)."""
    N, M = codes.shape
    padded = np.zeros((N, -(-M // 8) * 8), np.uint8)
    padded[:, :M] = codes
    state = _mixed(ids.astype(np.uint64) + np.uint64(key + (M << 48)))
    for word in padded.view("<u8").T:
        state = _mixed(state ^ word)
    return (state & np.uint64(CODE_BITS)).astype(np.uint32)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_SECOND)
    return x ^ (x >> np.uint64(31))


def row_check(key: object, id_: int, code: object, *facts: object) -> int:
    """The checksum of one row. Facts are the values of `FACTS`; text is given as bytes.

    >>> hex(row_check(7, 1, bytes([1, 2, 3]), b"a.jpg"))[-8:], hex(code_checks(7, np.array([1]), np.uint8([[1, 2, 3]]))[0])
    ('1c73fab0', '0x1c73fab0')
    """
    salt = key if isinstance(key, int) else 0
    upper = zlib.crc32(ascii((salt, id_, *facts)).encode()) >> 1
    return upper << 32 | (_code_check(salt, id_, code) if isinstance(code, bytes) else 0)


def _code_check(key: int, id_: int, code: bytes) -> int:
    """`code_checks` of one row: NumPy is slow for so little."""
    state = _mixed_one((id_ + key + (len(code) << 48)) & _ALL)
    for start in range(0, len(code), 8):
        state = _mixed_one(state ^ int.from_bytes(code[start : start + 8], "little"))
    return state & CODE_BITS


def _mixed_one(x: int) -> int:
    x = (x ^ (x >> 30)) * _FIRST & _ALL
    x = (x ^ (x >> 27)) * _SECOND & _ALL
    return x ^ (x >> 31)


def of_row(row: str = "items") -> str:
    """An SQL expression: the checksum that a row should have. The connection needs `add_functions`.

    No text is given to the function, as SQLite fails where a damaged one is not UTF-8.
    """
    facts = [f"CAST({row}.{name} AS BLOB)" if name in TEXTS else _no_text(f"{row}.{name}") for name in FACTS]
    key = "(SELECT key FROM contents WHERE typeof(key) = 'integer')"
    return f"row_check({key}, {row}.id, {_no_text(f'{row}.code')}, {', '.join(facts)})"


def _no_text(value: str) -> str:
    """The value, but for text, which is always wrong there, a number that is wrong too."""
    return f"CASE typeof({value}) WHEN 'text' THEN -1e999 ELSE {value} END"


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that `of_row` and `TRIGGERS` need."""
    connection.create_function("row_check", -1, row_check, deterministic=True)
    connection.create_function("carried", 3, _carried, deterministic=True)


def _carried(check: object, before: int, after: int) -> int:
    """The checksum of a changed row: right if it was right before, and else as wrong as it was."""
    return check ^ before ^ after if isinstance(check, int) else after


def _add_to_sums(old: str = "", new: str = "") -> str:
    """Keep `contents` in step with a row that changes."""
    signed = [(sign, row) for sign, row in (("-", old), ("+", new)) if row]
    sums = {
        "items": "1",
        "encoded": "({}.status IS 0)",
        "code_sum": f'(ifnull({{}}."check", 0) & {CODE_BITS})',
        "fact_sum": '(ifnull({}."check", 0) >> 32)',
    }
    changes = (f"{name} = {name} {' '.join(s + v.format(row) for s, row in signed)}" for name, v in sums.items())
    return f"UPDATE contents SET {', '.join(changes)};"


SUMS = (
    f'SELECT count(*), ifnull(sum(status IS 0), 0), ifnull(sum(ifnull("check", 0) & {CODE_BITS}), 0), '
    'ifnull(sum(ifnull("check", 0) >> 32), 0) FROM items'
)

# Only connections that write have these triggers. A change by other means is noticed, as it leaves the checksum as it was.
TRIGGERS = (
    f"""CREATE TEMP TRIGGER inserted AFTER INSERT ON main.items BEGIN
        {_add_to_sums(new="new")}
        UPDATE items SET "check" = {of_row()} WHERE id = new.id;
    END""",
    f"""CREATE TEMP TRIGGER changed AFTER UPDATE OF id, code, {", ".join(FACTS)} ON main.items BEGIN
        UPDATE items SET "check" = carried({_no_text('new."check"')}, {of_row("old")}, {of_row("new")}) WHERE id = new.id;
    END""",
    f"""CREATE TEMP TRIGGER counted AFTER UPDATE ON main.items BEGIN
        {_add_to_sums("old", "new")}
    END""",
    f"""CREATE TEMP TRIGGER removed_one AFTER DELETE ON main.items BEGIN
        {_add_to_sums("old")}
    END""",
)
