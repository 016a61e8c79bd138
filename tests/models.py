"""Models that are made in a moment, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from spq.config import QuantizerConfig, Recipe
from spq.data.open import open_images
from spq.model.model import Model
from spq.model.network import Network


def tiny(recipe: Recipe, K: int, M: int, distance: Any = "l2") -> Model:
    """Return an untrained model whose codewords are descriptors of real pictures, so that its codes differ."""
    torch.manual_seed(K)
    config = replace(
        recipe, quantizer=QuantizerConfig(num_codebooks=M, codebook_size=K, codeword_dim=4, distance=distance)
    )
    model = Model(Network(config), config)
    sample = open_images("sample:train")
    x = model.embed([sample.image(position) for position in range(K)])
    model.network.quantizer.codebooks.data.copy_(torch.from_numpy(x).view(K, M, 4).transpose(0, 1))
    return model
