"""A site without a server, in real Chromium from a plain file server: it must answer as `spq search` does."""

from __future__ import annotations

import base64
import functools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_page import violations

from spq.config import DISTANCES, Recipe
from spq.data.decode import to_pixels
from spq.index.answers import rank_answers
from spq.index.explain import explain
from spq.index.filter import Expr
from spq.index.image_index import ImageIndex
from spq.index.request import SearchRequest
from spq.index.store import Item, Store
from spq.model.model import Model
from spq.pq.codewords import members
from spq.pq.scan import Scan, rank
from spq.pq.tables import distance_tables
from spq.web.site.columns import write_columns
from spq.web.site.site import Options, export_web
from test_export import tiny
from test_filter_sql import ITEMS, MANIFEST, TREES, fill, holds

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
    pytest.mark.slow,
]
PATIENCE = 60_000  # ms: a loaded test machine is slow
SUB_PATH = "some/where/gallery/"
IN_BROWSER = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Page = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures of three sizes and two formats in two classes, with a table; some are the same file twice."""
    from spq.data.open import open_images

    root = tmp_path_factory.mktemp("web") / "photos"
    sample, rng = open_images("sample:test"), np.random.default_rng(0)
    rows = ["file_name,label,shop,price"]
    for n in range(120):
        name = f"{('left', 'right')[n % 2]}/{n:03d}.{'jpg' if n % 3 else 'png'}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(sample.image(n)).astype(float) * rng.uniform(0.4, 1, 3)
        size = (28 + 20 * (n % 3), 40 + 30 * (n % 3))
        Image.fromarray(pixels.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).save(root / name, quality=90)
        rows.append(f"{name},{('shoe', 'hat')[n % 2]},{'north' if n % 5 else 'été'},{n}")
        if n % 20 == 0:
            shutil.copy(root / name, root / f"again-{n}{Path(name).suffix}")
            rows.append(f"again-{n}{Path(name).suffix},copy,,")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return root


class Site:
    """An index, its site, and a file server over that alone, in a folder below the root."""

    def __init__(self, folder: Path, model: Model, photos: Path, options: Options) -> None:
        self.index = ImageIndex.build(folder / "i", model, photos)
        self.index.remove([next(self.index.store.items()).path])  # so that ids are no row numbers
        self.out = folder / SUB_PATH
        self.out.parent.mkdir(parents=True)
        self.facts = export_web(folder / "i", self.out, options)
        handler = functools.partial(QuietHandler, directory=str(folder))
        self.server = QuietServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.root = f"http://127.0.0.1:{self.server.server_port}/"
        self.address = self.root + SUB_PATH

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.index.close()


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a page that is closed does not wait for its pictures


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def made(photos: Path, tiny_recipe: Recipe, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(K: int = 16, M: int = 8, distance: str = "l2", options: Options | None = None) -> Site:
        model = tiny(tiny_recipe, K, M, distance)
        sites.append(Site(tmp_path / str(len(sites)), model, photos, options or Options(thumbnail=64)))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture(scope="module")
def site(photos: Path, tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for the tests that only look, with duplicates and without onnxruntime-web."""
    model = tiny(tiny_recipe, 16, 8, "l2")
    opened = Site(tmp_path_factory.mktemp("site"), model, photos, Options(thumbnail=64, dupes=True))
    yield opened
    opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[[Site], Page]]:
    """Opens a site where nothing else can be reached, and any mistake that the page reports fails the test."""
    contexts, mistakes = [], []

    def go(site: Site, hash_: str = "") -> Page:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)

        def only_the_site(route: Any) -> None:
            if route.request.url.startswith(site.address):
                route.continue_()
            else:
                mistakes.append(f"asked for {route.request.url}")
                route.abort()

        context.route(lambda url: url.startswith("http"), only_the_site)
        page = context.new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.on("console", lambda said: mistakes.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(site.address + hash_)
        page.evaluate("async (name) => { window.api = (await import(name)).api; }", f"./{site.facts['content']}/api.js")
        return page

    yield go
    for context in contexts:
        context.close()
    assert not mistakes


def asked(page: Page, **query: Any) -> dict[str, Any]:
    """What the page's own api.js answers to a search."""
    answer: dict[str, Any] = told(page, f"window.api.search({{ query: {json.dumps(query)} }})")
    return answer


def told(page: Page, script: str) -> Any:
    """The value of a promise, by way of JSON: Chromium sometimes loses one that is handed out as it is."""
    return json.loads(page.evaluate(f"(async () => JSON.stringify(await {script}))()"))


def pairs(hits: list[Any]) -> list[tuple[int, float]]:
    return [(h["id"], h["distance"]) if isinstance(h, dict) else (h.id, h.distance) for h in hits]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("K", "M"), [(16, 4), (16, 8), (16, 16), (16, 7), (64, 3), (256, 4)])
