from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # `from reference import ...`
sys.path.insert(1, str(Path(__file__).parent.parent / "benchmarks"))  # `from quality import ...`

from spq.cli import main as cli
from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe, load_recipe
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.model.network import Network


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
