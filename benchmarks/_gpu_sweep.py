"""Short trainings of variants of a recipe on a GPU, scored on held-out training pictures, so that test queries choose nothing.

Run by `gpu_cifar10.py --sweep`, with the variants of `spq bench quality`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from _variants import variant
from spq.data.images import load_pixels
from spq.data.protocols import Protocol
from spq.errors import ConfigError
from spq.evaluation.baselines import float_cosine
from spq.evaluation.evaluate import evaluate
from spq.evaluation.metrics import mean_average_precision, relevance
from spq.learning.train import train
from spq.model.artifact import Model
from spq.model.device import resolve_device

Note = Callable[[str], None]


def run(
    protocol: Protocol, text: str, bits: Sequence[int], minutes: float, seed: int, folder: Path, device: str, note: Note
) -> dict[str, Any]:
    """mAP of the codes and of the float descriptors after one training of a variant; its folder is removed."""
    recipe, ablation = variant(text, bits, minutes, None)
    if ablation.pq:
        raise ConfigError(f"{text} trains no codebooks; run spq bench quality for it")
    recipe = replace(recipe, train=replace(recipe.train, seed=seed))
    model = train(protocol.training, recipe, folder, device=device, objective=ablation.objective, on_note=note)
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
        f"{row['bits'][-1]} bits, {row['minutes']:g} minutes, seed {row['seed']}: {row['text']}"
        for row in sorted(rows, key=lambda row: -row["map"])
    )
