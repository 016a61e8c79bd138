from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # `from reference import ...`
sys.path.insert(1, str(Path(__file__).parent.parent / "benchmarks"))  # `from quality import ...`
sys.path.insert(2, str(Path(__file__).parent.parent / "docs" / "_ext"))  # `from dependency_table import ...`

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it once; no test asks the real hub

import web
from models import tiny
from spq.cli import main as cli
from spq.cli import progress
from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe, load_recipe
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model import lite0
from spq.model.model import Model
from spq.model.network import Network


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the cache of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_lines_of_progress() -> None:
    """Keep stderr the same however slow a test machine is; the tests of progress use a clock of their own."""
    progress.FIRST_SECONDS = 600.0


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    return Recipe(
        name="tiny",
        input=InputConfig(size=28),
        backbone=BackboneConfig(blocks=(1, 1), width=8, stem_stride=2),
        quantizer=QuantizerConfig(num_codebooks=8, codeword_dim=4),
    )


@pytest.fixture(scope="session")
def tiny_model(tiny_recipe: Recipe) -> Model:
    """An untrained network whose codewords are descriptors of real pictures, so that its codes differ."""
    torch.manual_seed(0)
    model = Model(Network(tiny_recipe), tiny_recipe)
    sample = subset(open_images("sample:train"), range(16))
    x = torch.from_numpy(model.embed([sample.image(i) for i in range(16)]))
    model.network.quantizer.codebooks.data.copy_(x.view(16, 8, 4).transpose(0, 1))
    return model


