"""The scripts of a site, each compared with the Python code that does the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spq.config import DISTANCES
from spq.data.decode import to_pixels
from spq.errors import ConfigError
from spq.index.answers import rank_answers
from spq.index.filter import parse, period
from spq.index.filter_tree import And, Comparison, Expr, In, Not, Or, Word
from spq.index.gallery import Gallery
from spq.index.request import SearchRequest
from spq.index.store import Item, Store
from spq.pq.scan import Scan, rank
from spq.pq.tables import distance_tables
from spq.pq.ties import tie_keys
from spq.web.site.columns import write_columns
from test_filter_sql import ITEMS, MANIFEST, TREES, fill, holds
from web import NEEDS_BROWSER, PATIENCE, Page, Site

pytestmark = NEEDS_BROWSER

EXAMPLES_IN_BROWSER = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


SCRIPTS = [f"./static/{name}.js" for name in ("scan", "filter_match", "resize", "distance_tables")]
SCRIPTS.append("./filter_language.js")


@pytest.fixture(scope="module")
def blank(browser: Any, site: Site) -> Iterator[Page]:
    """A page of the site in which modules can be imported."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(site.address + site.facts["content"] + "/icon.svg")
    for path in SCRIPTS:
        page.evaluate("async ([name, path]) => { window[name] = await import(path); }", [Path(path).stem, path])
    yield page
    context.close()


