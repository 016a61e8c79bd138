"""Short trainings of variants of a recipe on a GPU, scored on held-out training pictures, so that test queries choose nothing.

Run by `gpu_cifar10.py --sweep`. A variant is a recipe's name or file, then `:section.key=value` changes, commas between them.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spq.api import with_options
from spq.config import Recipe, from_dict, load_recipe, to_dict
from spq.data.images import load_pixels
from spq.data.protocols import Protocol
from spq.data.sources import ImageSet, subset
from spq.evaluation.baselines import float_cosine
from spq.evaluation.evaluate import evaluate
from spq.evaluation.metrics import mean_average_precision, relevance
from spq.learning.train import train
from spq.model.artifact import Model
from spq.model.device import resolve_device

QUERIES = 5000  # or a tenth of a smaller set


def variant(text: str, bits: int, minutes: float, seed: int | None = None) -> Recipe:
    """`gpu:train.batch_size=256,views.crop_scale=[0.2, 1]` -> the recipe with those values, which are TOML."""
    name, _, changes = text.partition(":")
    recipe = to_dict(with_options(load_recipe(name), bits=bits, minutes=minutes, seed=seed))
    for section, values in tomllib.loads("\n".join(re.split(r",(?=\w+\.\w+=)", changes))).items():
        recipe[section] = recipe.get(section, {}) | values
    return replace(from_dict(Recipe, recipe, where=text), name=text)


def held_out(images: ImageSet, map_at: int = 1000) -> Protocol:
    """Some pictures, drawn once and for all, ask the others, which are trained on."""
    order = np.random.default_rng(0).permutation(len(images))
    count = min(QUERIES, len(images) // 10)
    rest = subset(images, np.sort(order[count:]))
    asking = subset(images, np.sort(order[:count]))
    return Protocol(f"{images.name}, {count:,} held out", asking, rest, rest, map_at)


def run(protocol: Protocol, recipe: Recipe, folder: Path, device: str, note: Callable[[str], None]) -> dict[str, Any]:
    """mAP of the codes and of the float descriptors after one training; its folder is removed."""
    torch.compiler.reset()  # else the kernels of all variants count towards one limit
    model = train(protocol.training, recipe, folder, device=device, on_note=note)
    model.network.to(resolve_device(device))
    scores = {"map": evaluate(model, protocol).map, "cosine": cosine(model, protocol)}
    shutil.rmtree(folder)
    return scores | {key: model.training[key] for key in ("views", "epochs")}


def cosine(model: Model, protocol: Protocol) -> float:
    """mAP of the float descriptors: what no code of them is expected to beat by much."""
    gallery, queries = (load_pixels(s, model.config.input.size) for s in (protocol.gallery, protocol.queries))
    x, q, top = model.embed(gallery.array), model.embed(queries.array), min(protocol.map_at, len(gallery.array))
    assert protocol.gallery.labels is not None
    assert protocol.queries.labels is not None
    labels, search = protocol.gallery.labels[gallery.kept], float_cosine(x)
    hits = [
        relevance(protocol.queries.labels[queries.kept[i : i + 500]], labels, search(q[i : i + 500], top))
        for i in range(0, len(q), 500)
    ]
    return mean_average_precision(np.concatenate(hits))


def table(rows: list[dict[str, Any]]) -> str:
    """Best first."""
    return "\n".join(
        f"{row['map']:.4f} codes  {row['cosine']:.4f} floats  {row['epochs']:7.1f} epochs  "
        f"{row['bits']} bits, {row['minutes']:g} minutes, seed {row['seed']}: {row['variant']}"
        for row in sorted(rows, key=lambda row: -row["map"])
    )
