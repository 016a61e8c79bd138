"""A site in real Chromium, from a plain file server: it must answer as `spq search` and the server do."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import tiny
from spq.config import Recipe
from spq.index.explain import explain
from spq.index.request import SearchRequest
from spq.pq.codewords import members
from spq.web.site.site import Options
from web import NEEDS_BROWSER, Page, Site, answer, axe_violations, expect, pairs, search_page, show_large_tiles, tiles

pytestmark = NEEDS_BROWSER


@pytest.fixture
def made(shop: Path, tiny_recipe: Recipe, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(K: int = 16, M: int = 8, distance: str = "l2", options: Options | None = None) -> Site:
        model = tiny(tiny_recipe, K, M, distance)
        sites.append(Site(tmp_path / str(len(sites)), model, shop, options or Options(thumbnail=64)))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.mark.parametrize(  # packed in pairs, in pairs with one left, or unpacked; test_site_scripts.py has many more
    ("K", "M", "distance"),
    [
        (16, 4, "l2"),
        (16, 7, "dot"),
        (64, 3, "sqeuclidean"),
        (256, 8, "l2"),
    ],
)
def test_more_like_this_and_not_like_that_rank_as_spq_search_does_to_the_last_bit(
    made: Callable[..., Site], visit: Callable[..., Page], K: int, M: int, distance: str
) -> None:
    site = made(K, M, distance)
    page, index = visit(site), site.index
    ids = [item.id for item in index.store.items()]
    for id_ in (ids[0], ids[17], ids[-1]):
        found = search_page(page, ids=[id_], top=len(ids))
        assert pairs(found["hits"]) == pairs(index.search(id_, len(ids), exclude=[id_]))
        assert found["total"] == len(ids) - 1
    some, others = ids[3:6], ids[40:42]
    everything = search_page(page, ids=some, not_ids=others, top=len(ids))["hits"]
    expected = index.search(some, len(ids), negative=others, exclude=[*some, *others])
    assert pairs(everything) == pairs(expected)
    paths = index.store.paths(ids)
    assert [hit["path"] for hit in everything] == [paths[hit.id] for hit in expected]
    weights = [1.0, 0.0, 2.5, 0.2, 1.0]
    weighed = search_page(page, ids=some, not_ids=others, weights=weights, top=len(ids))["hits"]
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
        hits = search_page(page, ids=[query], **options)["hits"]
        expected = index.search(query, **{"top": 20, "exclude": [query], **options})
        assert pairs(hits) == pairs(expected), options
        assert [hit["rank"] for hit in hits] == [hit.rank for hit in expected]
        paths = index.store.paths([i for hit in hits for i in hit["folded"]])
        assert [[paths[i] for i in hit["folded"]] for hit in hits] == [list(hit.folded) for hit in expected]
    assert any(hit.folded for hit in index.search(query, 100, fold=True))


def test_what_else_the_page_asks_is_answered_as_by_the_server(
    site: Site, visit: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi.testclient import TestClient

    from spq.web.server import jobs
    from spq.web.server.app import Settings, create_app

    monkeypatch.setattr(jobs, "find_duplicates", lambda *_, **__: site.report)  # finding them again takes long
    page = visit(site)
    items = list(site.index.store.items())
    a, b = items[5].id, items[50].id
    # a site has no originals; a server compares codes, too, if it may describe no picture
    app = create_app(site.index, Settings(cache=site.out.parent / "cache", max_pictures=0))
    with TestClient(app, base_url="http://127.0.0.1") as server:

        def same(script: str, path: str, ignored: tuple[str, ...] = ()) -> None:
            of_site, of_server = answer(page, script), server.get(path).json()
            for content in (of_site, of_server):
                for item in [
                    content,
                    *content.get("items", []),
                    *(i for g in content.get("groups", []) for i in g["items"]),
                ]:
                    for key in ("thumb", *ignored):
                        item.pop(key, None)
            assert approximately(of_site) == approximately(of_server), path

        own = ("file", "key", "own")
        status, known = answer(page, "window.api.status()"), server.get("/api/status").json()
        assert [{k: v for k, v in c.items() if k not in own} for c in status.pop("columns")] == known.pop("columns")
        assert {key: status[key] for key in known if key != "watching"} == {
            k: v for k, v in known.items() if k != "watching"
        }
        for order in ("id", "path", "time", "new"):
            page_of = f"/api/browse?order={order}&offset=3&top=70"
            same(f"window.api.browse({{order: '{order}', offset: 3, top: 70}})", page_of, ("code",))
        page_of = "/api/browse?where=label+%3D+shoe&order=path&top=9"
        same("window.api.browse({where: 'label = shoe', order: 'path', top: 9})", page_of, ("code",))
        same(f"window.api.item({a})", f"/api/items/{a}", ("location", "can_show"))  # a site has no files
        why = f"window.api.explain({{query: {{ids: [{a}]}}, id: {b}}})"
        same(why, f"/api/explain?query_id={a}&id={b}", ("pictures", "not_pictures"))  # a server keeps uploads
        same("window.api.codewords({})", "/api/codewords")
        same("window.api.codewords({where: 'left'})", "/api/codewords?where=left")
        for m, k in ((0, 0), (3, 7), (7, 15)):
            same(f"window.api.codeword({m}, {k}, {{top: 40}})", f"/api/codewords/{m}/{k}?top=40", ("code",))
        while (report := server.get("/api/duplicates")).status_code == 202:
            time.sleep(0.05)
        assert report.json()["groups"]
        same("window.api.duplicates()", "/api/duplicates")
        kinds = "kind=similar&kind=identical&where=label+%3D+shoe"
        some = "{kind: ['similar', 'identical'], where: 'label = shoe', offset: 1, top: 2}"
        same(f"window.api.duplicates({some})", f"/api/duplicates?{kinds}&offset=1&top=2")
        assert site.facts["duplicates"] == len(report.json()["groups"])
        for params in ({}, {"where": "label = shoe"}):
            as_lists = "(map) => [[...map.ids], [...map.x], [...map.y], map.count, map.total]"
            known = server.get("/api/map", params=params | {"method": "pca"}).json()
            columns = [decoded(known[name], kind) for name, kind in (("ids", "<i4"), ("x", "<f4"), ("y", "<f4"))]
            assert [*columns, known["count"], known["total"]] == answer(
                page, f"window.api.map({json.dumps(params)}).then({as_lists})"
            )


def approximately(value: Any) -> Any:
    """Distances that JavaScript adds up in double precision."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-5, abs=1e-6)
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    return [approximately(inner) for inner in value] if isinstance(value, list) else value


