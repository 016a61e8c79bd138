"""The filter language of `where`: conditions on pictures, from text to a tree. `filter_sql.py` makes SQL of the tree.

    label = shoe and (width >= 640 or path ~ summer/*) and not time < 2024-05

A column is `path`, `width`, `height` (pixels), `size` (bytes), `time` (of the file's last change), `label`, or a column of
your metadata. `[name]` always means your metadata, and the name may hold any characters. Operators are `= != < <= > >= ~` and
`in (a, b)`. `~` matches the wildcards `* ? [abc] [!abc]` against the whole text, and its `*` also matches `/`. Values are words,
numbers, or anything in quotes (a quote inside is doubled). `not` binds first, then `and`, then `or`.

A number without quotes compares as a number, and only with values that are numbers. Anything else compares as text,
case-sensitive; `é` is equal to `e` with an accent of its own (NFC and NFD). A date stands for its whole year, month, day,
minute or second in local time: `time = 2024-05` is any moment of that May. If a picture has several labels, one that matches is
enough. A picture without the value matches only `!=`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import MAXYEAR, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

from spq.errors import ConfigError

Kind: TypeAlias = Literal["text", "number", "time"]
ITEM_COLUMNS: dict[str, Kind] = {  # that every item of an index has
    "path": "text",
    "width": "number",
    "height": "number",
    "size": "number",
    "time": "time",
}
BUILT_IN = (*ITEM_COLUMNS, "label")  # the label is kept with the metadata
MAX_TERMS, MAX_DEPTH, MAX_LENGTH = 200, 12, 5000  # SQLite can handle these

Value: TypeAlias = "str | float"
Expr: TypeAlias = "Comparison | In | And | Or | Not"

_RESERVED = {"and", "or", "not", "in"}
_WORD = re.compile(r"""[^\s()"',=!<>~\[\]]+""")
_TOKEN = re.compile(
    r"""(?P<operator>==|[<>!]=|[=<>~])|(?P<mark>[(),])|(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*')"""
    rf"""|(?P<space>\s+)|(?P<own>\[(?:[^\]]|\]\])+\])|(?P<word>{_WORD.pattern})""",
)
_NUMBER = re.compile(r"[+-]?(?=\.?\d)(\d*)\.?(\d*)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column. own: of the user's metadata, not built in. position: of its first character in the text, from 1."""

    name: str
    own: bool = False
    position: int = field(default=0, compare=False, repr=False)

    def __str__(self) -> str:
        is_word = _WORD.fullmatch(self.name) and self.name not in BUILT_IN and self.name.lower() not in _RESERVED
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


def parse(text: str) -> Expr:
    """Parse an expression. `str()` of the tree is an expression that parses to the same tree.

    >>> print(parse("label=shoe AND NOT (width < 640 or [unit price] in (5, '5.-'))"))
    label = "shoe" and not (width < 640 or [unit price] in (5, "5.-"))

    Raises:
        ConfigError: it is not an expression; the message says where, and what to write.
    """
    return _Parser(text).parse()


def columns(expr: Expr) -> Iterator[Column]:
    """The columns that an expression names, in their order."""
    if isinstance(expr, And | Or):
        for part in expr.parts:
            yield from columns(part)
    elif isinstance(expr, Not):
        yield from columns(expr.part)
    else:
        yield expr.column


class _Token(NamedTuple):
    kind: str  # a group of _TOKEN, or `end`
    text: str
    position: int


class _Parser:
    """Recursive descent: one method for each rule."""

    def __init__(self, text: str) -> None:
        self.tokens, self.next, self.depth, self.terms = _tokens(text), 0, 0, 0

    def parse(self) -> Expr:
        expr = self._or()
        if self._now.kind != "end":
            raise self._unexpected("and, or, or the end; put quotes around a value of several words")
        return expr

    def _or(self) -> Expr:
        parts = [self._and()]
        while self._skip("or"):
            parts.append(self._and())
        return Or(tuple(parts)) if len(parts) > 1 else parts[0]

    def _and(self) -> Expr:
        parts = [self._not()]
        while self._skip("and"):
            parts.append(self._not())
        return And(tuple(parts)) if len(parts) > 1 else parts[0]

    def _not(self) -> Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"`where`: more than {MAX_DEPTH} levels at {self._now.position}; take some apart")
        if self._skip("not"):
            expr: Expr = Not(self._not())
        elif self._skip("("):
            expr = self._or()
            self._expect(")")
        else:
            expr = self._comparison()
        self.depth -= 1
        return expr

    def _comparison(self) -> Expr:
        column = self._column()
        if self._now.kind == "operator":
            operator = self._advance().text.replace("==", "=")
            return Comparison(column, operator, self._value(column, operator))
        negated = self._skip("not")
        if not self._skip("in"):
            raise self._unexpected("in (...)" if negated else "one of = != < <= > >= ~ in")
        self._expect("(")
        values = [self._value(column, "=")]
        while self._skip(","):
            values.append(self._value(column, "="))
        self._expect(")")
        return Not(In(column, tuple(values))) if negated else In(column, tuple(values))

    def _column(self) -> Column:
        kind, text, position = self._now
        if kind == "own":
            self._advance()
            name = text[1:-1].replace("]]", "]")
            return Column(name, name != "label", position)
        if kind != "word" or text.lower() in _RESERVED:
            raise self._unexpected("a column, such as label or width")
        self._advance()
        return Column(text, text not in BUILT_IN, position)

    def _value(self, column: Column, operator: str) -> Value:
        kind, text, position = self._now
        if kind not in ("word", "quoted") or (kind == "word" and text.lower() in _RESERVED):
            raise self._unexpected("a value; put quotes around a value that is not one word")
        self._advance()
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise ConfigError(
                f"`where`: more than {MAX_TERMS} values at {position}; use fewer, or mark these pictures in a metadata column"
            )
        is_bare = kind == "word"
        content = text if is_bare else text[1:-1].replace(text[0] * 2, text[0])
        return _typed(column, operator, content, is_bare, position)

    @property
    def _now(self) -> _Token:
        return self.tokens[self.next]

    def _advance(self) -> _Token:
        self.next += 1
        return self.tokens[self.next - 1]

    def _skip(self, text: str) -> bool:
        """Step over a mark or a word of the language, if it comes next."""
        found = self._now.kind in ("mark", "word") and self._now.text.lower() == text
        self.next += found
        return found

    def _expect(self, mark: str) -> None:
        if not self._skip(mark):
            raise self._unexpected(mark)

    def _unexpected(self, expected: str) -> ConfigError:
        found = "ends" if self._now.kind == "end" else f"has {_short(self._now.text)}"
        return ConfigError(f"`where`: {found} at {self._now.position}; expected {expected}")


