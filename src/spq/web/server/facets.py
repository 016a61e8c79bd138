"""How many pictures have each value of a column, and the filter that chooses one, or several of one column."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from spq.index.filter import parse
from spq.index.filter_tree import And, Column, Comparison, Expr, Or
from spq.web.server.schemas import MAX_WHERE
from spq.web.server.values import FOLDER, MONTH, Numbers, Texts, Values
from spq.web.view import Facts

LISTED = 50  # values of a column
RANGES = 6  # of numbers
NAMES = 250  # of a map; a byte tells them apart, with two more
MOST_NAMES = 0.5  # names per picture; a column with more, such as file names, is no facet
Mask = NDArray[np.bool_]
Parts = tuple[Expr, ...]
Matched = Callable[[str | None], Mask]


def facets(values: Values, matched: Matched, where: str | None) -> list[Facts]:
    """Each column with its values: what the page shows, how many matched pictures have it, and what to filter by then.

    Of labels and metadata, several values can be chosen: a value is counted as if no other one of its column was chosen.

    Args:
        matched: tells (N,) which pictures a filter leaves.
    """
    now = parse(where) if where else None
    parts = now.parts if isinstance(now, And) else (() if now is None else (now,))
    is_matched = matched(where)
    found = []
    for name, column in values.columns.items():
        if isinstance(column, Texts) and name not in (FOLDER, MONTH):
            rows = _alternatives(column, parts, matched, where)
        else:
            counted = _counted(name, column, is_matched)
            rows = [_value(text, condition, count, parts) for text, condition, count in counted if count]
        rows = _chosen(column.column, rows, parts, int(is_matched.sum())) + rows
        shown = [row for row in rows if len(row["where"]) <= MAX_WHERE][:LISTED]
        if len(shown) > 1 or any(row["chosen"] for row in shown):
            found.append({"name": name, "values": shown, "more": len(rows) - len(shown)})
    return found


def _alternatives(column: Texts, parts: Parts, matched: Matched, where: str | None) -> list[Facts]:
    """The values of a column of which any may be chosen. `where` chooses one more, or one fewer."""
    own, names = _own(column.column, parts)
    others = _text(part for part in parts if part is not own) if own else where
    counted = _names(column, matched(others))
    counted += [(name, _equal(column.column, name), 0) for name in names if counted and name not in column.names]
    at = parts.index(own) if own else len(parts)
    rows = []
    for text, condition, count in counted:
        is_chosen = text in names
        if not count and not is_chosen:
            continue
        equal = [_equal(column.column, name) for name in names if name != text] + [condition] * (not is_chosen)
        new = tuple(equal) if len(equal) < 2 else (Or(tuple(equal)),)
        after = _text((*parts[:at], *new, *parts[at + 1 :])) or ""
        rows.append({"text": text, "count": count, "chosen": is_chosen, "where": after, "conditions": [str(condition)]})
    return rows


def _own(column: Column, parts: Parts) -> tuple[Expr | None, list[str]]:
    """The part that chooses values of a column, `a` or `a or b`, and the values."""
    for part in parts:
        found = []
        for one in part.parts if isinstance(part, Or) else (part,):
            if isinstance(one, Comparison) and (one.column, one.operator) == (column, "="):
                found.append(str(one.value))
            else:
                break
        else:
            return part, found
    return None, []


def _text(parts: Iterable[Expr]) -> str | None:
    """A filter of which all parts must hold."""
    all_ = tuple(parts)
    if not all_:
        return None
    return str(all_[0] if len(all_) == 1 else And(all_))


def _chosen(column: Column, rows: list[Facts], parts: Parts, count: int) -> list[Facts]:
    """The conditions on a column that the filter has and none of its rows stands for, such as a folder above those of now."""
    shown = {part for row in rows if row["chosen"] for part in row["conditions"]}
    own = [part for part in parts if isinstance(part, Comparison) and part.column == column and str(part) not in shown]
    return [_value(_short(part), part, count, parts) for part in own]


def _short(part: Comparison) -> str:
    text = f"{part.value:.15g}" if isinstance(part.value, float) else part.value.removesuffix("/*")
    return text if part.operator in "=~" else f"{part.operator} {text}"


def _value(text: str, condition: Expr, count: int, parts: Parts) -> Facts:
    """A value. `where` is the filter of now with the condition of the value, or without it if it is chosen already."""
    needed = condition.parts if isinstance(condition, And) else (condition,)
    known = {str(part) for part in parts}
    is_chosen = all(str(part) in known for part in needed)
    kept = tuple(part for part in parts if str(part) not in {str(one) for one in needed})
    rest = kept if is_chosen else (*parts, *needed)
    conditions = [str(part) for part in needed]
    return {"text": text, "count": count, "chosen": is_chosen, "where": _text(rest) or "", "conditions": conditions}


def _counted(name: str, column: Texts | Numbers, is_matched: Mask) -> list[tuple[str, Expr, int]]:
    if isinstance(column, Numbers):
        return _ranges(column, is_matched)
    if name == MONTH and _are_too_many(column, is_matched):
        return []
    of_name = dict(zip(column.names, _counts(column, is_matched).tolist(), strict=True))
    return _folders(of_name) if name == FOLDER else _times(of_name)


def _names(column: Texts, is_matched: Mask) -> list[tuple[str, Expr, int]]:
    """The values of a column, the most frequent first; none if they are too many to choose from."""
    if _are_too_many(column, is_matched):
        return []
    counts = _counts(column, is_matched)
    order = np.argsort(-counts, kind="stable")
    return [(column.names[i], _equal(column.column, column.names[i]), int(counts[i])) for i in order]


def _are_too_many(column: Texts, is_matched: Mask) -> bool:
    return len(column.names) > max(LISTED, MOST_NAMES * len(is_matched))


def _counts(column: Texts, is_matched: Mask) -> NDArray[np.int64]:
    return np.bincount(column.codes[is_matched[column.rows]], minlength=len(column.names))


def _equal(column: Column, value: str) -> Expr:
    return Comparison(column, "=", value)


def _folders(counts: dict[str, int]) -> list[tuple[str, Expr, int]]:
    """The folders at the first level at which there are several."""
    used = [name for name, count in counts.items() if count]
    depth = 0
    while len(tops := {"/".join(name.split("/")[: depth + 1]) for name in used}) == 1 and depth < 32:
        if all(name.count("/") <= depth for name in used):
            break
        depth += 1
    sums = dict.fromkeys(sorted(tops), 0)
    for name in used:
        sums["/".join(name.split("/")[: depth + 1])] += counts[name]
    order = sorted(sums, key=lambda name: -sums[name])
    return [(name, Comparison(Column("path", False), "~", f"{_literal(name)}/*"), sums[name]) for name in order if name]


def _literal(text: str) -> str:
    """Text as a pattern that matches only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _times(counts: dict[str, int]) -> list[tuple[str, Expr, int]]:
    """Years, the latest first; within one year its months."""
    years: dict[str, int] = {}
    for month, count in counts.items():
        years[month[:4]] = years.get(month[:4], 0) + count
    column, several = Column("time", False), sum(count > 0 for count in years.values()) > 1
    found = years if several else counts
    return [(name, _equal(column, name), found[name]) for name in sorted(found, reverse=True)]


