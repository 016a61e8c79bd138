"""The tree of a filter: what `filter.py` makes of its text. `str()` of a tree is an expression that parses to the same tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["text", "number", "time"]
ITEM_COLUMNS: dict[str, Kind] = {  # that every item of an index has
    "path": "text",
    "width": "number",
    "height": "number",
    "size": "number",
    "time": "time",
}
BUILT_IN = (*ITEM_COLUMNS, "label")  # the label is kept with the metadata

Value: TypeAlias = "str | float"
Expr: TypeAlias = "Comparison | In | Word | And | Or | Not"

RESERVED = {"and", "or", "not", "in"}
WORD = re.compile(r"""[^\s()"',=!<>~\[\]]+""")


@dataclass(frozen=True)
class Column:
    """A column. own: of the user's metadata, not built in. position: of its first character in the text, from 1."""

    name: str
    own: bool = False
    position: int = field(default=0, compare=False, repr=False)

    def __str__(self) -> str:
        is_word = WORD.fullmatch(self.name) and self.name not in BUILT_IN and self.name.lower() not in RESERVED
        return f"[{self.name.replace(']', ']]')}]" if self.own and not is_word else self.name

    @property
    def of_item(self) -> bool:
        """Whether every item has it; else it is in the metadata."""
        return not self.own and self.name in ITEM_COLUMNS


@dataclass(frozen=True)
class Comparison:
    """`column operator value`. The value is a float if it compares as a number."""

    column: Column
    operator: str
    value: Value

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {_written(self.value)}"


@dataclass(frozen=True)
class In:
    """`column in (values)`: the column equals one of them."""

    column: Column
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.column} in ({', '.join(map(_written, self.values))})"


@dataclass(frozen=True)
class Word:
    """The path or the label contains a text, in upper or lower case."""

    text: str

    def __str__(self) -> str:
        return _written(self.text)


@dataclass(frozen=True)
class And:
    """All of two or more parts are true."""

    parts: tuple[Expr, ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, And | Or) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Or:
    """One of two or more parts is true."""

    parts: tuple[Expr, ...]

    def __str__(self) -> str:
        return " or ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Not:
    """The part is false."""

    part: Expr

    def __str__(self) -> str:
        return f"not ({self.part})" if isinstance(self.part, And | Or) else f"not {self.part}"


def columns(expr: Expr) -> Iterator[Column]:
    """The columns that an expression names, in their order. A word names none: it looks into path and label."""
    if isinstance(expr, And | Or):
        for part in expr.parts:
            yield from columns(part)
    elif isinstance(expr, Not):
        yield from columns(expr.part)
    elif not isinstance(expr, Word):
        yield expr.column


def words(expr: Expr) -> Iterator[Word]:
    """The words of an expression, in their order."""
    if isinstance(expr, And | Or):
        for part in expr.parts:
            yield from words(part)
    elif isinstance(expr, Not):
        yield from words(expr.part)
    elif isinstance(expr, Word):
        yield expr


def _written(value: Value) -> str:
    return f"{value:.15g}" if isinstance(value, float) else '"' + value.replace('"', '""') + '"'