def test_more_like_this_and_not_like_that_rank_as_spq_search_does_to_the_last_bit(
    made: Callable[..., Site], visit: Callable[..., Page], K: int, M: int, distance: str
) -> None:
    if K == 256 and M == 4:
        K, M = 64, 8  # the collection has too few pictures to make 256 codewords of
    site = made(K, M, distance)
    page, index = visit(site), site.index
    ids = [item.id for item in index.store.items()]
    for id_ in (ids[0], ids[17], ids[-1]):
        found = asked(page, ids=[id_], top=len(ids))
        assert pairs(found["hits"]) == pairs(index.search(id_, len(ids), exclude=[id_]))
        assert found["total"] == len(ids) - 1
    some, others = ids[3:6], ids[40:42]
    everything = asked(page, ids=some, not_ids=others, top=len(ids))["hits"]
    expected = index.search(some, len(ids), negative=others, exclude=[*some, *others])
    assert pairs(everything) == pairs(expected)
    paths = index.store.paths(ids)
    assert [hit["path"] for hit in everything] == [paths[hit.id] for hit in expected]
    weights = [1.0, 0.0, 2.5, 0.2, 1.0]
    weighed = asked(page, ids=some, not_ids=others, weights=weights, top=len(ids))["hits"]
    own = index.search(some, len(ids), negative=others, exclude=[*some, *others], weights=weights)
    assert pairs(weighed) == pairs(own)


def test_pages_cut_off_folding_and_filters_are_those_of_spq_search(site: Site, visit: Callable[..., Page]) -> None:
    page, index = visit(site), site.index
    (query, *_) = (item.id for item in index.store.items() if item.path.startswith("again-"))
    everything = index.search(query, 200, exclude=[query])
    limit = everything[30].distance
    for options in (
        {"offset": 7, "top": 5},
        {"max_distance": limit, "top": 100},
        {"fold": True, "top": 100},
        {"fold": True, "top": 4, "offset": 3},
        {"where": "label = hat and not price < 50", "top": 100},
        {"where": "shop = été", "fold": True, "max_distance": limit, "top": 100},
        {"where": "width > 10000"},
    ):
        hits = asked(page, ids=[query], **options)["hits"]
        expected = index.search(query, **{"top": 20, "exclude": [query], **options})
        assert pairs(hits) == pairs(expected), options
        assert [hit["rank"] for hit in hits] == [hit.rank for hit in expected]
        paths = index.store.paths([i for hit in hits for i in hit["folded"]])
        assert [[paths[i] for i in hit["folded"]] for hit in hits] == [list(hit.folded) for hit in expected]
    assert any(hit.folded for hit in index.search(query, 100, fold=True))


