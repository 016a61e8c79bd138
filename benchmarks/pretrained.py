"""Codes on a pretrained backbone: the head of spq compared with PQ, OPQ, ITQ, LSH and the float features.

    python benchmarks/pretrained.py clothing/train --queries clothing/validation clothing/test
    python benchmarks/pretrained.py clothing/train --held-out 500 \
        --variants head head:train.neighbours=0 head:train.cached_views=0

Heads are trained on the gallery, and classic codes are fitted to it. Features are computed once, and cached as in training. All
methods use the same features, scaled to length 1. For choices use --held-out, which takes the queries from the gallery. Rows
that the JSON file has are not repeated, so that a stopped run continues. --models adds models that were trained elsewhere on the
gallery, for example fine-tuned ones. Their codes are computed from the pictures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _variants import variant
from spq.config import Recipe
from spq.data.image_set import ImageSet, labelled, subset
from spq.data.open import open_images
from spq.evaluation.baselines import Search, descriptor_baselines, float_cosine, unit
from spq.evaluation.metrics import mean_average_precision
from spq.evaluation.scoring import code_search, relevant_answers
from spq.model.backbone import make_backbone
from spq.model.model import Model
from spq.training.features import FeatureExtractor, cached_features
from spq.training.train import train

Floats = NDArray[np.float32]
AXES = 256  # principal axes for OPQ and PQ, besides all axes
LENGTHS = (16, 32, 64)


@dataclass(frozen=True)
class Side:
    """Pictures, their labels, and features (N, F) of the whole pictures."""

    images: list[ImageSet]
    labels: NDArray[np.int64]
    features: Floats


@dataclass(frozen=True)
class Data:
    name: str
    gallery: Side
    queries: Side
    map_at: int

    def score(self, search: Search, queries: Floats) -> float:
        top = min(self.map_at, len(self.gallery.labels))
        return mean_average_precision(relevant_answers(search, queries, self.queries.labels, self.gallery.labels, top))


def load(arguments: argparse.Namespace, recipe: Recipe) -> Data:
    gallery = labelled(open_images(arguments.gallery))
    if arguments.held_out:
        order = np.random.default_rng(arguments.split).permutation(len(gallery))
        count = arguments.held_out
        queries = [subset(gallery, np.sort(order[:count]))]
        gallery, name = (
            subset(gallery, np.sort(order[count:])),
            f"{count} of {gallery.name} held out, {arguments.split}",
        )
    else:
        queries = [labelled(open_images(name)) for name in arguments.queries]
        name = f"{gallery.name}; queries {', '.join(images.name for images in queries)}"
    return Data(name, _side([gallery], recipe), _side(queries, recipe), arguments.at)


def _side(sets: list[ImageSet], recipe: Recipe) -> Side:
    backbone, dim = make_backbone(recipe.backbone)
    whole = replace(recipe, train=replace(recipe.train, cached_views=0))
    extractor = FeatureExtractor(whole, backbone, whole.train.precision)
    found = [cached_features(images, extractor, dim) for images in sets]
    labels = [np.asarray(images.labels)[part.kept] for images, part in zip(sets, found, strict=True)]
    return Side(sets, np.concatenate(labels), np.concatenate([part.array[:, 0] for part in found]))


def classic(data: Data) -> dict[str, tuple[Floats, Floats]]:
    """Inputs of classic codes: (gallery, queries) by name. Principal axes are those of the gallery."""
    gallery, queries = unit(data.gallery.features), unit(data.queries.features)
    mean = gallery.mean(0)
    variances, axes = np.linalg.eigh(((gallery - mean).T @ (gallery - mean) / len(gallery)).astype(np.float64))
    axes, variances = axes[:, ::-1], variances[::-1]
    forms = {"features": (gallery, queries), "centred": (gallery - mean, queries - mean)}
    kept = axes[:, :AXES]
    forms[f"{AXES} axes"] = tuple(np.asarray((x - mean) @ kept, np.float32) for x in (gallery, queries))  # type: ignore[assignment]
    for power in (0.25, 0.5):
        scaled = axes[:, :128] * np.maximum(variances[:128], 1e-12) ** -power
        whitened = tuple(unit((x - mean) @ scaled) for x in (gallery, queries))
        forms[f"128 axes whitened {2 * power:g}"] = whitened  # type: ignore[assignment]
    return forms


def classic_rows(data: Data, seeds: int) -> dict[tuple[str, int, int], Callable[[], float]]:
    forms, rows = classic(data), {}

    def coded(form: str, method: str, bits: int, seed: int) -> Callable[[], float]:
        gallery, queries = forms[form]
        return lambda: data.score(
            descriptor_baselines(bits)[method](gallery, bits, np.random.default_rng(seed)), queries
        )

    for form, (gallery, queries) in forms.items():
        rows[f"float cosine, {form}", 0, 0] = lambda g=gallery, q=queries: data.score(float_cosine(g), q)
        for method in descriptor_baselines(min(LENGTHS)):
            rotated = method.startswith("OPQ")
            if form in ("features", "centred") and rotated:
                continue  # takes a minute each, and the principal axes give the same
            if "whitened" in form and not rotated:
                continue
            for bits in LENGTHS:
                for seed in range(seeds):
                    rows[f"{method}, {form}", bits, seed] = coded(form, method, bits, seed)
    return rows


def head_row(text: str, bits: int, seed: int, data: Data, arguments: argparse.Namespace) -> dict[str, float]:
    """Scores of a head trained on the gallery: its codes and its float descriptors."""
    recipe = chosen_recipe(text, bits, arguments)
    recipe = replace(recipe, train=replace(recipe.train, seed=seed))
    with tempfile.TemporaryDirectory(prefix="spq-pretrained-") as folder:
        model = train(data.gallery.images[0], recipe, folder)
    x, q = model.project(data.gallery.features), model.project(data.queries.features)
    return {**scores(model, x, q, data), "minutes": model.facts["minutes"]}


def model_row(path: str, data: Data) -> dict[str, float]:
    """Scores of a trained model, computed from the pictures."""
    model = Model.load(path)
    x, q = (
        np.concatenate([model.embed([images.image(i) for i in range(len(images))]) for images in side.images])
        for side in (data.gallery, data.queries)
    )
    return {**scores(model, x, q, data), "minutes": model.facts["minutes"]}


def scores(model: Model, x: Floats, q: Floats, data: Data) -> dict[str, float]:
    codes = model.encode_descriptors(x)
    return {
        "map": data.score(code_search(model, codes), q),
        "float": data.score(float_cosine(x), q),
    }


def chosen_recipe(text: str, bits: int, arguments: argparse.Namespace) -> Recipe:
    recipe = variant(text, bits, None, None)[0]
    if arguments.weights:
        recipe = replace(recipe, backbone=replace(recipe.backbone, weights=str(arguments.weights), pretrained=False))
    return replace(recipe, train=replace(recipe.train, precision=arguments.precision))


def table(rows: list[dict[str, Any]], name: str, at: int) -> str:
    """Mean mAP, and the spread of seeds, by method and bits; in brackets the float descriptors of trained heads."""
    lines = [f"{name}: mAP@{at}", f"{'':44s}" + "".join(f"{f'{bits} bits':>26s}" for bits in LENGTHS)]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        if mine[0]["bits"] == 0:
            lines.append(f"{method:44s}{mine[0]['map']:26.4f}")
            continue
        cells = []
        for bits in LENGTHS:
            values = [row["map"] for row in mine if row["bits"] == bits]
            floats = [row["float"] for row in mine if row["bits"] == bits and "float" in row]
            cell = f"{statistics.mean(values):.4f} +- {(max(values) - min(values)) / 2:.4f}" if values else ""
            cells.append(cell + (f" ({statistics.mean(floats):.3f})" if floats else ""))
        lines.append(f"{method:44s}" + "".join(f"{cell:>26s}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery")
    parser.add_argument("--queries", nargs="+", default=[])
    parser.add_argument(
        "--held-out", type=int, default=0, help="number of queries taken from the gallery, instead of --queries"
    )
    parser.add_argument("--split", type=int, default=0, help="seed of the held-out pictures")
    parser.add_argument("--weights", type=Path, help="file for the recipe's backbone (default: its own)")
    parser.add_argument("--variants", nargs="*", default=["head"], help="recipe:section.key=value,...")
    parser.add_argument("--models", nargs="*", default=[], help="NAME=FOLDER")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at", type=int, default=1000)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--json", type=Path, default=Path("pretrained.json"))
    arguments = parser.parse_args()
    if not arguments.queries and not arguments.held_out:
        parser.error("give --queries, or --held-out for choices")
    data = load(arguments, chosen_recipe(arguments.variants[0] if arguments.variants else "head", 64, arguments))
    todo: dict[tuple[str, int, int], Callable[[], Any]] = {**classic_rows(data, arguments.seeds)}
    for text in arguments.variants:
        for bits in LENGTHS:
            for seed in range(arguments.seeds):
                todo[f"spq {text}", bits, seed] = lambda t=text, b=bits, s=seed: head_row(t, b, s, data, arguments)
    for text in arguments.models:
        name, _, path = text.partition("=")
        todo[f"spq {name}", Model.load(path).config.quantizer.bits, 0] = lambda p=path: model_row(p, data)
    everything = json.loads(arguments.json.read_text("utf-8")) if arguments.json.exists() else []
    shared = {"data": data.name, "at": arguments.at, "precision": arguments.precision}
    for (method, bits, seed), make in todo.items():
        key = {**shared, "method": method, "bits": bits, "seed": seed}
        if not any(key.items() <= row.items() for row in everything):
            made = make()
            everything.append({**key, **(made if isinstance(made, dict) else {"map": made})})
            arguments.json.write_text(json.dumps(everything, indent=1) + "\n", "utf-8")
    print(table([row for row in everything if shared.items() <= row.items()], data.name, arguments.at))


if __name__ == "__main__":
    main()
