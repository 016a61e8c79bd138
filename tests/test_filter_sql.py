"""What conditions find in a real store, beside a plain evaluation of the same tree."""

from __future__ import annotations

import fnmatch
import operator
import re
import sqlite3
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.format_1 import make_format_3
from spq.errors import ConfigError
from spq.index.filter import MAX_DEPTH, MAX_TERMS, parse, period
from spq.index.filter_sql import ids_where, known_columns, matching, to_sql
from spq.index.filter_tree import And, Column, Comparison, Expr, In, Not, Or, Word
from spq.index.store import FORMAT, Item, Manifest, Store

MANIFEST = Manifest(FORMAT, "0", "h", "l2", 2, 256, 16)
CODE = np.zeros(2, np.uint8)
COMPARE = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
NUMERIC = re.compile(r"[ \t\n\v\f\r]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t\n\v\f\r]*", re.ASCII)


@pytest.mark.parametrize(
    "text", ["1600", "2300", "9999", "9999-12", "9999-12-31", "9999-12-31 23:59:59", "0001", "1677-01-01"]
)
def test_dates_beyond_those_of_a_database_are_before_or_after_all(text: str) -> None:
    begin, end = period(text)
    assert (begin, end) in [(-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1)]
    condition, values = to_sql(parse(f"time < '{text}' or time = '{text}' or time >= '{text}'"))
    connection = sqlite3.connect(":memory:")
    assert connection.execute(f"SELECT {condition} FROM (SELECT 0 AS mtime_ns)", values).fetchone() == (1,)
    connection.close()


def holds(expr: Expr, item: Item) -> bool:
    """The plain truth of an expression for an item."""
    if isinstance(expr, And):
        return all(holds(part, item) for part in expr.parts)
    if isinstance(expr, Or):
        return any(holds(part, item) for part in expr.parts)
    if isinstance(expr, Not):
        return not holds(expr.part, item)
    if isinstance(expr, Word):
        texts = [item.path, *map(str, facts(Column("label"), item))]
        return any(simple(expr.text) in simple(text) for text in texts)
    if isinstance(expr, In):
        return any(holds(Comparison(expr.column, "=", value), item) for value in expr.values)
    if expr.operator == "!=":
        return not holds(Comparison(expr.column, "=", expr.value), item)
    if not expr.column.own and expr.column.name == "time":
        begin, end = period(expr.value)
        t = item.mtime_ns
        return {"=": begin <= t < end, "<": t < begin, "<=": t < end, ">": t >= end, ">=": t >= begin}[expr.operator]
    return any(compares(fact, expr.operator, expr.value) for fact in facts(expr.column, item))


def simple(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def facts(column: Column, item: Item) -> list[str | int]:
    if column.own:
        return [item.metadata[column.name]] if column.name in item.metadata else []
    if column.name == "label":
        label = item.metadata.get("label", [])
        return label if isinstance(label, list) else [label]
    return [getattr(item, column.name)]


def compares(fact: str | int, sign: str, value: str | float) -> bool:
    if isinstance(value, float):
        return bool(NUMERIC.fullmatch(str(fact))) and COMPARE[sign](float(fact), value)
    value = unicodedata.normalize("NFC", value)
    fact = unicodedata.normalize("NFC", fact) if isinstance(fact, str) else fact
    if sign == "~":
        return fnmatch.fnmatchcase(str(fact), value)
    return COMPARE[sign](fact, value) and (sign == "=" or fact != "")


WORDS = [
    "",
    "abc",
    "Abc",
    "5abc",
    "é",
    "e\u0301",
    "naïve 'x'",
    '"',
    "%",
    "_",
    "a*b",
    "2024-05-01",
    "2023",
    "\N{GRINNING FACE}",
]
DIGITS = ["5", "5.0", " 5", "5\t", "-3", "1e1", ".5", "5.", "+5", "99999999999999999999"]
NO_DIGITS = ["0x10", "inf", "nan", "1_0", "\N{ARABIC-INDIC DIGIT FIVE}", "1e", "."]  # Python takes some of them
CELLS = st.sampled_from(WORDS + DIGITS + NO_DIGITS)
OWN_NAMES = st.sampled_from(["price", "größe", 'a"b', "a.b[0]", "size", "$", "with space"])
PATHS = st.sampled_from(["a.jpg", "b/a.jpg", "b/c.PNG", "b/d/[x].jpg", "é/\udcff.jpg", "e\u0301/b.jpg", "5"])
LABELS = st.sampled_from(["cat", "dog", "5", "hot dog", "ÉTÉ Dog"])
WORDS_OF_PATHS = st.sampled_from(["A.JPG", "b/", "DOG", "É", "e\u0301", "été", "[x]", "\udcff", "T D", "%"])
ITEMS = st.builds(
    Item,
    path=PATHS,
    size=st.sampled_from([0, 5, 1000]),
    mtime_ns=st.sampled_from([-1, 0, *period("2024-05-01"), period("2024-05-01")[1] - 1, period("2023")[0]]),
    width=st.sampled_from([0, 5, 640]),
    height=st.just(480),
    code=st.just(CODE),
    metadata=st.builds(
        lambda own, label: own | label,
        st.dictionaries(OWN_NAMES, CELLS, max_size=4),
        st.one_of(st.just({}), st.builds(lambda one: {"label": one}, LABELS | st.lists(LABELS, max_size=3))),
    ),
)
GLOBS = st.lists(
    st.sampled_from(["*", "?", "a", "b/", ".jpg", "[ab]", "[!a]", "5", "é", "e\u0301", "[[]"]), max_size=4
).map("".join)
OWN = st.builds(Column, OWN_NAMES, st.just(True))
TEXT_COLUMNS = st.one_of(OWN, OWN, st.sampled_from([Column("path"), Column("label")]))
NUMBERS = st.sampled_from([5.0, 0.0, -3.0, 10.0, 0.5, 640.0, 1e15])
SIGNS = st.sampled_from([*COMPARE, "!="])
DATES = st.sampled_from(["2024-05-01", "2023", "2024-05", "1970-01-01T00:00Z", "2024-05-02 00:00"])
LEAVES = st.one_of(
    st.builds(Comparison, TEXT_COLUMNS, SIGNS, CELLS | PATHS | LABELS | NUMBERS),
    st.builds(Comparison, TEXT_COLUMNS, st.just("~"), GLOBS),
    st.builds(In, TEXT_COLUMNS, st.lists(CELLS | LABELS | NUMBERS, min_size=1, max_size=3).map(tuple)),
    st.builds(Comparison, st.sampled_from([Column("width"), Column("height"), Column("size")]), SIGNS, NUMBERS),
    st.builds(Comparison, st.just(Column("time")), SIGNS, DATES),
    st.builds(In, st.just(Column("time")), st.lists(DATES, min_size=1, max_size=2).map(tuple)),
    st.builds(Word, (WORDS_OF_PATHS | CELLS | LABELS).filter(bool)),
)
TREES: st.SearchStrategy[Expr] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        *(st.lists(inner, min_size=2, max_size=3).map(lambda parts, n=node: n(tuple(parts))) for node in (And, Or)),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("conditions") / "i", MANIFEST)
    yield store
    store.close()