@EXAMPLES_IN_BROWSER
@given(
    shape=st.tuples(st.integers(1, 5), st.sampled_from([2, 16, 64]), st.integers(1, 9)),
    distance=st.sampled_from(DISTANCES),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_table_of_a_descriptor_is_that_of_numpy(
    blank: Page, shape: tuple[int, int, int], distance: str, seed: int
) -> None:
    rng, (M, K, d) = np.random.default_rng(seed), shape
    codebooks, x = rng.normal(size=shape).astype(np.float32), rng.normal(size=M * d).astype(np.float32)
    table = blank.evaluate(
        """([x, codebooks, M, K, distance]) =>
            [...window.distance_tables.tableOfDescriptor(Float32Array.from(x), Float32Array.from(codebooks), M, K, distance)]""",
        [x.tolist(), codebooks.ravel().tolist(), M, K, distance],
    )
    expected = distance_tables(x[None], codebooks, distance)[0]
    np.testing.assert_allclose(np.reshape(table, (M, K)), expected, rtol=1e-5, atol=1e-6)


@EXAMPLES_IN_BROWSER
@given(
    K=st.sampled_from([2, 4, 5, 16, 17, 256]),
    M=st.integers(1, 9),
    N=st.integers(1, 300),
    few=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_table_and_codes_are_ranked_as_by_numpy(blank: Page, K: int, M: int, N: int, few: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, min(K, 3) if few else K, (N, M)).astype(np.uint8)
    table = rng.normal(0, 1, (M, K)).astype(np.float32)
    table = np.round(table) if few else table  # ties, zeros of both signs
    d, rows = rank(table[None], codes, N)
    from spq.pq.sums import pack

    packed, top = pack(codes, K), int(rng.integers(1, N + 1))
    limit = float(d[0, rng.integers(N)])
    ids = np.sort(rng.choice(2**32, N, replace=False)) if N % 2 else np.arange(N)
    found = blank.evaluate(
        """([table, packed, N, M, K, top, limit, ids]) => {
            const bytes = Uint8Array.from(packed), P = window.scan.bytesPerCode(M, K);
            const d = window.scan.distances(Float32Array.from(table), bytes, N, M, K);
            const all = new window.scan.Ranking(d), near = new window.scan.Ranking(d, null, limit);
            const codes = Array.from({length: N}, (_, row) => [...window.scan.unpack(bytes, row, M, K)]);
            const ties = window.scan.tieKeys(Uint32Array.from(ids)), tied = new window.scan.Ranking(d, null, Infinity, ties);
            const fold = window.scan.foldedPage(tied, bytes, P, 1, top);
            return [[...all.first(top).subarray(0, top)], [...all.first(N)], [...d], near.count, codes, fold, [...ties]];
        }""",
        [table.ravel().tolist(), packed.ravel().tolist(), N, M, K, top, limit, ids.tolist()],
    )
    first, everything, distances, near, unpacked, folded, ties = found
    assert ties == (tie_keys(ids) >> np.uint64(32)).tolist()
    assert first == rows[0, :top].tolist()
    assert everything == rows[0].tolist()
    assert np.float32(distances)[rows[0]].tolist() == d[0].tolist()
    assert near == int((d[0] <= np.float32(limit)).sum())
    assert unpacked == codes.tolist()
    request = SearchRequest([0], top, fold=True, offset=1)
    (answers,) = rank_answers(request, table[None], Gallery(0, 0, ids, Scan(codes, K, ids=ids)), None).answers
    assert [ids[[row, *others]].tolist() for row, others in zip(folded["rows"], folded["folded"], strict=True)] == [
        i for _, i in answers
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create(tmp_path_factory.mktemp("columns") / "i", MANIFEST) as opened:
        yield opened


@settings(EXAMPLES_IN_BROWSER, max_examples=40)
@given(
    items=st.lists(ITEMS, max_size=6, unique_by=lambda item: item.path), trees=st.lists(TREES, min_size=8, max_size=8)
)
def test_filters_find_in_the_browser_what_they_find_in_the_store(
    blank: Page, store: Store, tmp_path_factory: pytest.TempPathFactory, items: list[Item], trees: list[Expr]
) -> None:
    by_id = fill(store, items)
    ids, folder = sorted(by_id), tmp_path_factory.mktemp("columns") / "c"
    told = write_columns(store, ids, folder)
    files = {f"{c['own']} {c['key']}": json.loads((folder / c["file"]).read_text("utf-8")) for c in told}
    script = """([texts, files, N]) => texts.map((text) => {
        const none = Array(N).fill(null);
        const valuesOf = ({ own, name }) => files[`${own ? "True" : "False"} ${name}`] ?? none;
        return [...window.filter_match.evaluate(window.filter_language.parse(text), valuesOf, N)];
    })"""
    found = blank.evaluate(script, [[str(tree) for tree in trees], files, len(ids)])
    for tree, mask in zip(trees, found, strict=True):
        assert [i for i, is_true in zip(ids, mask, strict=True) if is_true] == [
            i for i in ids if holds(tree, by_id[i])
        ], str(tree)


REFUSED = [
    "", "label", "label: x", "label:x", "red *.jpg", "red label = x", "red not x", "''", "'a b' = 1", "cat in box",
    "a = 1 b", f"'{'x' * 5001}'", "a " * 201, "width", "width >", "label = a b", "(label = a", "label in (a,", "x = 'y",
    "[a = 1", "a ! b", "width = big", "width ~ 1", "time > 2024-13", "time = 2023-02-29", "not " * 13 + "a = 1",
    "a in ()", "and = 1", "\N{GRINNING FACE} = 1 ]",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_language_refuses_is_refused_in_the_browser_in_the_same_words(blank: Page, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    told = blank.evaluate(
        "(text) => { try { window.filter_language.parse(text); return ''; } catch (e) { return e.message; } }", text
    )
    assert told == str(refused.value).removeprefix("`where`: ")


PIECES = [
    *"()[],=!<>~'\"", "==", "!=", ">=", "<=", "and", "OR", "not", "in", "In", "label", "width", "time", "path", "size",
    "[own]", "[a]]b]", "colour", "5", "-3.5", "1e3", "2024-05", "'2024-05-01 12:00'", "1234567890123456", "cat", "CAT.jpg",
    "*.jpg", "summer/*", "label:x", "a:b", "''", '"a b"', "'it''s'", "é", "e\u0301", "\N{GRINNING FACE}", "ß", "\0",
    "\ufeff", "\x1c", "\x85", "\u3000", "\n", "x" * 45, "y" * 5001,
]  # fmt: skip
SPACES = [" ", " ", " ", "", "  ", "\t"]
WHOLE = [
    "label = cat",
    "width >= 5",
    "red shoes",
    "time < 2024",
    "[own] in (a, 'b c')",
    "path ~ *.jpg",
    "colour not in (5)",
]


def expressions(count: int) -> list[str]:
    """Return texts of which some are expressions, some almost, and some nothing at all."""
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        pieces = rng.choices(
            rng.choice([[*PIECES, *WHOLE], [*WHOLE, "and", "or", "not", "(", ")"]]), k=rng.randint(0, 9)
        )
        if rng.random() < 0.4:
            parts = rng.choices(WHOLE, k=rng.randint(1, 5))
            pieces = [piece for part in parts for piece in (part, rng.choice(["and", "or"]))][:-1]
        texts.append("".join(piece + rng.choice(SPACES) for piece in pieces))
    return texts


def as_in_javascript(expr: Expr) -> dict[str, Any]:
    """Return a tree in the form that the browser gives it."""
    if isinstance(expr, And | Or):
        return {"all" if isinstance(expr, And) else "any": [as_in_javascript(part) for part in expr.parts]}
    if isinstance(expr, Not):
        return {"not": as_in_javascript(expr.part)}
    if isinstance(expr, Word):
        return {"word": expr.text}
    if isinstance(expr, Comparison) and expr.operator == "!=":
        return {"not": as_in_javascript(Comparison(expr.column, "=", expr.value))}
    values = expr.values if isinstance(expr, In) else (expr.value,)
    if not expr.column.own and expr.column.name == "time":
        values = tuple(dict(zip(("begin", "end"), (ns // 10**9 for ns in period(str(v))), strict=True)) for v in values)
    column = {"name": expr.column.name, "own": expr.column.own, "position": expr.column.position}
    return {"column": column, "operator": "=" if isinstance(expr, In) else expr.operator, "values": list(values)}


def test_five_thousand_expressions_are_read_alike_in_python_and_in_the_browser(blank: Page) -> None:
    texts = expressions(5000)
    script = """(texts) => texts.map((text) => {
        try { return window.filter_language.parse(text); } catch (error) { return error.message; }
    })"""
    trees = 0
    for text, found in zip(texts, blank.evaluate(script, texts), strict=True):
        try:
            expected: Any = as_in_javascript(parse(text))
            trees += 1
        except ConfigError as refused:
            expected = str(refused).removeprefix("`where`: ")
        assert found == expected, text
    assert 1000 < trees < 4000


@settings(EXAMPLES_IN_BROWSER, max_examples=30)
@given(
    width=st.integers(1, 90), height=st.integers(1, 90), S=st.integers(1, 40), seed=st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_pixels_are_squeezed_as_by_pillow_number_by_number(
    blank: Page, width: int, height: int, S: int, seed: int
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    rgba = np.concatenate([rgb, np.full((height, width, 1), 255, np.uint8)], 2)
    planes = blank.evaluate(
        "([rgba, w, h, S]) => [...window.resize.toPlanes(Uint8ClampedArray.from(rgba), w, h, S)]",
        [rgba.ravel().tolist(), width, height, S],
    )
    wanted = to_pixels(Image.fromarray(rgb), S)
    wrong = np.abs(np.int64(planes).reshape(wanted.shape) - wanted)
    # of high pictures Pillow 13 resizes the height first, and rounds in between
    assert wrong.max() <= (height > width)