def test_what_else_the_page_asks_is_answered_as_by_the_server(site: Site, visit: Callable[..., Page]) -> None:
    from fastapi.testclient import TestClient

    from spq.web.server.app import Settings, create_app

    page = visit(site)
    items = list(site.index.store.items())
    a, b = items[5].id, items[50].id
    app = create_app(site.index, Settings(cache=site.out.parent / "cache"))
    with TestClient(app, base_url="http://127.0.0.1") as server:

        def same(script: str, path: str, ignored: tuple[str, ...] = ()) -> None:
            mine, theirs = told(page, script), server.get(path).json()
            for answer in (mine, theirs):
                for item in [
                    answer,
                    *answer.get("items", []),
                    *(i for g in answer.get("groups", []) for i in g["items"]),
                ]:
                    for key in ("thumb", *ignored):
                        item.pop(key, None)
            assert approximately(mine) == approximately(theirs), path

        own = ("file", "key", "own")
        status, known = told(page, "window.api.status()"), server.get("/api/status").json()
        assert [{k: v for k, v in c.items() if k not in own} for c in status.pop("columns")] == known.pop("columns")
        assert {key: status[key] for key in known if key != "watching"} == {
            k: v for k, v in known.items() if k != "watching"
        }
        for order in ("id", "path", "time", "new"):
            page_of = f"/api/browse?order={order}&offset=3&top=70"
            same(f"window.api.browse({{order: '{order}', offset: 3, top: 70}})", page_of, ("code",))
        page_of = "/api/browse?where=label+%3D+shoe&order=path&top=9"
        same("window.api.browse({where: 'label = shoe', order: 'path', top: 9})", page_of, ("code",))
        same(f"window.api.item({a})", f"/api/items/{a}")
        same(f"window.api.explain({{query: {{ids: [{a}]}}, id: {b}}})", f"/api/explain?query_id={a}&id={b}")
        same("window.api.codewords()", "/api/codewords")
        for m, k in ((0, 0), (3, 7), (7, 15)):
            same(f"window.api.codeword({m}, {k}, {{top: 40}})", f"/api/codewords/{m}/{k}?top=40", ("code",))
        while (answer := server.get("/api/duplicates")).status_code == 202:
            pass
        assert answer.json()["groups"]
        same("window.api.duplicates()", "/api/duplicates")
        assert site.facts["duplicates"] == len(answer.json()["groups"])
        for asked in ({}, {"where": "label = shoe"}):
            as_lists = "(map) => [[...map.ids], [...map.x], [...map.y], map.count, map.total]"
            known = server.get("/api/map", params=asked).json()
            columns = [decoded(known[name], kind) for name, kind in (("ids", "<i4"), ("x", "<f4"), ("y", "<f4"))]
            assert [*columns, known["count"], known["total"]] == told(
                page, f"window.api.map({json.dumps(asked)}).then({as_lists})"
            )


