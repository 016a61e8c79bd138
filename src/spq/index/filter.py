"""The filter language of `where`: conditions on pictures, from text to a tree. `filter_sql.py` makes SQL of the tree.

    label = shoe and (width >= 640 or path ~ summer/*) and not time < 2024-05
    red shoes and not "summer 2024"

A word without a column, or a text in quotes, is true where the path or the label contains it, in upper or lower case. Words that
follow each other must all be there. All else compares a column with a value.

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
from datetime import MAXYEAR, datetime, timedelta
from typing import NamedTuple

from spq.errors import ConfigError
from spq.index.filter_tree import BUILT_IN, RESERVED, WORD, And, Column, Comparison, Expr, In, Not, Or, Value, Word

MAX_TERMS, MAX_DEPTH, MAX_LENGTH = 200, 12, 5000  # SQLite can handle these

_TOKEN = re.compile(
    r"""(?P<operator>==|[<>!]=|[=<>~])|(?P<mark>[(),])|(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*')"""
    rf"""|(?P<space>\s+)|(?P<own>\[(?:[^\]]|\]\])+\])|(?P<word>{WORD.pattern})""",
)
_REMEDIES = {  # of a character that begins no token
    '"': ("is not closed", 'add another " at the end of the text'),
    "'": ("is not closed", "add another ' at the end of the text"),
    "[": ("is not closed", "add ] at the end of the name"),
    "!": ("has no meaning", "write != or not"),
}
_NUMBER = re.compile(r"[+-]?(?=\.?\d)(\d*)\.?(\d*)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)  # fmt: skip


def parse(text: str) -> Expr:
    """Parse an expression. `str()` of the tree is an expression that parses to the same tree.

    >>> print(parse("label=shoe AND NOT (width < 640 or [unit price] in (5, '5.-'))"))
    label = "shoe" and not (width < 640 or [unit price] in (5, "5.-"))

    Raises:
        ConfigError: it is not an expression; the message says where, and what to write.
    """
    return _Parser(text).parse()


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
            expr = self._comparison() if self._begins_comparison() else self._words()
        self.depth -= 1
        return expr

    def _begins_comparison(self) -> bool:
        """Whether a column comes next, or what neither a column nor a word can be."""
        following = [token.text.lower() for token in self.tokens[self.next + 1 : self.next + 3]]
        is_compared = self.tokens[min(self.next + 1, len(self.tokens) - 1)].kind == "operator"
        is_compared |= following[:1] == ["in"] or following == ["not", "in"]
        return not self._is_text() or (self._now.kind == "word" and is_compared)

    def _is_text(self) -> bool:
        """Whether a word or a text in quotes comes next."""
        return self._now.kind == "quoted" or (self._now.kind == "word" and self._now.text.lower() not in RESERVED)

    def _words(self) -> Expr:
        found = [self._word()]
        while self._is_text() and not self._begins_comparison():
            found.append(self._word())
        return And(tuple(found)) if len(found) > 1 else found[0]

    def _word(self) -> Word:
        content, is_bare, position = self._text()
        _check_length(content, position)
        if is_bare:
            _check_word(content, position)
        elif not content:
            raise ConfigError(f"`where`: no word in the quotes at {position}; write one")
        elif self._now.kind == "operator":
            column = content if content in BUILT_IN else f"[{_short(content)}]"
            raise ConfigError(f"`where`: a column at {position} has quotes; write {column}")
        return Word(content)

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
        if kind != "word" or text.lower() in RESERVED:
            raise self._unexpected("a word, or a column such as label or width")
        self._advance()
        return Column(text, text not in BUILT_IN, position)

    def _value(self, column: Column, operator: str) -> Value:
        if not self._is_text():
            raise self._unexpected("a value; put quotes around a value that is not one word")
        content, is_bare, position = self._text()
        return _typed(column, operator, content, is_bare, position)

    def _text(self) -> tuple[str, bool, int]:
        """Step over a word or a text in quotes: without the quotes, whether it had none, and its position."""
        kind, text, position = self._advance()
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise ConfigError(
                f"`where`: more than {MAX_TERMS} values at {position}; use fewer, or mark these pictures in a metadata column"
            )
        is_bare = kind == "word"
        content = text if is_bare else text[1:-1].replace(text[0] * 2, text[0])
        return content, is_bare, position

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
            trouble, remedy = _REMEDIES.get(text[at], ("has no meaning", "take it out"))
            raise ConfigError(f"`where`: the {text[at]} at {at + 1} {trouble}; {remedy}")
        if found.lastgroup != "space":
            tokens.append(_Token(str(found.lastgroup), found[0], at + 1))
        at = found.end()
    return [*tokens, _Token("end", "", len(text) + 1)]


def _check_word(word: str, position: int) -> None:
    """Refuse what was probably meant as a condition."""
    column = word.partition(":")[0]
    if word in BUILT_IN:
        raise ConfigError(f'`where`: {word} at {position} is a column; write {word} = value, or "{word}" for the word')
    if column in BUILT_IN:
        raise ConfigError(f"`where`: {_short(word)} at {position} is no condition; write {column} = value")
    if "*" in word:
        raise ConfigError(f"`where`: the word at {position} has a wildcard; write path ~ {_short(word)}")


def _check_length(text: str, position: int) -> None:
    if len(text) > MAX_LENGTH:
        raise ConfigError(
            f"`where`: more than {MAX_LENGTH:,} characters in the value at {position}; give a shorter one, * matches any text"
        )


def _typed(column: Column, operator: str, text: str, is_bare: bool, position: int) -> Value:
    """The value as it compares with a column: a number, or text. A date is checked, and stays text."""
    _check_length(text, position)
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


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."