def training_recipe() -> Recipe:
    """Recipe `fast` made so small that a training takes a second or two."""
    fast = load_recipe("fast")
    return replace(
        fast,
        input=replace(fast.input, size=16),
        backbone=replace(fast.backbone, blocks=(1, 1), width=8),
        head=replace(fast.head, hidden=32),
        quantizer=replace(fast.quantizer, num_codebooks=4, codeword_dim=8),
        train=replace(fast.train, batch_size=64, num_views=2, view_scale=1.0, epochs=3, precision="fp32"),
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """60 real pictures in class subfolders, tinted, as JPEG and PNG."""
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def photo_index(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of such pictures, which are in `photos` beside it. Tests share it, and leave both as they are."""
    root = tmp_path_factory.mktemp("shared")
    ImageIndex.build(root / "photos.index", tiny_model, write_photos(root / "photos")).close()
    return root / "photos.index"


@pytest.fixture
def index_copy(photo_index: Path, tmp_path: Path) -> Path:
    """A copy of `photo_index` that a test may change."""
    return shutil.copytree(photo_index, tmp_path / "i")


@pytest.fixture(scope="session")
def shared_photos(photo_index: Path) -> Path:
    """The pictures of `photo_index`."""
    return photo_index.parent / "photos"


def write_photos(root: Path) -> Path:
    sample = open_images("sample:test")
    rng = np.random.default_rng(0)
    for position in range(60):
        name = sample.class_names[int(sample.labels[position])]
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(sample.image(position)).astype(float) * rng.uniform(0.4, 1, 3)
        picture = Image.fromarray(pixels.astype(np.uint8)).resize((56, 56), Image.Resampling.BICUBIC)
        picture.save(folder / f"{position:03d}.{'jpg' if position % 2 else 'png'}")
    return root


@pytest.fixture
def index(photos: Path, tiny_model: Model, tmp_path: Path) -> Iterator[ImageIndex]:
    """An open index of `photos` that a test may change."""
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as opened:
        yield opened


@pytest.fixture
def files(photos: Path) -> list[Path]:
    """The first 60 pictures of `photos`."""
    images = open_images(photos)
    return [images.path(position) for position in range(60)]


# the page, its server, and the site


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. One for each file: while it runs, `asyncio.run` does not work."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=web.CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def collection(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos.index` and its `photos`: 200 pictures of three sizes in class subfolders, and four copies.

    Tests share it, and leave it as it is.
    """
    return web.write_collection(tmp_path_factory.mktemp("collection"), tiny_model, 200)


@pytest.fixture(scope="module")
def server(collection: Path, tiny_model: Model) -> Iterator[str]:
    """The address of a server over the collection."""
    with web.served(collection / "photos.index", tiny_model, collection / "cache") as address:
        yield address


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[web.Page]:
    """The page of that server, in a fresh profile."""
    with web.tab(browser) as opened:
        opened.goto(server)
        yield opened


@pytest.fixture(scope="module")
def server_settings(tmp_path_factory: pytest.TempPathFactory) -> web.Settings:
    """Patience beyond what a loaded test machine needs; the tests of overload set their own."""
    return web.Settings(cache=tmp_path_factory.mktemp("cache"), workers=2, patience=60, timeout=120)


@pytest.fixture(scope="module")
def open_index(photo_index: Path, tiny_model: Model) -> Iterator[ImageIndex]:
    with ImageIndex(Store.open(photo_index), tiny_model) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(open_index: ImageIndex, server_settings: web.Settings) -> Iterator[web.TestClient]:
    """A client of a server over the shared index, in this process."""
    with web.client_of(open_index, server_settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures of three sizes and two formats in two classes, with a table; some are the same file twice."""
    root = tmp_path_factory.mktemp("shop") / "photos"
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
            (root / f"again-{n}{Path(name).suffix}").write_bytes((root / name).read_bytes())
            rows.append(f"again-{n}{Path(name).suffix},copy,,")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return root


@pytest.fixture(scope="session")
def site(shop: Path, tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[web.Site]:
    """A site of the shop, with duplicates and without onnxruntime-web."""
    model = tiny(tiny_recipe, 16, 8, "l2")
    opened = web.Site(tmp_path_factory.mktemp("site"), model, shop, web.Options(thumbnail=64, dupes=True))
    yield opened
    opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[[web.Site], web.Page]]:
    """Opens a site where nothing else can be reached. Every error that the page reports fails the test."""
    contexts, errors = [], []

    def go(site: web.Site, hash_: str = "") -> web.Page:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        contexts.append(context)
        context.set_default_timeout(web.PATIENCE)

        def only_the_site(route: Any) -> None:
            if route.request.url.startswith(site.address):
                route.continue_()
            else:
                errors.append(f"asked for {route.request.url}")
                route.abort()

        context.route(lambda url: url.startswith("http"), only_the_site)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))

        def failed(message: Any) -> None:
            if message.type in ("error", "warning"):
                errors.append(f"{message.text} ({message.location.get('url')})")

        page.on("console", failed)
        page.goto(site.address + hash_)
        page.evaluate("async (name) => { window.api = (await import(name)).api; }", f"./{site.facts['content']}/api.js")
        return page

    yield go
    for context in contexts:
        context.close()
    assert not errors, errors


# the command line

TINY_RECIPE = """
[input]
size = 28
[backbone]
blocks = [1]
width = 8
stem_stride = 2
[quantizer]
num_codebooks = 4
codeword_dim = 4
[train]
batch_size = 16
epochs = 1
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe of a network so small that an epoch takes no time."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture
def model_folder(tiny_model: Model, tmp_path: Path) -> Path:
    tiny_model.save(tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def lite0_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights in the place of those of EfficientNet-Lite0, in a cache of the test's own."""
    import timm
    from safetensors.torch import save_file

    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    tensors = timm.create_model(lite0.NETWORK, num_classes=0).state_dict()
    lite0.cached_file().parent.mkdir(parents=True)
    save_file(tensors, lite0.cached_file())
    monkeypatch.setattr(lite0, "TENSORS_SHA256", lite0._digest(tensors))


@pytest.fixture
def index_folder(tiny_model: Model, photos: Path, tmp_path: Path) -> Path:
    """An index of `photos` that a test may change."""
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    return tmp_path / "i"


def run_spq(*arguments: object) -> int:
    """Run a command line in this process; returns its exit status."""
    return cli.run([str(argument) for argument in arguments])


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, and every folder, without files that SQLite makes for a reader."""
    paths = (path for path in folder.rglob("*") if not path.name.startswith("items.sqlite-"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"/" for path in paths}


@pytest.fixture
def places(
    model_folder: Path,
    index_folder: Path,
    photos: Path,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Path]:
    """Things that commands may be given: {t} the working folder, {p} pictures, {m} a model, {i} an index."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    shutil.copy(next(photos.rglob("*.png")), tmp_path / "q.png")
    for position in range(20):
        (tmp_path / "broken" / f"{position:02d}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "unknown-key.toml").write_text("[train]\nlearning_rate = 1.0\n")
    (tmp_path / "no-toml.toml").write_text("learning rate: 1\n")
    for name in ("newer", "damaged", "other"):
        shutil.copytree(model_folder, tmp_path / name)
    config = json.loads((model_folder / "config.json").read_text())
    (tmp_path / "newer" / "config.json").write_text(json.dumps({**config, "format": 99, "spq_version": "99.0"}))
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"no weights")
    other = Model.load(model_folder)
    other.network.quantizer.codebooks.data.mul_(2)
    Model(other.network, other.config).save(tmp_path / "other")
    shutil.copytree(index_folder, tmp_path / "astray")
    manifest = json.loads((index_folder / "manifest.json").read_text())
    del manifest["check"]  # so that it may be changed by hand
    (tmp_path / "astray" / "manifest.json").write_text(json.dumps({**manifest, "source": "/nowhere/photos"}))
    monkeypatch.chdir(tmp_path)
    return {"t": tmp_path, "p": photos, "m": model_folder, "i": index_folder}


def assert_refused(
    places: dict[str, Path], wrong: list[tuple[str, int, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Each command line fails with its status and one line that has these words, and writes nothing.

    Args:
        wrong: command line with the names of `places`, exit status, words of the error.
    """
    before, mistakes = content(places["t"]), []
    for line, expected, words in wrong:
        status = run_spq(*line.format(**places).split())
        out, err = capfd.readouterr()
        lines = [text for text in err.splitlines() if not text.startswith(("1/3", "encoding"))]  # progress
        if status != expected or out or len(lines) != 1 or not lines[0].startswith("spq: ") or words not in lines[0]:
            mistakes.append(f"{line}\n  status {status}, not {expected}, out {out!r}, err {err!r}")
        if (after := content(places["t"])) != before:
            changed = {path for path, _ in set(after.items()) ^ set(before.items())}
            mistakes.append(f"{line}\n  wrote {sorted(changed)}")
            before = after
    assert not mistakes, "\n".join(mistakes)


def cache_in_hub(hub: Path, backbone: str, tensors: dict[str, torch.Tensor]) -> Path:
    """Write the repository of a network as huggingface_hub does after a download; returns the file of its weights."""
    from safetensors.torch import save_file

    folder = hub / f"models--{backbone.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    path = folder / "snapshots" / "abc" / "model.safetensors"
    save_file(tensors, path)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the longest tests unless they are asked for. Files with slow ones come first, so no core waits at the end."""
    slow = {each.path for each in items if each.get_closest_marker("slow")}
    items.sort(key=lambda each: each.path not in slow)
    skip = pytest.mark.skip(reason="takes half a minute; SPQ_DRILLS=1 runs it")
    for each in items:
        if each.get_closest_marker("drill") and not os.environ.get("SPQ_DRILLS"):
            each.add_marker(skip)
