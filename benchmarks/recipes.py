"""Which recipe learns most in the same minutes? Variants of a recipe, trained one after the other, scored on held-out pictures.

    python benchmarks/recipes.py --minutes 4 fast fast:backbone.width=16 fast:train.batch_size=128,views.blur=0

A variant is a recipe's name or file, then `section.key=value` changes. 5,000 pictures drawn from the training set are
held out as queries, so that no choice is ever made on test queries; the others are trained on and are the gallery. Runs
that stand in the JSON file are not repeated: stopped with Ctrl-C, it goes on. Keep the machine otherwise idle: the budget
is wall clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spq.api import with_options
from spq.config import Recipe, from_dict, load_recipe, to_dict
from spq.data.images import load_pixels
from spq.data.protocols import Protocol
from spq.data.sources import open_images, subset
from spq.evaluation.baselines import float_cosine
from spq.evaluation.metrics import mean_average_precision, relevance
from spq.index.scan import rank
from spq.learning.train import train
from spq.model.artifact import Model

QUERIES = 5000


def held_out(name: str, seed: int = 0) -> Protocol:
    """5,000 (or a tenth) of a labelled training set ask, the others are trained on and answer."""
    images = open_images(name)
    order = np.random.default_rng(seed).permutation(len(images))
    count = min(QUERIES, len(images) // 10)
    rest = subset(images, np.sort(order[count:]))
    return Protocol(f"{name}, {count:,} held out", subset(images, np.sort(order[:count])), rest, rest, 1000)


def variant(text: str, bits: int, minutes: float) -> Recipe:
    """`fast:train.batch_size=128,views.blur=0` -> the recipe with those values."""
    name, _, changes = text.partition(":")
    recipe = to_dict(with_options(load_recipe(name), bits=bits, minutes=minutes))
    for change in filter(None, _split(changes)):
        key, _, value = change.partition("=")
        section, _, field = key.partition(".")
        recipe[section][field] = tomllib.loads(f"value = {value}")["value"]
    return replace(from_dict(Recipe, recipe, where=text), name=text)


def _split(changes: str) -> list[str]:
    """At commas that are not inside brackets."""
    parts, depth = [""], 0
    for character in changes:
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def scores(model: Model, protocol: Protocol) -> dict[str, float]:
    """mAP@1000 of the codes under both distances, and of the float descriptors."""
    size = model.config.input.size
    gallery, queries = (load_pixels(images, size) for images in (protocol.gallery, protocol.queries))
    x, q = model.embed(gallery.array), model.embed(queries.array)
    assert protocol.gallery.labels is not None
    assert protocol.queries.labels is not None
    labels = protocol.gallery.labels[gallery.kept], protocol.queries.labels[queries.kept]
    codes = model.encode_descriptors(x)
    searches = {
        "l2": lambda rows: rank(model.tables(rows, "l2"), codes, protocol.map_at)[1],
        "sqeuclidean": lambda rows: rank(model.tables(rows, "sqeuclidean"), codes, protocol.map_at)[1],
        "cosine": lambda rows: float_cosine(x)(rows, protocol.map_at),
    }
    return {
        name: mean_average_precision(
            np.concatenate(
                [relevance(labels[1][i : i + 500], labels[0], search(q[i : i + 500])) for i in range(0, len(q), 500)]
            )
        )
        for name, search in searches.items()
    }


def run(text: str, seed: int, arguments: argparse.Namespace, protocol: Protocol) -> dict[str, Any]:
    recipe = variant(text, arguments.bits, arguments.minutes)
    recipe = replace(recipe, train=replace(recipe.train, seed=seed))
    with tempfile.TemporaryDirectory(prefix="spq-recipes-") as folder:
        model = train(protocol.training, recipe, folder)
    facts = {key: model.training[key] for key in ("views", "epochs", "minutes")}
    return {
        "variant": text,
        "seed": seed,
        "bits": arguments.bits,
        "budget": arguments.minutes,
        **scores(model, protocol),
        **facts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--images", default="cifar10:train")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("recipes.json"))
    arguments = parser.parse_args()
    protocol = held_out(arguments.images)
    rows = json.loads(arguments.json.read_text("utf-8")) if arguments.json.exists() else []
    for seed in range(arguments.seeds):
        for text in arguments.variants:
            key = {"variant": text, "seed": seed, "bits": arguments.bits, "budget": arguments.minutes}
            if not any(key.items() <= row.items() for row in rows):
                rows.append(run(text, seed, arguments, protocol))
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    print(
        f"{protocol.name}; mAP@{protocol.map_at}, {arguments.bits} bits, {arguments.minutes:g} minutes, {arguments.seeds} seeds"
    )
    for text in arguments.variants:
        mine = [
            r for r in rows if r["variant"] == text and r["bits"] == arguments.bits and r["budget"] == arguments.minutes
        ]
        means = "  ".join(
            f"{name} {statistics.mean(r[name] for r in mine):.4f}" for name in ("l2", "sqeuclidean", "cosine")
        )
        spread = max(r["l2"] for r in mine) - min(r["l2"] for r in mine)
        print(f"{means}  spread {spread:.4f}  epochs {mine[0]['epochs']:.1f}  {text}")


if __name__ == "__main__":
    main()