def decoded(text: str, kind: str) -> list[float]:
    return np.frombuffer(base64.b64decode(text), kind).tolist()


def test_a_site_of_dot_says_why_and_what_is_typical_as_the_index_does(
    made: Callable[..., Site], visit: Callable[..., Page]
) -> None:
    site = made(distance="dot")
    page, index = visit(site), site.index
    ids, codes = index.store.codes()
    a, b = int(ids[5]), 50
    parts = explain(index.tables(SearchRequest([a]))[0], codes[b])
    told_parts = answer(page, f"window.api.explain({{query: {{ids: [{a}]}}, id: {ids[b]}}})")
    assert told_parts["total"] == pytest.approx(sum(part.distance for part in parts))
    assert told_parts["total"] < 0
    assert approximately([asdict(part) for part in parts]) == told_parts["parts"]
    for m, k in ((0, int(codes[0, 0])), (3, int(codes[7, 3]))):
        found = answer(page, f"window.api.codeword({m}, {k}, {{top: 200}})")
        expected = ids[members(codes, m, k, index.decoder, "dot")].tolist()
        assert [item["id"] for item in found["items"]] == expected


def test_a_refusal_is_told_from_a_failure_and_says_what_is_wrong(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site)
    kinds = page.evaluate(
        """async (queries) => Promise.all(queries.map((query) =>
            window.api.search({ query }).then(() => "", (error) => `${error.kind}: ${error.message}`)))""",
        [{"ids": []}, {"ids": [10**6]}, {"ids": [5], "where": "colour = red"}, {"ids": [5], "where": "width >"}],
    )
    assert kinds[0] == "refused: no picture to search with; give one"
    assert kinds[1] == "refused: no picture 1000000 on this site"
    known = "columns are path, width, height, size, time, label, price, shop"
    assert kinds[2] == f"refused: unknown column colour at 1; {known}"
    assert kinds[3].startswith("refused: ends at 8; expected a value")


