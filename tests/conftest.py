from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # `from reference import ...`
sys.path.insert(1, str(Path(__file__).parent.parent / "benchmarks"))  # `from quality import ...`

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