def approximately(value: Any) -> Any:
    """Distances that JavaScript adds up in double precision."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-5, abs=1e-6)
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    return [approximately(inner) for inner in value] if isinstance(value, list) else value


def decoded(base64: str, kind: str) -> list[float]:
    import base64 as b

    return np.frombuffer(b.b64decode(base64), kind).tolist()


def test_a_site_of_dot_says_why_and_what_is_typical_as_the_index_does(
    made: Callable[..., Site], visit: Callable[..., Page]
) -> None:
    site = made(distance="dot")
    page, index = visit(site), site.index
    ids, codes = index.store.codes()
    a, b = int(ids[5]), 50
    parts = explain(index.tables(SearchRequest([a]))[0], codes[b])
    told_parts = told(page, f"window.api.explain({{query: {{ids: [{a}]}}, id: {ids[b]}}})")
    assert told_parts["total"] == pytest.approx(sum(part.distance for part in parts))
    assert told_parts["total"] < 0
    assert approximately([asdict(part) for part in parts]) == told_parts["parts"]
    for m, k in ((0, int(codes[0, 0])), (3, int(codes[7, 3]))):
        found = told(page, f"window.api.codeword({m}, {k}, {{top: 200}})")
        expected = ids[members(codes, m, k, index.codebooks, "dot")].tolist()
        assert [item["id"] for item in found["items"]] == expected


@IN_BROWSER
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


def test_a_refusal_is_told_from_a_failure_and_says_what_is_wrong(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site)
    kinds = page.evaluate(
        """async (queries) => Promise.all(queries.map((query) =>
            window.api.search({ query }).then(() => "", (error) => `${error.kind}: ${error.message}`)))""",
        [{"ids": []}, {"ids": [10**6]}, {"ids": [5], "where": "colour = red"}, {"ids": [5], "where": "width >"}],
    )
    assert kinds[0] == "refused: nothing to be like; give a picture"
    assert kinds[1] == "refused: no picture 1000000 here"
    known = "columns are path, width, height, size, time, label, price, shop"
    assert kinds[2] == f"refused: unknown column colour at 1; {known}"
    assert kinds[3].startswith("refused: ends at 8; expected a value")


def test_the_page_itself_searches_marks_and_shows_every_view_below_a_sub_path(
    site: Site, visit: Callable[..., Page], tmp_path: Path
) -> None:
    page, expect = visit(site), playwright.expect
    expect.set_options(timeout=PATIENCE)
    tiles = page.locator("#grid .tile[data-id]:visible")
    expect(page.locator("#grid img.there").first).to_be_visible()
    assert page.locator("[data-give]:visible").count() == 0
    chosen = int(tiles.nth(3).get_attribute("data-id"))
    tiles.nth(3).click()
    expected = [hit.id for hit in site.index.search(chosen, 6, exclude=[chosen])]
    expect(tiles.first).to_have_attribute("data-id", str(expected[0]))
    assert [int(tiles.nth(n).get_attribute("data-id")) for n in range(6)] == expected
    expect(page.locator("#grid img.there").first).to_be_visible()
    for view, there in (("map", "#map-text"), ("codewords", "#cards > *"), ("copies", "#groups img")):
        page.locator(f"nav.views a[data-view={view}]").click()
        expect(page.locator(there).first).to_be_visible()
    page.reload()
    expect(page.locator("#groups img").first).to_be_visible()


@pytest.fixture(scope="module")
def blank(browser: Any, site: Site) -> Iterator[Page]:
    """A page of the site in which modules can be imported."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(site.address + site.facts["content"] + "/icon.svg")
    for name in ("scan", "filter_language", "resize", "distance_tables"):
        page.evaluate("async ([name, path]) => { window[name] = await import(path); }", [name, f"./static/{name}.js"])
    yield page
    context.close()


