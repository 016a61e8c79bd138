"""The columns of a site's filter: one file for each, which the browser downloads when a filter needs it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spq.index.filter import parse
from spq.index.filter_sql import METADATA, known_columns, sql_name
from spq.index.filter_tree import BUILT_IN, Column, columns
from spq.index.store import Store

_FACTS = f"SELECT items.id, fact.value FROM items, json_each({METADATA}{{}}) AS fact WHERE items.status = 0{{}} ORDER BY items.id"


def write_columns(store: Store, ids: list[int], folder: Path) -> list[dict[str, Any]]:
    """Write a JSON array for each column, with one value for each of `ids`.

    A value is null, a number or a text; a value of `label` is an array of texts. Times are in seconds, as in filters.

    Returns:
        For each column: name (as written in a filter), kind, values, key (without brackets), own (not built in), and file.
    """
    folder.mkdir()
    described = []
    for number, (name, kind, values) in enumerate(known_columns(store)):
        column = Column(name) if name in BUILT_IN else next(columns(parse(f"{name} = x")))
        content = _values(store, column, ids)
        (folder / f"{number}.json").write_text(json.dumps(content, separators=(",", ":")), "utf-8")
        described.append(
            {
                "name": name,
                "kind": kind,
                "values": values,
                "key": column.name,
                "own": column.own,
                "file": f"{number}.json",
            }
        )
    return described


def _values(store: Store, column: Column, ids: list[int]) -> list[Any]:
    if column.of_item:
        rows = store.select(f"SELECT id, {sql_name(column)} FROM items WHERE status = 0 ORDER BY id")
        found = dict(rows)
        return [found[i] // 10**9 if column.name == "time" else found[i] for i in ids]
    if column.own:
        key = column.name.encode("utf-8", "surrogateescape")
        found = dict(store.select(_FACTS.format("", " AND fact.key = CAST(? AS TEXT)"), key))
        return [found.get(i) for i in ids]
    return _all_values(store.select(_FACTS.format(", '$.label'", "")), ids)


def _all_values(rows: Iterable[tuple[int, Any]], ids: list[int]) -> list[list[Any]]:
    """Return all values of each id."""
    found: dict[int, list[Any]] = {}
    for i, value in rows:
        found.setdefault(i, []).append(value)
    return [found.get(i, []) for i in ids]
