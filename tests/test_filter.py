from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spq.errors import ConfigError
from spq.index.filter import parse, period
from spq.index.filter_tree import And, Column, Comparison, Expr, In, Not, Or, Word, columns

NAMES = st.one_of(
    st.sampled_from(["colour", "unit price", "a]b", "size", "and", "Größe", '"', "=", "5", "shop.city", " "]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
).filter(lambda name: name != "label")
TEXTS = st.one_of(
    st.sampled_from(["shoe", "", "5", "it's", 'a "b"', "*.jpg", "[!a]?", "not", "naïve\udcff", "1e5", "a\nb"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
NUMBERS = st.one_of(
    st.sampled_from([0.0, 5.0, -3.0, 0.25, 1e15, 1e-7, 123456789012345.0]),
    st.floats(-1e6, 1e6).map(lambda x: round(x, 4)),
)
DATES = st.sampled_from(
    ["2024", "2024-05", "2024-05-01", "2024-05-01T12:30", "2024-05-01 12:30:59", "1999-12-31T23:59Z"]
)
ORDER = ["=", "!=", "<", "<=", ">", ">="]


def pairs(values: st.SearchStrategy, names: st.SearchStrategy, operators: list[str]) -> st.SearchStrategy[Expr]:
    compared = st.builds(Comparison, names, st.sampled_from(operators), values)
    return compared | st.builds(In, names, st.lists(values, min_size=1, max_size=3).map(tuple))


OWN = st.builds(Column, NAMES, st.just(True))
TEXT_COLUMNS = st.sampled_from([Column("path"), Column("label")]) | OWN
LEAVES = st.one_of(
    pairs(TEXTS | NUMBERS, TEXT_COLUMNS, ORDER),
    st.builds(Comparison, TEXT_COLUMNS, st.just("~"), TEXTS),
    pairs(NUMBERS, st.sampled_from([Column("width"), Column("height"), Column("size")]), ORDER),
    pairs(DATES, st.just(Column("time")), ORDER),
    st.builds(Word, TEXTS.filter(bool)),
)
TREES: st.SearchStrategy[Expr] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        *(st.lists(inner, min_size=2, max_size=3).map(lambda parts, n=node: n(tuple(parts))) for node in (And, Or)),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_a_tree_that_is_written_and_read_again_is_the_same(tree: Expr) -> None:
    assert parse(str(tree)) == tree


FRAGMENTS = st.sampled_from(
    [*"()[],=!<>~'\"", "and", "or", "not", "in", "label", "width", "time", "[own]", "5", "2024-05", "cat", " ", "  "]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(FRAGMENTS, max_size=12).map(" ".join), st.text(st.characters())))
@example("(" * 100_000)
@example("not " * 100_000)
@example("a=1 or " * 100_000)
@example("label ~ '\ud800'")
def test_random_text_raises_only_a_config_error_of_one_line(text: str) -> None:
    error = ""
    try:
        tree = parse(text)
    except ConfigError as refused:
        error = str(refused)
    assert error or parse(str(tree)) == tree
    assert not error or (error.startswith("`where`: ") and "; " in error and "\n" not in error)


def test_not_binds_before_and_and_before_or() -> None:
    a, b, c = (Comparison(Column(name, True), "=", 1.0) for name in "abc")
    assert parse("a=1 or b=1 and c=1") == Or((a, And((b, c))))
    assert parse("(a=1 or b=1) AND c=1") == And((Or((a, b)), c))
    assert parse("not a=1 and b == 1") == And((Not(a), b))
    assert parse("not (a=1 and b=1)") == Not(And((a, b)))
    assert parse("a=1 or b=1 or c=1") == Or((a, b, c))


def test_words_numbers_and_quotes_decide_the_comparison() -> None:
    def value(text: str) -> object:
        return parse(f"colour = {text}").value

    assert [value(text) for text in ("12", "-3.5", "1e3", ".5", "5.")] == [12.0, -3.5, 1000.0, 0.5, 5.0]
    assert [value(text) for text in ("'12'", "1,".rstrip(","), '"1"')] == ["12", 1.0, "1"]
    assert value("1234567890123456") == "1234567890123456"  # as a float it would equal its neighbours
    assert [value(text) for text in ("2024-05-01", "*.jpg", "1e999", "0x10", "'it''s'")] == [
        "2024-05-01", "*.jpg", "1e999", "0x10", "it's"
    ]  # fmt: skip
    assert parse("colour ~ 12").value == "12"
    assert parse("label not in (a, 'b c', 3)") == Not(In(Column("label"), ("a", "b c", 3.0)))


def test_words_without_a_column_are_looked_for_in_path_and_label() -> None:
    red, shoes, a = Word("red"), Word("shoes"), Comparison(Column("a", True), "=", 1.0)
    assert parse("red") == red
    assert parse("2024") == Word("2024")
    assert parse("red shoes") == parse("red and 'shoes'") == And((red, shoes))
    assert parse('"red ""shoes"""') == Word('red "shoes"')
    assert parse("not red shoes or a = 1") == Or((Not(And((red, shoes))), a))
    assert parse("(red shoes) and a = 1") == parse("red shoes and a = 1") == And((And((red, shoes)), a))
    assert parse("a = 1 and red") == And((a, red))
    assert parse('"label" Label IN_STOCK') == And((Word("label"), Word("Label"), Word("IN_STOCK")))
    assert str(parse('red "a ""b"""')) == '"red" and "a ""b"""'
    assert not list(columns(parse("red shoes")))


def test_brackets_name_a_column_of_the_user_with_any_name() -> None:
    assert parse("[size] = 42").column == Column("size", own=True)
    assert parse("size = 42").column == Column("size")
    assert parse("[a]]b (c)] = 1").column == Column("a]b (c)", own=True)
    assert parse("[label] = shoe").column == Column("label")  # there is one label
    assert [c.position for c in columns(parse("width > 1 and (not colour = red or label in (a))"))] == [1, 20, 36]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends at 1; expected a word, or a column such as label or width"),
        ("   ", "ends at 4; expected a word"),
        ("label", 'label at 1 is a column; write label = value, or "label" for the word'),
        ("red label", 'label at 5 is a column; write label = value, or "label" for the word'),
        ("width 640", "width at 1 is a column; write width = value"),
        ("label:shoe", "label:shoe at 1 is no condition; write label = value"),
        ("label: shoe", "label: at 1 is no condition; write label = value"),
        ("red *.jpg", "the word at 5 has a wildcard; write path ~ *.jpg"),
        ("red shoes label = boot", "has label at 11; expected and, or, or the end"),
        ("red not shoes", "has not at 5; expected and, or, or the end"),
        ("[unit price]", "ends at 13; expected one of = != < <= > >= ~ in"),
        ("red ''", "no word in the quotes at 5; write one"),
        ("cat in box", "has box at 8; expected ("),
        ("label =", "ends at 8; expected a value; put quotes around"),
        (
            "label = red shoe",
            "has shoe at 13; expected and, or, or the end; put quotes around a value of several words",
        ),
        ("label = 'red shoe", "the ' at 9 is not closed; add another ' at the end"),
        ('label = "red', 'the " at 9 is not closed; add another " at the end'),
        ("label ! red", "the ! at 7 has no meaning; write != or not"),
        ("[unit price = 3", "the [ at 1 is not closed; add ] at the end of the name"),
        ("[] = 3", "the [ at 1 is not closed"),
        ("label = a] ", "the ] at 10 has no meaning; take it out"),
        ("(label = a", "ends at 11; expected )"),
        ("label in a", "has a at 10; expected ("),
        ("label in ()", "has ) at 11; expected a value"),
        ("label in (a b)", "has b at 13; expected )"),
        ("label not = a", "label at 1 is a column; write label = value"),
        ("label = and", "has and at 9; expected a value; put quotes around"),
        ("and = 3", "has and at 1; expected a word, or a column"),
        ("'label' = a", "a column at 1 has quotes; write label"),
        ('"unit price" > 3', "a column at 1 has quotes; write [unit price]"),
        ("width = wide", "width is a number, not wide at 9; write width >= 640"),
        ("width ~ 6*", "~ before 9 is for text; width takes = != < <= > >= in"),
        ("time ~ 2024*", "~ before 8 is for text; time takes"),
        ("time > yesterday", "yesterday at 8 is no date; write 2024-05-01 or '2024-05-01 12:00'"),
        ("time > 2024-02-30", "2024-02-30 at 8 is no date"),
        ("time > 9999-13-31", "9999-13-31 at 8 is no date"),
        ("time in (2024, 1.5)", "1.5 at 16 is no date"),
        ("label = a\0", "the character at 10 is in no path and no table; take it out"),
        (f"label = {'x' * 99} y", f"has y at {10 + 99}"),
        ("label = a " + "x" * 99, "has " + "x" * 37 + "... at 11"),
        ("not " * 60 + "a=1", "more than 12 levels at 49; take some apart"),
        (f"label in ({','.join('a' * 201)})", "more than 200 values at 411; use fewer, or mark"),
        (f"path ~ '{'*' * 5001}'", "more than 5,000 characters in the value at 8; give a shorter one"),
    ],
)
def test_an_error_has_a_position_and_a_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"`where`: {message}")
    assert ";" in str(caught.value)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "begin", "seconds"),
    [
        ("2024", datetime(2024, 1, 1), 366 * 86400),
        ("2024-02", datetime(2024, 2, 1), 29 * 86400),
        ("2023-12", datetime(2023, 12, 1), 31 * 86400),
        ("2024-05-01", datetime(2024, 5, 1), 86400),
        ("2024-03-31", datetime(2024, 3, 31), 23 * 3600),  # the clocks go forward
        ("2024-05-01T12:30", datetime(2024, 5, 1, 12, 30), 60),
        ("2024-05-01 12:30:59", datetime(2024, 5, 1, 12, 30, 59), 1),
        ("2024-05-01T12:30Z", datetime(2024, 5, 1, 12, 30, tzinfo=UTC), 60),
        ("2024-05-01T12:30-05:30", datetime(2024, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=-5.5))), 60),
        ("1950-05-01", datetime(1950, 5, 1), 86400),
    ],
)
def test_a_date_is_its_whole_year_month_day_minute_or_second_in_local_time(
    text: str, begin: datetime, seconds: int
) -> None:
    assert period(text) == (int(begin.timestamp()) * 10**9, (int(begin.timestamp()) + seconds) * 10**9)


@pytest.mark.parametrize(
    "text", ["", "24", "2024-5", "2024-05-01T", "2024-05-01T12", "2024-05Z", "2024-13", "٢٠٢٤", "0000"]
)
def test_text_that_is_not_a_date_is_refused(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        period(text)
