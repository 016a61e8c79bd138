"""What a `--where` expression means in an index: its tree as SQL with bound values."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from spq.errors import ConfigError
from spq.index.filter import (
    BUILT_IN,
    NUMBERS,
    And,
    Column,
    Comparison,
    Expr,
    In,
    Not,
    Or,
    Value,
    columns,
    parse,
    period,
    to_number,
)
from spq.index.store import Store

FEW = 50  # values of a column that are worth a list to choose from
_OF_ITEM = {"path": "path", "time": "mtime_ns", **{name: name for name in NUMBERS}}  # column -> of the table `items`
_OF_METADATA = "EXISTS (SELECT 1 FROM json_each(items.metadata) AS fact WHERE fact.key = CAST(? AS TEXT) AND ({}))"
_OF_LABEL = "EXISTS (SELECT 1 FROM json_each(items.metadata, '$.label') AS fact WHERE {})"  # one row a label


def matching(store: Store, where: str) -> NDArray[np.int64]:
    """Ids, ascending, of the encoded items that an expression is true of.

    Raises:
        ConfigError: it is no expression, or names a column that no item has.
    """
    expr = parse(where)
    for column in columns(expr):
        if (column.own or column.name == "label") and not _has_metadata(store, column.name):
            known = [name for name in BUILT_IN if name != "label"] + _metadata_columns(store)
            raise ConfigError(f"--where: unknown column {column} at {column.position}; columns are {', '.join(known)}")
    return ids_where(store, expr)


def ids_where(store: Store, expr: Expr) -> NDArray[np.int64]:
    """As `matching`, for an expression whose columns are there."""
    condition, values = to_sql(expr)
    return store.ids(f"SELECT id FROM items WHERE status = 0 AND {condition} ORDER BY id", *values)


def _has_metadata(store: Store, name: str) -> bool:
    """Whether any item has metadata of this name. One that has is mostly found among the first."""
    tables = "items, json_each(items.metadata) AS fact"
    return _is_described(store) and bool(
        store.select(f"SELECT 1 FROM {tables} WHERE fact.key = CAST(? AS TEXT) LIMIT 1", _bytes(name))
    )


def _metadata_columns(store: Store) -> list[str]:
    """What the metadata of the first items is called, as it is written in an expression."""
    if not _is_described(store):
        return []
    first = "(SELECT metadata FROM items WHERE metadata IS NOT NULL LIMIT 1000) AS first"
    rows = store.select(f"SELECT DISTINCT fact.key FROM {first}, json_each(first.metadata) AS fact ORDER BY 1")
    return [str(Column(name, own=name != "label")) for (name,) in rows]


def known_columns(store: Store) -> list[tuple[str, str, list[str]]]:
    """What can be asked: (column as written in an expression, text, number or time, its values where they are few text).

    Metadata columns are those of the first items, and numbers where they are so there.
    """
    kinds = {"path": "text", "width": "number", "height": "number", "size": "number", "time": "time"}
    told: list[tuple[str, str, list[str]]] = [(name, kind, []) for name, kind in kinds.items()]
    facts: dict[str, list[object]] = {}
    if _is_described(store):
        first = "(SELECT metadata FROM items WHERE metadata IS NOT NULL LIMIT 1000)"
        for (text,) in store.select(f"SELECT metadata FROM {first}"):
            for name, value in json.loads(text).items():
                facts.setdefault(name, []).extend(value if isinstance(value, list) else [value])
    for name, values in sorted(facts.items()):
        texts = sorted({str(value) for value in values if value not in ("", None)})
        is_number = bool(texts) and all(to_number(text) is not None for text in texts)
        few = texts if len(texts) <= FEW and not is_number else []
        told.append((str(Column(name, own=name != "label")), "number" if is_number else "text", few))
    return told


def _is_described(store: Store) -> bool:
    """False in an index of format 1."""
    return bool(store.select("SELECT 1 FROM pragma_table_info('items') WHERE name = 'metadata'"))


def to_sql(expr: Expr) -> tuple[str, list[object]]:
    """A condition on a row of `items`, and the values for its `?`. It is 0 or 1, never NULL.

    Nothing that the user wrote is in the condition itself, names of columns included.
    """
    if isinstance(expr, And | Or):
        conditions, bound = zip(*map(to_sql, expr.parts), strict=True)
        joined = (" AND " if isinstance(expr, And) else " OR ").join(conditions)
        return f"({joined})", [value for values in bound for value in values]
    if isinstance(expr, Not):
        condition, values = to_sql(expr.part)
        return f"NOT {condition}", values
    if isinstance(expr, In):
        return _any(expr.column, "=", expr.values)
    if expr.operator == "!=":
        return to_sql(Not(Comparison(expr.column, "=", expr.value)))
    return _any(expr.column, expr.operator, (expr.value,))


def _any(column: Column, operator: str, values: tuple[Value, ...]) -> tuple[str, list[object]]:
    """The column compares so with one of the values."""
    of_item = not column.own and column.name != "label"
    subject = _OF_ITEM[column.name] if of_item else "fact.value"
    test = _in_time if of_item and column.name == "time" else _number_or_text
    tests, bound = zip(*(test(subject, operator, value) for value in values), strict=True)
    condition, parameters = " OR ".join(tests), [value for values in bound for value in values]
    if of_item:
        return f"ifnull({condition}, 0)", parameters
    if column.own:
        return _OF_METADATA.format(condition), [_bytes(column.name), *parameters]
    return _OF_LABEL.format(condition), parameters


def _number_or_text(subject: str, operator: str, value: Value) -> tuple[str, list[object]]:
    """A comparison with REAL turns text that is a number into it. Other text is then above every number, infinity too."""
    if isinstance(value, float):
        upper = f" AND {subject} <= CAST(9e999 AS REAL)" if operator in (">", ">=") else ""
        return f"{subject} {operator} CAST(? AS REAL){upper}", [value]
    if operator == "~":
        return f"{subject} GLOB CAST(? AS TEXT)", [_bytes(value.replace("[!", "[^"))]  # as SQLite writes it
    some = "" if operator == "=" else f" AND {subject} <> ''"  # an empty cell is not before every word
    return f"{subject} {operator} CAST(? AS TEXT){some}", [_bytes(value)]


def _in_time(subject: str, operator: str, value: Value) -> tuple[str, list[object]]:
    begin, end = period(str(value))
    if operator == "=":
        return f"{subject} >= ? AND {subject} < ?", [begin, end]
    if operator in ("<", ">="):
        return f"{subject} {operator} ?", [begin]
    return f"{subject} {'<' if operator == '<=' else '>='} ?", [end]


def _bytes(text: str) -> bytes:
    """Text as sqlite3 takes it, whatever bytes a file name holds."""
    return text.encode("utf-8", "surrogateescape")