@IN_BROWSER
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
    found = blank.evaluate(
        """([table, packed, N, M, K, top, limit]) => {
            const bytes = Uint8Array.from(packed), P = window.scan.bytesPerCode(M, K);
            const d = window.scan.distances(Float32Array.from(table), bytes, N, M, K);
            const all = new window.scan.Ranking(d), near = new window.scan.Ranking(d, null, limit);
            const codes = Array.from({length: N}, (_, row) => [...window.scan.unpack(bytes, row, M, K)]);
            const fold = window.scan.foldedPage(all, bytes, P, 1, top);
            return [[...all.first(top).subarray(0, top)], [...all.first(N)], [...d], near.count, codes, fold];
        }""",
        [table.ravel().tolist(), packed.ravel().tolist(), N, M, K, top, limit],
    )
    first, everything, distances, near, unpacked, folded = found
    assert first == rows[0, :top].tolist()
    assert everything == rows[0].tolist()
    assert np.float32(distances)[rows[0]].tolist() == d[0].tolist()
    assert near == int((d[0] <= np.float32(limit)).sum())
    assert unpacked == codes.tolist()
    request = SearchRequest([0], top, fold=True, offset=1)
    (answers,) = rank_answers(request, table[None], Scan(codes, K), np.arange(N), None)
    assert [[row, *others] for row, others in zip(folded["rows"], folded["folded"], strict=True)] == [
        i for _, i in answers
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create(tmp_path_factory.mktemp("columns") / "i", MANIFEST) as opened:
        yield opened


@settings(IN_BROWSER, max_examples=40)
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
        return [...window.filter_language.evaluate(window.filter_language.parse(text), valuesOf, N)];
    })"""
    found = blank.evaluate(script, [[str(tree) for tree in trees], files, len(ids)])
    for tree, mask in zip(trees, found, strict=True):
        assert [i for i, is_true in zip(ids, mask, strict=True) if is_true] == [
            i for i in ids if holds(tree, by_id[i])
        ], str(tree)


REFUSED = [
    "", "width", "width >", "label = a b", "(label = a", "label in (a,", "x = 'y", "[a = 1", "a ! b", "width = big",
    "width ~ 1", "time > 2024-13", "time = 2023-02-29", "not " * 13 + "a = 1", "a in ()", "and = 1",
    "\N{GRINNING FACE} = 1 ]",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_language_refuses_is_refused_in_the_browser_in_the_same_words(blank: Page, text: str) -> None:
    from spq.errors import ConfigError
    from spq.index.filter import parse

    with pytest.raises(ConfigError) as refused:
        parse(text)
    told = blank.evaluate(
        "(text) => { try { window.filter_language.parse(text); return ''; } catch (e) { return e.message; } }", text
    )
    assert told == str(refused.value).removeprefix("`where`: ")


@settings(IN_BROWSER, max_examples=30)
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


# pictures of the visitor's own


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest) -> Path:
    """onnxruntime-web as npm has it, kept between runs."""
    from spq.errors import DataError
    from spq.web.site import runtime

    kept = request.config.cache.mkdir("onnxruntime-web") / f"{runtime.VERSION}.tgz"
    if not kept.exists():
        try:
            data = runtime._fetched()
        except DataError as error:
            pytest.skip(f"needs onnxruntime-web of npm's registry: {error}")
        kept.write_bytes(data)
    return kept


@pytest.fixture(scope="module")
def full(photos: Path, tiny_recipe: Recipe, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    model = tiny(tiny_recipe, 16, 8, "l2")
    opened = Site(tmp_path_factory.mktemp("full"), model, photos, Options(thumbnail=64, runtime=str(package)))
    yield opened
    opened.close()


def uploaded(page: Page, files: list[Path], negative: list[Path], **query: Any) -> list[tuple[int, float]]:
    """Hits of a search with pictures, given to the page as it would get them."""
    kinds = {".png": "image/png", ".jpg": "image/jpeg"}

    def blobs(paths: list[Path]) -> str:
        pieces = (json.dumps([base64.b64encode(path.read_bytes()).decode(), kinds[path.suffix]]) for path in paths)
        return f"[{', '.join(pieces)}].map(blob)"

    script = f"""window.api.search({{ files: {blobs(files)}, negativeFiles: {blobs(negative)}, query: {json.dumps(query)} }})"""
    page.evaluate(
        """() => { window.blob = ([text, type]) =>
            new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))], { type }); }"""
    )
    return pairs(told(page, script)["hits"])


def test_an_uploaded_picture_ranks_as_with_spq_search(
    full: Site, visit: Callable[..., Page], photos: Path, tmp_path: Path
) -> None:
    """PNG is decoded alike everywhere: distances agree to 1e-3, and so does the order, but for pictures nearer than that."""
    page, index = visit(full), full.index
    a, b, c = sorted(photos.rglob("*.png"))[:3]
    large, size = tmp_path / "large.png", (90, 60)
    Image.open(a).resize(size, Image.Resampling.BICUBIC).save(large)
    for files, negative, options in (
        ([a], [], {}),
        ([large], [], {}),
        ([a, b], [c], {}),
        ([large], [], {"box": [10, 5, 60, 50]}),
    ):
        found = uploaded(page, files, negative, top=50, **options)
        arguments = {"box": tuple(options["box"])} if options else {}
        expected = {
            hit.id: hit.distance for hit in index.search(list(files), 200, negative=list(negative), **arguments)
        }
        assert [d for _, d in found] == pytest.approx(list(expected.values())[:50], rel=1e-3, abs=1e-3)
        assert [expected[i] for i, _ in found] == pytest.approx(list(expected.values())[:50], rel=1e-3, abs=1e-3)


def test_an_uploaded_jpeg_ranks_nearly_as_with_spq_search(
    full: Site, visit: Callable[..., Page], photos: Path, tmp_path: Path
) -> None:
    """A large one, so that we decode it at a fraction of its size: of ten answers, eight at least are the same."""
    page, index = visit(full), full.index
    for n, source in enumerate(sorted(photos.rglob("*.png"))[:3]):
        large = tmp_path / f"{n}.jpg"
        Image.open(source).resize((400, 533), Image.Resampling.BICUBIC).save(large, quality=90)
        found = [i for i, _ in uploaded(page, [large], [], top=10)]
        assert len(set(found) & {hit.id for hit in index.search(large, 10)}) >= 8


def test_pixels_are_upright_on_white_and_close_to_ours(full: Site, visit: Callable[..., Page], tmp_path: Path) -> None:
    from spq.data.decode import load_image

    page = visit(full)
    page.evaluate(
        "async (path) => { window.encode = await import(path); }", f"./{full.facts['content']}/static/encode.js"
    )
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 9, 4)).astype(np.uint8), "RGBA").resize(
        (150, 90), Image.Resampling.BICUBIC
    )
    smooth.save(tmp_path / "alpha.png")
    smooth.convert("L").save(tmp_path / "grey.png")
    smooth.convert("RGB").convert("P").save(tmp_path / "palette.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        smooth.convert("RGB").save(tmp_path / f"turned-{orientation}.jpg", quality=95, exif=exif)
    page.evaluate("() => { window.bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); }")
    for path in sorted(tmp_path.iterdir()):
        ours = to_pixels(load_image(path, 28), 28).astype(int)
        theirs = page.evaluate(
            "async (text) => [...await window.encode.pixelsOf(new Blob([window.bytes(text)]), null, null, 28)]",
            base64.b64encode(path.read_bytes()).decode(),
        )
        apart = np.abs(np.array(theirs).reshape(ours.shape) - ours)
        assert apart.mean() < 1, path.name
        assert apart.max() <= (2 if path.suffix == ".png" else 8), path.name


def test_the_page_takes_a_picture_and_says_what_is_none(
    full: Site, visit: Callable[..., Page], photos: Path, tmp_path: Path
) -> None:
    page, expect = visit(full), playwright.expect
    expect.set_options(timeout=PATIENCE)
    tiles = page.locator("#grid .tile[data-id]:visible")
    expect(tiles.first).to_be_visible()
    picture = sorted(photos.rglob("*.png"))[4]
    page.set_input_files("#file", picture)
    expect(tiles.first).to_have_attribute("data-id", str(full.index.search(picture, 1)[0].id))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.set_input_files("#file", broken)
    expect(page.locator("#pictures-message")).to_contain_text("not a picture that this browser can read")


def test_a_region_of_a_picture_of_the_collection_is_cut_from_its_thumbnail(
    full: Site, visit: Callable[..., Page]
) -> None:
    page, index = visit(full), full.index
    item = next(item for item in index.store.items() if item.width > 60)
    w, h = item.width, item.height
    query = {"ids": [item.id], "box": [w // 4, h // 4, w // 2, h // 2], "top": 10}
    found = [i for i, _ in pairs(asked(page, **query)["hits"])]
    assert item.id not in found
    original = Path(index.store.manifest.source) / item.path
    near = [hit.id for hit in index.search(original, 20, box=tuple(query["box"]), exclude=[item.id])]
    assert len(set(found) & set(near)) >= 5


def test_axe_finds_nothing_on_a_site(site: Site, visit: Callable[..., Page]) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python"
    ).Axe()
    page, found = visit(site), []
    pictures = "#grid img.there"
    for hash_, there in (
        ("", pictures), ("#like=3&item=5", ".bars li"), ("#view=map", "#map-text:not(:empty)"),
        ("#view=codewords", ".card img"), ("#view=copies", ".group"),
    ):  # fmt: skip
        page.goto("about:blank")
        page.goto(site.address + hash_)
        page.locator(there).first.wait_for()
        found += [(hash_, *told) for told in violations(axe, page)]
    assert not found