@pytest.mark.parametrize("names", [("Café/é.jpg", "été.jpg", "ガ.png"), ("Ä b.jpg", "ñ/ü/ö.jpg", "Å.jpg")])
def test_a_name_is_found_however_the_disk_or_the_user_spells_it(store: Store, names: tuple[str, ...]) -> None:
    for disk, user in (("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")):
        paths = [unicodedata.normalize(disk, name) for name in names]
        paths[0] = unicodedata.normalize(disk, "Café/") + unicodedata.normalize(user, "é.jpg")  # of two disks
        by_id = fill(store, [Item(path, 1, 1, width=1, code=CODE) for path in paths])
        for path in paths:
            written = unicodedata.normalize(user, path)
            wild = "?" + unicodedata.normalize("NFC", path)[1:]
            for where in (
                f"path = '{written}'",
                f"path ~ '{written[:-4]}*'",
                f"path ~ '{wild}'",
                f"path in ('{written}')",
            ):
                assert [by_id[i].path for i in matching(store, where)] == [path], where
        assert len(matching(store, f"path != '{written}'")) == len(paths) - 1


def fill(store: Store, items: list[Item]) -> dict[int, Item]:
    """Exactly these items; id -> item."""
    with store.writing():
        store.remove(store.stats())
        store.put(items)
    return {store.item(item.path).id: item for item in items}


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(ITEMS, max_size=6, unique_by=lambda item: item.path), trees=st.lists(TREES, min_size=8, max_size=8)
)
def test_the_store_finds_what_a_plain_evaluation_finds(store: Store, items: list[Item], trees: list[Expr]) -> None:
    by_id = fill(store, items)
    for tree in trees:
        expected = sorted(id_ for id_, item in by_id.items() if holds(tree, item))
        for same in (tree, parse(str(tree))):
            assert ids_where(store, same).tolist() == expected, str(tree)


def test_no_text_of_the_user_is_in_the_sql() -> None:
    condition, values = to_sql(
        parse("""[x'); DROP TABLE items; --] = 'quoted''"' and path ~ secret* or label in (a, 7)""")
    )
    assert "DROP" not in condition
    assert "secret" not in condition
    assert condition.count("?") == len(values) == 5


