"""A site that searches by the visitor's own pictures, with onnxruntime-web."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import tiny
from spq.config import Recipe
from spq.data.decode import to_pixels
from spq.web.site.site import Options
from web import NEEDS_BROWSER, Page, Site, answer, expect, pairs, search_page, tiles

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest) -> Path:
    """onnxruntime-web as npm has it, kept between runs."""
    from spq.errors import DataError
    from spq.web.site import runtime

    kept = request.config.cache.mkdir("onnxruntime-web") / f"{runtime.VERSION}.tgz"
    if not kept.exists():
        try:
            data = runtime._download()
        except DataError as error:
            pytest.skip(f"needs onnxruntime-web of npm's registry: {error}")
        kept.write_bytes(data)
    return kept


@pytest.fixture(scope="module")
def full(shop: Path, tiny_recipe: Recipe, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    model = tiny(tiny_recipe, 16, 8, "l2")
    opened = Site(tmp_path_factory.mktemp("full"), model, shop, Options(thumbnail=64, onnxruntime_web=str(package)))
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
    return pairs(answer(page, script)["hits"])


def test_an_uploaded_picture_ranks_as_with_spq_search(
    full: Site, visit: Callable[..., Page], shop: Path, tmp_path: Path
) -> None:
    """PNG is decoded alike everywhere: distances agree to 1e-3, and so does the order, but for pictures nearer than that."""
    page, index = visit(full), full.index
    a, b, c = sorted(shop.rglob("*.png"))[:3]
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
    full: Site, visit: Callable[..., Page], shop: Path, tmp_path: Path
) -> None:
    """A large one, so that we decode it at a fraction of its size: of ten answers, eight at least are the same."""
    page, index = visit(full), full.index
    for n, source in enumerate(sorted(shop.rglob("*.png"))[:3]):
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
    full: Site, visit: Callable[..., Page], shop: Path, tmp_path: Path
) -> None:
    page = visit(full)

    expect(tiles(page).first).to_be_visible()
    picture = sorted(shop.rglob("*.png"))[4]
    page.set_input_files("#file", picture)
    expect(tiles(page).first).to_have_attribute("data-id", str(full.index.search(picture, 1)[0].id))
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
    found = [i for i, _ in pairs(search_page(page, **query)["hits"])]
    assert item.id not in found
    original = Path(index.store.manifest.source) / item.path
    near = [hit.id for hit in index.search(original, 20, box=tuple(query["box"]), exclude=[item.id])]
    assert len(set(found) & set(near)) >= 5