def _ranges(column: Numbers, is_matched: Mask) -> list[tuple[str, Expr, int]]:
    """The values if they are few, else ranges of about as many pictures each, the same ones with any filter."""
    known = column.values[~np.isnan(column.values)]
    matched = column.values[is_matched & ~np.isnan(column.values)]
    distinct = np.unique(known)
    if len(distinct) <= RANGES + 2:
        return [(f"{x:.15g}", Comparison(column.column, "=", float(x)), int((matched == x).sum())) for x in distinct]
    bounds = sorted({_rounded(x) for x in np.quantile(known, np.linspace(0, 1, RANGES + 1)[1:-1])})
    found: list[tuple[str, Expr, int]] = []
    for low, high in zip([None, *bounds], [*bounds, None], strict=True):
        parts: list[Expr] = []
        if low is not None:
            parts.append(Comparison(column.column, ">=", low))
        if high is not None:
            parts.append(Comparison(column.column, "<", high))
        is_inside = (matched >= (-np.inf if low is None else low)) & (matched < (np.inf if high is None else high))
        count = int(is_inside.sum())
        found.append((_range_text(low, high), parts[0] if len(parts) == 1 else And(tuple(parts)), count))
    return found


def _rounded(value: float) -> float:
    """With two digits."""
    return float(f"{value:.2g}")


def _range_text(low: float | None, high: float | None) -> str:
    """Two numbers, one of which may be missing: `640 - 1280`, ` - 640`, `1280 - `. The page adds units."""
    return " - ".join("" if bound is None else f"{bound:.15g}" for bound in (low, high))


def colours(column: Texts | Numbers, rows: NDArray[np.int64], count: int) -> Facts:
    """A value for each of some pictures (n,), as the map colours them.

    Returns:
        kind number: values (n,), NaN for none, and the range of most of them. kind time: the same, in months since the year 0.
        kind text: the most frequent names, and for each
        picture which of them it has: len(names) for another one, len(names) + 1 for none.
    """
    if isinstance(column, Texts) and column.column == Column(MONTH):
        months = np.array([12 * int(name[:4]) + int(name[5:]) - 1 for name in column.names], float)
        values = np.full(count, np.nan)
        values[column.rows] = months[column.codes]
        return colours(Numbers(column.column, values), rows, count) | {"kind": "time"}
    if isinstance(column, Numbers):
        values = column.values[rows]
        low, high = np.nanquantile(values, (0.02, 0.98)).tolist() if (~np.isnan(values)).any() else (0.0, 1.0)
        return {"kind": "number", "values": values, "low": low, "high": high, "names": [], "counts": []}
    of_row = np.full(count, -1)
    of_row[column.rows[::-1]] = column.codes[::-1]  # the first value of a picture
    codes = of_row[rows]
    counts = np.bincount(codes[codes >= 0], minlength=len(column.names))
    top = np.argsort(-counts, kind="stable")[: min(NAMES, int((counts > 0).sum()))]
    place = np.full(len(column.names) + 1, len(top))
    place[top] = np.arange(len(top))
    place[-1] = len(top) + 1
    names = [column.names[i] for i in top]
    return {"kind": "text", "values": place[codes], "low": 0, "high": 0, "names": names, "counts": counts[top].tolist()}