def test_the_largest_expressions_that_are_read_are_also_run(store: Store) -> None:
    fill(store, [Item("a.jpg", 1, 1, code=CODE, metadata={"price": "199", "label": ["x"]})])
    levels = MAX_DEPTH - 1
    for text in (
        " or ".join(f"price = {n}" for n in range(MAX_TERMS)),
        f"price in ({', '.join(map(str, range(MAX_TERMS)))})",
        f"path in ({', '.join('b' * (MAX_TERMS - 1))}, a.jpg)",
        " and ".join(["time != 2024"] * MAX_TERMS),
        "not " * (levels // 2 * 2) + "price = 199",
        "(label = y or label = z and " * levels + "label = x or price = 199" + ")" * levels + " or price = 199",
        "label = x or label = y and not (" * (levels // 2) + "price = 1" + ")" * (levels // 2),
    ):
        assert len(matching(store, text)) == 1


def test_examples_of_the_guide_find_what_it_promises(store: Store) -> None:
    items = [
        Item("summer/a.jpg", 10, period("2024-05-01")[0], width=800, code=CODE, metadata={"label": "shoe", "price": "12"}),
        Item("summer/b.jpg", 20, period("2024-04-30")[0], width=640, code=CODE, metadata={"label": "hat", "price": "9.5"}),
        Item("winter/c.png", 30, period("2023")[0], width=100, code=CODE, metadata={"label": ["shoe", "red"], "price": ""}),
        Item("bare.jpg", 30, period("2023")[0], width=100, code=CODE),
        Item("broken.jpg", 30, 0, reason="the file is empty", metadata={"label": "shoe"}),
    ]  # fmt: skip
    by_id = fill(store, items)

    def found(text: str) -> list[str]:
        return [by_id[i].path[0:8].split("/")[-1] for i in matching(store, text)]

    assert found("label = shoe") == ["a", "c"]
    assert found("label = shoe and (width >= 640 or path ~ winter/*) and not time < 2024-05") == ["a"]
    assert found("label != shoe") == ["b", "bare.jpg"]
    assert found("label in (red, hat)") == ["b", "c"]
    assert found("price < 10") == ["b"]  # as text "12" would be before "9.5"
    assert found("price >= 0") == ["a", "b"]
    assert found("price < zebra") == ["a", "b"]
    assert found("price = ''") == ["c"]
    assert found("time = 2024-05-01") == ["a"]
    assert found("path ~ *.jpg") == ["a", "b", "bare.jpg"]
    assert found("size > 15 and not path ~ */*") == ["bare.jpg"]
    assert found("SUMMER") == ["a", "b"]
    assert found("summer shoe") == ["a"]
    assert found("red or hat") == ["b", "c"]
    assert found("shoe and not summer/a") == ["c"]


def test_an_unknown_column_is_refused_with_a_list_of_the_columns(store: Store) -> None:
    fill(store, [Item("a.jpg", 1, 1, code=CODE, metadata={"unit price": "1", "shop": "north", "size": "42"})])
    known = r"columns are path, width, height, size, time, shop, \[size\], \[unit price\]$"
    with pytest.raises(ConfigError, match=f"^`where`: unknown column colour at 19; {known}"):
        matching(store, "width > 1 and not(colour = red)")
    with pytest.raises(ConfigError, match=f"^`where`: unknown column Shops at 1; did you mean shop\\? {known}"):
        matching(store, "Shops = north")
    with pytest.raises(ConfigError, match=f"^`where`: unknown column label at 1; {known}"):
        matching(store, "label = shoe")
    assert len(matching(store, "[size] = 42 and size = 1")) == 1
    fill(store, [Item("a.jpg", 1, 1, code=CODE, metadata={"label": "shoe"})])
    with pytest.raises(ConfigError, match=r"columns are path, width, height, size, time, label$"):
        matching(store, "[unit price] = 1")


def test_an_index_of_format_1_can_be_filtered_by_its_columns(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    Store.create(folder, MANIFEST).close()
    make_format_3(folder)
    database = sqlite3.connect(folder / "items.sqlite")
    database.executescript("DROP TABLE items; DROP TABLE removed; PRAGMA user_version = 0;")
    database.execute("CREATE TABLE items (id, path, hash, size, mtime_ns, width, height, status, reason, code)")
    database.execute("INSERT INTO items VALUES (1, 'a.jpg', NULL, 5, 0, 7, 7, 0, NULL, x'0000')")
    database.commit()
    database.close()
    with Store.open(folder) as store:
        assert matching(store, "width = 7 and path ~ *.jpg").tolist() == [1]
        assert matching(store, "JPG").tolist() == [1]
        assert not len(matching(store, "shoe"))
        with pytest.raises(
            ConfigError, match=r"unknown column label at 1; columns are path, width, height, size, time$"
        ):
            matching(store, "label = shoe")


@pytest.mark.parametrize("cell", ["{", "[1]", "5", '{"label": ', "x" * 50, None])
def test_a_broken_cell_has_no_columns_and_stops_no_filter(store: Store, cell: str | None) -> None:
    fill(store, [Item(f"{n}.jpg", 1, 1, code=CODE, metadata={"label": "shoe", "n": str(n)}) for n in (1, 2)])
    database = sqlite3.connect(store.folder / "items.sqlite")
    database.execute("UPDATE items SET metadata = ? WHERE path = '1.jpg'", (cell,))
    database.commit()
    database.close()
    assert len(matching(store, "label = shoe")) == len(matching(store, "n = 2")) == 1
    assert [name for name, _, _ in known_columns(store)] == ["path", "width", "height", "size", "time", "label", "n"]
    with pytest.raises(ConfigError, match="unknown column m"):
        matching(store, "m = 2")
    store.damaged.clear()
    assert [item.path for item in store.items()] == ["2.jpg"]
    assert len(store.damaged) == 1