def _tokens(text: str) -> list[_Token]:
    """The tokens of an expression, and an `end`."""
    bad = next((p for p, character in enumerate(text, 1) if character == "\0" or "\ud800" <= character < "\udc80"), 0)
    if bad:
        raise ConfigError(f"`where`: the character at {bad} is in no path and no table; take it out")
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            remedies = {"[": "close it with ]", "!": "write != or not"}
            remedy = f"close it with {text[at]}" if text[at] in "\"'" else remedies.get(text[at], "take it out")
            raise ConfigError(f"`where`: lone {text[at]} at {at + 1}; {remedy}")
        if found.lastgroup != "space":
            tokens.append(_Token(str(found.lastgroup), found[0], at + 1))
        at = found.end()
    return [*tokens, _Token("end", "", len(text) + 1)]


def _typed(column: Column, operator: str, text: str, is_bare: bool, position: int) -> Value:
    """The value as it compares with a column: a number, or text. A date is checked, and stays text."""
    if len(text) > MAX_LENGTH:
        raise ConfigError(
            f"`where`: more than {MAX_LENGTH:,} characters in the value at {position}; give a shorter one, * matches any text"
        )
    number = to_number(text)
    if column.own or column.name in ("path", "label"):
        return number if number is not None and is_bare and operator != "~" else text
    if operator == "~":
        raise ConfigError(f"`where`: ~ before {position} is for text; {column} takes = != < <= > >= in")
    if column.name == "time":
        try:
            period(text)
        except ValueError:
            raise ConfigError(
                f"`where`: {_short(text)} at {position} is no date; write 2024-05-01 or '2024-05-01 12:00'"
            ) from None
        return text
    if number is None:
        raise ConfigError(f"`where`: {column} is a number, not {_short(text)} at {position}; write {column} >= 640")
    return number


def to_number(text: str) -> float | None:
    """The number that a text holds, or None. More than 15 digits are not a number: as floats, neighbours would be equal."""
    found = _NUMBER.fullmatch(text)
    if not found or len(found[1] + found[2]) > 15:
        return None
    value = float(text)
    return value if value == 0 or 1e-300 < abs(value) < 1e300 else None


def period(text: str) -> tuple[int, int]:
    """The first moment of a date or time, and the first moment after it, in ns since 1970.

    Years outside 1678..2261 do not fit into 64 bits; they give the nearest value that does.

    Raises:
        ValueError: it is not a date.
    """
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError(text)
    *fields, zone = found.groups()
    given = [int(number) for number in fields if number]
    begin = datetime(*given[:3], *[1] * (3 - len(given)), *given[3:])  # type: ignore[arg-type]
    if len(given) < 3:
        months = 12 * begin.year + begin.month - 1 + (12 if len(given) == 1 else 1)
        year, month = divmod(months, 12)
        end = begin.replace(year, month + 1) if year <= MAXYEAR else datetime.max
    else:
        length = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}[len(given)]
        end = begin + length if begin < datetime.max - length else datetime.max
    if zone:
        offset = datetime.fromisoformat(f"2000-01-01T00:00{zone}").tzinfo
        begin, end = begin.replace(tzinfo=offset), end.replace(tzinfo=offset)
    return _nanoseconds(begin), _nanoseconds(end)


def _nanoseconds(moment: datetime) -> int:
    if moment.year < 1678:
        return -(2**63)
    return 2**63 - 1 if moment.year > 2261 else int(moment.timestamp()) * 10**9


def _written(value: Value) -> str:
    return f"{value:.15g}" if isinstance(value, float) else '"' + value.replace('"', '""') + '"'


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."
