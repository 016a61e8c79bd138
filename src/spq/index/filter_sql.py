"""From a filter expression to SQL with bound values, and the columns that an index can be filtered by."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from spq.common.nearest_names import nearest_names
from spq.common.text import composed, lowered
from spq.errors import ConfigError
from spq.index.filter import parse, period, to_number
from spq.index.filter_tree import (
    BUILT_IN,
    ITEM_COLUMNS,
    And,
    Column,
    Comparison,
    Expr,
    In,
    Not,
    Or,
    Value,
    Word,
    columns,
    words,
)
from spq.index.items import DamagedRowError, read_metadata, text_bytes
from spq.index.store import Store

MAX_VALUES = 50  # a column with more different values gets no list to choose from
_SQL_NAMES = {"time": "mtime_ns"}  # where the table `items` has another name than the language
# A broken cell has no columns, and stops no query.
METADATA = "CASE WHEN substr(items.metadata, 1, 1) = char(123) AND json_valid(items.metadata) THEN items.metadata END"
_ITEMS = f"(SELECT id, status, path, width, height, size, mtime_ns, {METADATA} AS metadata FROM items)"
_OF_METADATA = "EXISTS (SELECT 1 FROM json_each(items.metadata) AS fact WHERE fact.key = CAST(? AS TEXT) AND ({}))"
_OF_LABEL = "EXISTS (SELECT 1 FROM json_each(items.metadata, '$.label') AS fact WHERE {})"  # one row for each label

# Accents may be stored in letters of their own, by the disk that the picture comes from. ASCII needs no function of Python.
_COMPOSED = (
    "CASE WHEN {subject} GLOB '*[^ -~]*' THEN CAST(composed(CAST({subject} AS BLOB)) AS TEXT) ELSE {subject} END"
)
# The same for texts without upper case.
_CONTAINS = (
    "instr(CASE WHEN {subject} GLOB '*[^ -~]*' THEN CAST(lowered(CAST({subject} AS BLOB)) AS TEXT) "
    "ELSE lower({subject}) END, CAST(? AS TEXT)) > 0"
)


def matching(store: Store, where: str) -> NDArray[np.int64]:
    """Ids, ascending, of the encoded items that match an expression.

    Raises:
        ConfigError: it is not an expression, or names a column that no item has.
    """
    expr = parse(where)
    for column in columns(expr):
        if not column.of_item and not _has_column(store, column.name):
            known = [name for name in BUILT_IN if name != "label"] + _metadata_columns(store)
            raise ConfigError(f"`where`: {unknown_column(column, known)}")
    return ids_where(store, expr)


def unknown_column(column: Column, known: list[str]) -> str:
    """What to tell a user whose expression names a column that is not known."""
    near = nearest_names(str(column), known)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown column {column} at {column.position}; {meant}columns are {', '.join(known)}"


def ids_where(store: Store, expr: Expr) -> NDArray[np.int64]:
    """As `matching`, for a parsed expression whose columns exist."""
    has_metadata = store.has_metadata()
    condition, values = to_sql(expr, has_metadata)
    items = f"{_ITEMS} AS items" if has_metadata else "items"
    needed = {sql_name(column) if column.of_item else "metadata" for column in columns(expr)}
    if any(words(expr)):
        needed |= {"path", "metadata"}
    return store.ids_where(items, condition, values, needed)


def sql_name(column: Column) -> str:
    """The name of a column in the table `items`."""
    return _SQL_NAMES.get(column.name, column.name)


def _has_column(store: Store, name: str) -> bool:
    """Whether any item has metadata of this name. Usually one of the first items has it."""
    tables = f"items, json_each({METADATA}) AS fact"
    return name in store.shard_columns() or (
        store.has_metadata()
        and bool(
            store.select_newer(f"SELECT 1 FROM {tables} WHERE fact.key = CAST(? AS TEXT) LIMIT 1", text_bytes(name))
        )
    )


def _metadata_columns(store: Store) -> list[str]:
    """The metadata columns of the first items, as an expression names them."""
    if not store.has_metadata():
        return []
    first = f"(SELECT {METADATA} AS metadata FROM items WHERE metadata IS NOT NULL LIMIT 1000) AS first"
    rows = store.select_newer(f"SELECT DISTINCT fact.key FROM {first}, json_each(first.metadata) AS fact")
    names = sorted({*store.shard_columns(), *(name for (name,) in rows)})
    return [str(Column(name, own=name != "label")) for name in names]


def known_columns(store: Store) -> list[tuple[str, str, list[str]]]:
    """All columns of an index: (name as an expression has it, kind, its values if they are text and few).

    Metadata columns, and whether they hold numbers, are judged by the first items.
    """
    known: list[tuple[str, str, list[str]]] = [(name, kind, []) for name, kind in ITEM_COLUMNS.items()]
    facts: dict[str, list[object]] = {}
    if store.has_metadata():
        for text in store.first_metadata(1000):
            with suppress(DamagedRowError):
                for name, value in read_metadata(text).items():
                    facts.setdefault(name, []).extend(value if isinstance(value, list) else [value])
    for name, values in sorted(facts.items()):
        texts = sorted({str(value) for value in values if value not in ("", None)})
        is_number = bool(texts) and all(to_number(text) is not None for text in texts)
        choices = texts if len(texts) <= MAX_VALUES and not is_number else []
        known.append((str(Column(name, own=name != "label")), "number" if is_number else "text", choices))
    return known


def to_sql(expr: Expr, has_metadata: bool = True) -> tuple[str, list[object]]:
    """A condition on a row of `items`, and the values for its `?`. The condition is 0 or 1, never NULL.

    No text of the user is in the condition itself, not even the name of a column.

    Args:
        has_metadata: whether the table has metadata; else words look into the path alone.
    """
    if isinstance(expr, And | Or):
        conditions, bound = zip(*(to_sql(part, has_metadata) for part in expr.parts), strict=True)
        joined = (" AND " if isinstance(expr, And) else " OR ").join(conditions)
        return f"({joined})", [value for values in bound for value in values]
    if isinstance(expr, Not):
        condition, values = to_sql(expr.part, has_metadata)
        return f"NOT {condition}", values
    if isinstance(expr, Word):
        places = [_CONTAINS.format(subject="path")]
        places += [_OF_LABEL.format(_CONTAINS.format(subject="fact.value"))] if has_metadata else []
        return f"ifnull({' OR '.join(places)}, 0)", [text_bytes(lowered(expr.text))] * len(places)
    if isinstance(expr, In):
        return _any(expr.column, "=", expr.values)
    if expr.operator == "!=":
        return to_sql(Not(Comparison(expr.column, "=", expr.value)))
    return _any(expr.column, expr.operator, (expr.value,))


def _any(column: Column, operator: str, values: tuple[Value, ...]) -> tuple[str, list[object]]:
    """The comparison is true for one of the values."""
    subject = sql_name(column) if column.of_item else "fact.value"
    test = _in_time if column.of_item and column.name == "time" else _number_or_text
    tests, bound = zip(*(test(subject, operator, value) for value in values), strict=True)
    condition, parameters = " OR ".join(tests), [value for values in bound for value in values]
    if column.of_item:
        return f"ifnull({condition}, 0)", parameters
    if column.own:
        return _OF_METADATA.format(condition), [text_bytes(column.name), *parameters]
    return _OF_LABEL.format(condition), parameters


def _number_or_text(subject: str, operator: str, value: Value) -> tuple[str, list[object]]:
    """Text is compared with accents composed. SQLite turns text that is a number into a number to compare it with REAL.

    Other text is above every number.
    """
    if isinstance(value, float):
        upper = f" AND {subject} <= CAST(9e999 AS REAL)" if operator in (">", ">=") else ""
        return f"{subject} {operator} CAST(? AS REAL){upper}", [value]
    if operator != "=" or not value.isascii():
        subject = _COMPOSED.format(subject=subject)
    value = composed(value)
    if operator == "~":
        return f"{subject} GLOB CAST(? AS TEXT)", [text_bytes(value.replace("[!", "[^"))]  # as SQLite writes it
    not_empty = "" if operator == "=" else f" AND {subject} <> ''"  # an empty cell is not less than every word
    return f"{subject} {operator} CAST(? AS TEXT){not_empty}", [text_bytes(value)]


def _in_time(subject: str, operator: str, value: Value) -> tuple[str, list[object]]:
    begin, end = period(str(value))
    if operator == "=":
        return f"{subject} >= ? AND {subject} < ?", [begin, end]
    if operator in ("<", ">="):
        return f"{subject} {operator} ?", [begin]
    return f"{subject} {'<' if operator == '<=' else '>='} ?", [end]