def test_damaged_files_of_a_site_are_an_error_and_never_an_answer(site: Site, visit: Callable[..., Page]) -> None:
    content = site.out / str(site.facts["content"])
    id_ = next(item.id for item in site.index.store.items())
    for name, query in (
        ("index.json", {"ids": [id_]}),
        ("codes.bin", {"ids": [id_]}),
        ("tables.bin", {"ids": [id_]}),
        ("items/0/0.json", {"ids": [id_]}),
        ("columns/1.json", {"ids": [id_], "where": "width > 1"}),
    ):
        whole = (content / name).read_bytes()
        damaged = bytearray(whole)
        damaged[whole.index(b'"') + 1 if b'"' in whole and name.endswith("json") else len(whole) // 2] ^= 1
        (content / name).write_bytes(damaged)
        try:
            told = visit(site).evaluate(
                "(query) => window.api.search({ query }).then(() => 'an answer', (error) => `${error.kind}: ${error.message}`)",
                {**query, "top": 200},
            )
        finally:
            (content / name).write_bytes(whole)
        base = name.split("/")[-1]
        assert told == f"fault: {base} of this site is damaged; reload the page, or export the site again"


def test_the_page_of_a_damaged_site_says_which_file_is_damaged(site: Site, visit: Callable[..., Page]) -> None:
    file = site.out / str(site.facts["content"]) / "codes.bin"
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    try:
        page = visit(site)
        for place in ("#banner-text", "#pictures-message"):
            expect(page.locator(place)).to_contain_text("codes.bin of this site is damaged")
        assert "server" not in page.inner_text("main")
    finally:
        file.write_bytes(whole)


def test_the_page_itself_searches_marks_and_shows_every_view_below_a_sub_path(
    site: Site, visit: Callable[..., Page], tmp_path: Path
) -> None:
    page = visit(site)

    expect(page.locator("#grid img.loaded").first).to_be_visible()
    assert page.locator("[data-pick]:visible").count() == 0
    chosen = int(tiles(page).nth(3).get_attribute("data-id"))
    tiles(page).nth(3).click()
    expected = [hit.id for hit in site.index.search(chosen, 6, exclude=[chosen])]
    expect(tiles(page).first).to_have_attribute("data-id", str(expected[0]))
    assert [int(tiles(page).nth(n).get_attribute("data-id")) for n in range(6)] == expected
    expect(page.locator("#grid img.loaded").first).to_be_visible()
    for view, there in (("map", "#map-text"), ("codewords", "#cards > *"), ("copies", "#groups img")):
        page.locator(f"nav.views a[data-view={view}]").click()
        expect(page.locator(there).first).to_be_visible()
    page.reload()
    expect(page.locator("#groups img").first).to_be_visible()


def test_axe_finds_nothing_on_a_site(site: Site, visit: Callable[..., Page]) -> None:
    page, found = visit(site), []
    show_large_tiles(page)  # few, as all are alike
    for hash_, there in (
        ("#like=3&item=5", ".bars li"), ("#view=map", "#map-text:not(:empty)"), ("#view=copies", ".group"),
    ):  # fmt: skip
        page.goto("about:blank")
        page.goto(site.address + hash_)
        page.locator(there).first.wait_for()
        found += [(hash_, *violation) for violation in axe_violations(page)]
    assert not found


def test_a_site_from_the_disk_says_what_to_do(browser: Any, site: Site) -> None:
    page = browser.new_page()
    page.goto((site.out / "index.html").as_uri())
    expect(page.locator("body")).to_contain_text("python3 -m http.server")
    page.close()
