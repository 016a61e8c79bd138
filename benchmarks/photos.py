"""Recipes on a pretrained network beside classic codes, float features and a colour histogram, for two labelled collections.

    spq bench photos objects/gallery objects/queries --json benchmarks/results/photos.json
    spq bench photos clothing/train clothing/validation clothing/test --json benchmarks/results/photos.json

Labels only score. Whole rankings count (mAP@all). A seed sets the order of the gallery, which decides between equal distances and
where k-means starts. Without --weights the recipes take the weights that are at hand. Classic codes use the same features, scaled
to length 1; OPQ uses their first 256 principal axes. Rows that the JSON file has are not repeated.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from _entrance import entrance, parser_of
from _scoring import machine
from spq.api import with_options
from spq.config import Recipe, load_recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, labelled
from spq.data.open import open_images
from spq.evaluation.baselines import Search, descriptor_baselines, float_cosine, unit
from spq.evaluation.metrics import mean_average_precision, precision_at
from spq.evaluation.scoring import code_search, relevant_answers
from spq.model.model import Model
from spq.model.network import Network
from spq.training.features import FeatureExtractor, cached_features
from spq.training.smooth_start import start_head
from spq.training.train import train

Floats = NDArray[np.float32]
AXES = 256  # principal axes for OPQ
SIDE = 64  # pixels of the pictures whose colours are counted
METHODS = {"PQ-16": "PQ", "PQ-256": "PQ-256", "ITQ": "ITQ", "OPQ-256": "OPQ-256"}  # by their names in spq.evaluation


@dataclass(frozen=True)
class Side:
    """Pictures, labels (N,) and features (N, F); the labels are those of the readable pictures."""

    images: list[ImageSet]
    labels: NDArray[np.int64]
    features: Floats

    def histograms(self) -> Floats:
        """Square roots of the shares of 8 x 8 x 8 colours (N, 512): their cosine is the Bhattacharyya coefficient."""
        rows = [_colours(pixels) for images in self.images for pixels in load_pixels(images, SIDE).array]
        return np.sqrt(np.stack(rows)).astype(np.float32)


@dataclass(frozen=True)
class Data:
    name: str
    gallery: Side
    queries: Side

    def scores(self, search: Search, queries: Floats, order: NDArray[np.int64]) -> dict[str, float]:
        """P@1, P@10 and mAP of a search of the gallery in this order."""
        labels = self.gallery.labels[order]
        hits = relevant_answers(search, queries, self.queries.labels, labels, len(labels))
        precision = precision_at(hits, (1, 10))
        return {"p1": precision[1], "p10": precision[10], "map": mean_average_precision(hits)}


def _colours(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    bins = (pixels.reshape(3, -1) >> 5).astype(np.int64)
    return np.bincount(bins[0] * 64 + bins[1] * 8 + bins[2], minlength=512) / bins.shape[1]


def load(gallery: str, queries: list[str], recipe: Recipe) -> Data:
    network = Network(recipe)
    whole = replace(recipe, train=replace(recipe.train, cached_views=0))
    extractor = FeatureExtractor(whole, network.backbone.eval(), "fp32")

    def side(names: list[str]) -> Side:
        sets = [labelled(open_images(name)) for name in names]
        found = [cached_features(images, extractor, network.feature_dim) for images in sets]
        labels = [np.asarray(images.labels)[part.kept] for images, part in zip(sets, found, strict=True)]
        return Side(sets, np.concatenate(labels), np.concatenate([part.array[:, 0] for part in found]))

    return Data(f"{gallery}; queries {', '.join(queries)}", side([gallery]), side(queries))


def recipe_row(recipe: Recipe, data: Data, order: NDArray[np.int64]) -> dict[str, float]:
    """Scores of a recipe: one without training steps starts from the features in this order, others train on the pictures."""
    if recipe.train.epochs or not recipe.train.frozen:
        with tempfile.TemporaryDirectory(prefix="spq-photos-") as folder:
            model = train(data.gallery.images[0], recipe, folder)
    else:
        torch.manual_seed(recipe.train.seed)
        network = Network(replace(recipe, backbone=replace(recipe.backbone, pretrained=False, weights="")))
        start_head(network, recipe.head, data.gallery.features[order])
        model = Model(network, recipe)
    codes = model.encode_descriptors(model.project(data.gallery.features[order]))
    return data.scores(code_search(model, codes), model.project(data.queries.features), order)


def classic_row(method: str, bits: int, seed: int, data: Data, order: NDArray[np.int64]) -> dict[str, float]:
    gallery, queries = unit(data.gallery.features[order]), unit(data.queries.features)
    if method.startswith("OPQ"):
        mean = gallery.mean(0)
        axes = np.linalg.eigh(((gallery - mean).T @ (gallery - mean)).astype(np.float64))[1][:, ::-1][:, :AXES]
        gallery, queries = (np.asarray((x - mean) @ axes, np.float32) for x in (gallery, queries))
    search = descriptor_baselines(bits)[METHODS[method]](gallery, bits, np.random.default_rng(seed))
    return data.scores(search, queries, order)


def float_row(kind: str, data: Data, order: NDArray[np.int64]) -> dict[str, float]:
    gallery, queries = (
        (side.histograms() if kind == "colour histogram" else side.features) for side in (data.gallery, data.queries)
    )
    return data.scores(float_cosine(gallery[order]), queries, order)


def table(rows: list[dict[str, Any]], lengths: list[int]) -> str:
    """P@1 / P@10 / mAP by method and bytes: means over the seeds, and half the range of the mAP."""
    lines = [f"{'':18s}" + "".join(f"{f'{n} bytes':>30s}" for n in lengths)]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for length in lengths if any(row["bytes"] for row in rows if row["method"] == method) else [0]:
            mine = [row for row in rows if row["method"] == method and row["bytes"] == length]
            means = [statistics.mean(row[key] for row in mine) for key in ("p1", "p10", "map")] if mine else []
            spread = (max(row["map"] for row in mine) - min(row["map"] for row in mine)) / 2 if mine else 0
            cells.append(" / ".join(f"{value:.3f}" for value in means) + (f" +-{spread:.3f}" if mine else ""))
        lines.append(f"{method:18s}" + "".join(f"{cell:>30s}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = parser_of("photos", __doc__)
    parser.add_argument("gallery")
    parser.add_argument("queries", nargs="+")
    parser.add_argument("--weights", help="a .safetensors file for EfficientNet-Lite0 of timm")
    parser.add_argument("--recipes", nargs="*", default=["pq", "head"])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), help="classic codes")
    parser.add_argument("--bytes", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("photos.json"))
    a = parser.parse_args()

    def recipe_of(name: str, length: int, seed: int) -> Recipe:
        network = {"backbone": "timm/tf_efficientnet_lite0", "weights": a.weights} if a.weights else {}
        return with_options(load_recipe(name), bits=8 * length, seed=seed, precision="fp32", **network)

    data = load(a.gallery, a.queries, recipe_of("pq", 8, 0))
    orders = [np.random.default_rng(seed).permutation(len(data.gallery.labels)) for seed in range(a.seeds)]
    todo: dict[tuple[str, int, int], Callable[[], dict[str, float]]] = {}
    for kind in ("float cosine", "colour histogram"):
        todo[kind, 0, 0] = lambda k=kind: float_row(k, data, orders[0])  # type: ignore[misc]
    for seed, order in enumerate(orders):
        for name in a.recipes:
            for n in a.bytes:
                recipe = recipe_of(name, n, seed)
                todo[f"recipe {name}", n, seed] = lambda r=recipe, o=order: recipe_row(r, data, o)  # type: ignore[misc]
        for method in a.methods:
            for n in a.bytes:
                todo[method, n, seed] = lambda m=method, n=n, s=seed, o=order: classic_row(m, 8 * n, s, data, o)  # type: ignore[misc]
    report = json.loads(a.json.read_text("utf-8")) if a.json.exists() else {"machine": machine(), "rows": []}
    shared = {"data": data.name, "pictures": len(data.gallery.labels), "queries": len(data.queries.labels)}
    for (method, length, seed), make in todo.items():
        key = {**shared, "method": method, "bytes": length, "seed": seed}
        if not any(key.items() <= row.items() for row in report["rows"]):
            report["rows"].append({**key, **{name: round(float(value), 4) for name, value in make().items()}})
            a.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    mine = [row for row in report["rows"] if shared.items() <= row.items()]
    print(f"{data.name}: P@1 / P@10 / mAP\n{table(mine, a.bytes)}")


if __name__ == "__main__":
    entrance("photos", main)
