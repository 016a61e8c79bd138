"""Do codes of clustering heads find more than codes of the finish, on the same frozen features?

    spq bench clusters cifar10:train --size 128 --json clusters.json
    spq bench clusters cifar10:train --model MODEL --seeds 3 --without-choice

Queries and gallery are drawn from a labelled training set, and methods are fitted to the gallery. Only scores use labels.
Features are computed once and cached, as in training. Methods, each with 16, 32 and 64 bits:

- float: cosine of the centred features, without codes.
- PQ and OPQ with 16 codewords: centred features of length 1; OPQ on their 256 principal axes.
- finish: head and codebooks of [finish] in recipe spq, with prefixes of 4, 8 and 16 codebooks.
- heads: the first 4, 8 and 16 clustering heads, softmax(logits / T), codebooks by k-means, distance dot.

Views of the finish and of the heads have the size of the pictures. With --views 0 both learn only from whole pictures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from _authors import commit_of
from _entrance import entrance, parser_of
from _scoring import machine
from spq.config import ClusterConfig, FinishConfig, QuantizerConfig, Recipe, load_recipe
from spq.data.image_set import ImageSet, labelled, subset
from spq.data.open import open_images
from spq.errors import ConfigError, DataError
from spq.evaluation.baselines import descriptor_baselines, float_cosine, unit
from spq.evaluation.evaluate import order_of_ties
from spq.evaluation.metrics import mean_average_precision, precision_at, relevance
from spq.model.backbone import make_backbone
from spq.model.model import Model
from spq.model.quantizer import ProductQuantizer
from spq.pq.scan import rank
from spq.training.cluster_heads import choose_heads, fit_heads
from spq.training.features import FeatureExtractor, cached_features
from spq.training.neighbours import neighbours
from spq.training.refit import refit
from spq.training.stages.train_clusters import CHOOSERS
from spq.training.train import train

LENGTHS = (16, 32, 64)
CODEBOOKS = max(LENGTHS) // 4  # of 16 codewords
AXES = 256  # principal axes that OPQ is fitted to
ASKED_BITS = 32  # length for which the gain is printed
Floats = NDArray[np.float32]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """A frozen backbone, its feature dimension, and the recipe with its input and views."""

    recipe: Recipe
    backbone: nn.Module
    feature_dim: int


@dataclass(frozen=True)
class Data:
    """Gallery and queries.

    images: the gallery's pictures. gallery: (N, 1 + V, F) of whole pictures and their views, in a fixed random order.
    queries: (Q, F). at: depth of mAP.
    """

    source: Source
    images: ImageSet
    gallery: Floats
    queries: Floats
    gallery_labels: NDArray[np.int64]
    query_labels: NDArray[np.int64]
    at: int

    def scores(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """mAP and precision at 1 of answers (Q, at)."""
        hits = relevance(self.query_labels, self.gallery_labels, rows)
        return {"map": mean_average_precision(hits), "precision_at_1": precision_at(hits, (1,))[1]}

    def score_codes(self, method: str, codes: NDArray[np.uint8], tables: Floats) -> Rows:
        """One row for each length, with the first sub-codes of codes (N, M) and the first tables of (Q, M, K)."""
        found = []
        for bits in LENGTHS:
            short = np.ascontiguousarray(codes[:, : bits // 4])
            answers = rank(np.ascontiguousarray(tables[:, : bits // 4]), short, self.at)[1]
            found.append({"method": method, "bits": bits, **self.scores(answers)})
        return found

    def centred(self) -> tuple[Floats, Floats]:
        """Gallery (N, F) and queries (Q, F) at length 1, minus the mean of the gallery."""
        gallery = unit(self.gallery[:, 0])
        mean = gallery.mean(0)
        return gallery - mean, unit(self.queries) - mean


def describe_source(arguments: argparse.Namespace) -> Source:
    """Load the backbone of a trained model, or EfficientNet-Lite0."""
    if arguments.model:
        model = Model.load(arguments.model)
        recipe, backbone, dim = model.config, model.network.backbone, model.network.feature_dim
    else:
        recipe = load_recipe("head")
        recipe = replace(recipe, input=replace(recipe.input, size=arguments.size))
        backbone, dim = make_backbone(recipe.backbone)
        backbone.to(memory_format=torch.channels_last)
    return Source(replace(recipe, train=replace(recipe.train, cached_views=arguments.views)), backbone, dim)


def load(images: ImageSet, source: Source, *, count: int, queries: int, at: int, split: int = 0) -> Data:
    """Draw queries and gallery, and compute their features.

    Args:
        count: number of gallery pictures at most. split: seed of the draw.
    Raises:
        DataError: no labels, or too few pictures.
    """
    images = labelled(images)
    if len(images) <= queries:
        raise DataError(
            f"--queries {queries} must be below the number of pictures, {len(images)}; give fewer --queries"
        )
    order = np.random.default_rng(split).permutation(len(images))
    query_images = subset(images, np.sort(order[:queries]))
    gallery_images = subset(images, np.sort(order[queries : queries + count]))
    whole = replace(source.recipe, train=replace(source.recipe.train, cached_views=0))
    backbone, dim = source.backbone, source.feature_dim
    q = cached_features(query_images, FeatureExtractor(whole, backbone), dim, _progress("queries"))
    x = cached_features(gallery_images, FeatureExtractor(source.recipe, backbone), dim, _progress("gallery"))
    ties = order_of_ties(len(x.kept))  # equal distances are ranked in gallery order, which must not be that of classes
    assert query_images.labels is not None
    assert gallery_images.labels is not None
    labels = gallery_images.labels[x.kept][ties], query_images.labels[q.kept]
    return Data(source, gallery_images, np.array(x.array)[ties], np.array(q.array[:, 0]), *labels, min(at, len(ties)))


def score_float(data: Data) -> Rows:
    """Cosine of the features; 0 bits means no code."""
    gallery, queries = data.centred()
    return [{"method": "float cosine", "bits": 0, **data.scores(float_cosine(gallery)(queries, data.at))}]


def score_classic(data: Data, method: str, seed: int) -> Rows:
    """PQ of the features, or OPQ of their principal axes, with 16 codewords."""
    gallery, queries = data.centred()
    if method == "OPQ":
        axes = np.linalg.eigh((gallery.T @ gallery).astype(np.float64))[1][:, ::-1][:, :AXES].astype(np.float32)
        gallery, queries = gallery @ axes, queries @ axes
    found = []
    for bits in LENGTHS:
        search = descriptor_baselines(bits)[method](gallery, bits, np.random.default_rng(seed))
        found.append({"method": f"{method}-16", "bits": bits, **data.scores(search(queries, data.at))})
    return found


def finish_recipe(source: Recipe, epochs: int | None = None) -> Recipe:
    """Make the finish of recipe spq a separate training, on cached features of this source.

    Args:
        epochs: overrides those of the recipe.
    """
    spq = load_recipe("spq")
    f, views = spq.finish, source.train.cached_views
    learning = replace(
        spq.train, frozen=True, cached_views=views, num_views=3 if views else 2, optimizer="adam", view_scale=1.0,
        small_share=0.0, epochs=epochs or f.epochs, batch_size=f.batch_size, temperature=f.temperature, lr=f.lr,
        neighbours=f.neighbours, precision="fp32", channels_last=source.train.channels_last,
    )  # fmt: skip
    return replace(source, head=spq.head, quantizer=spq.quantizer, train=learning, finish=FinishConfig())


def score_finish(data: Data, seed: int, epochs: int | None = None) -> Rows:
    """Train head and codebooks of the finish, and score their codes."""
    recipe = finish_recipe(data.source.recipe, epochs)
    recipe = replace(recipe, train=replace(recipe.train, seed=seed))
    with tempfile.TemporaryDirectory(prefix="spq-clusters-") as folder:
        model = train(data.images, recipe, folder, device="cpu", backbone=data.source.backbone)
    x, q = model.project(data.gallery[:, 0]), model.project(data.queries)
    return data.score_codes("finish", model.encode_descriptors(x), model.tables(q))


def score_heads(
    data: Data, near: Tensor, seed: int, temperatures: Sequence[float], without_choice: bool, config: ClusterConfig
) -> Rows:
    """Fit clustering heads, and score their codes at each temperature.

    Args:
        near: (N, n) rows of neighbours. without_choice: also score the first heads, without a choice.
    """
    features, generator = torch.from_numpy(data.gallery), torch.Generator().manual_seed(seed)
    heads = CODEBOOKS * config.candidates
    layer = fit_heads(features, near[:, : config.neighbours], heads, config, generator)
    with torch.no_grad():
        sides = features[:, 0], torch.from_numpy(data.queries)
        x, q = (layer(side).view(-1, heads, config.clusters) for side in sides)
    few = torch.linspace(0, len(x) - 1, min(CHOOSERS, len(x))).long()
    orders = {"heads": choose_heads(torch.softmax(x[few], 2), CODEBOOKS)}
    if without_choice:
        orders["first heads"] = list(range(CODEBOOKS))
    found = []
    for name, order in orders.items():
        for T in temperatures:
            shown = [torch.softmax(side[:, order] / T, 2).flatten(1) for side in (x, q)]
            found += data.score_codes(f"{name}, T = {T:g}", *cluster_codes(*shown, config.clusters, seed))
    return found


@torch.no_grad()
def cluster_codes(x: Tensor, q: Tensor, clusters: int, seed: int) -> tuple[NDArray[np.uint8], Floats]:
    """Fit codebooks to soft assignments by k-means from random pictures.

    Args:
        x, q: (N, M * clusters) and (Q, M * clusters) assignments of gallery and queries.
    Returns:
        codes (N, M) of the nearest codewords, and dot tables (Q, M, K).
    """
    quantizer = ProductQuantizer(QuantizerConfig(x.shape[1] // clusters, codeword_dim=clusters, distance="dot"))
    generator = torch.Generator().manual_seed(seed)
    for book, parts in zip(quantizer.codebooks, quantizer.split(x).unbind(1), strict=True):
        book.copy_(parts[torch.randint(len(x), (len(book),), generator=generator)])
    refit(quantizer, x)
    codes = torch.cat([quantizer.encode(chunk) for chunk in torch.split(x, 4096)])
    return codes.numpy(), quantizer.tables(q).numpy()


def compare(
    data: Data,
    seeds: int,
    temperatures: Sequence[float],
    *,
    without_choice: bool = False,
    epochs: int | None = None,
    config: ClusterConfig | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each method, length and seed; `seconds` is the time of all rows of a method and seed."""
    begun, config = time.monotonic(), config or ClusterConfig()
    near = neighbours(data.gallery[:, 0], config.neighbours, 0, torch.device("cpu"))
    assert near is not None
    _note(f"neighbours: {time.monotonic() - begun:.0f} s")
    ways: dict[str, Callable[[int], Rows]] = {
        "PQ": lambda seed: score_classic(data, "PQ", seed),
        "OPQ": lambda seed: score_classic(data, "OPQ", seed),
        "finish": lambda seed: score_finish(data, seed, epochs),
        "heads": lambda seed: score_heads(data, near, seed, temperatures, without_choice, config),
    }
    yield from ({**row, "seed": 0} for row in score_float(data))
    for seed in range(seeds):
        for name, way in ways.items():
            begun = time.monotonic()
            rows = way(seed)
            seconds = round(time.monotonic() - begun, 1)
            _note(f"{name}, seed {seed}: {seconds:.0f} s")
            yield from ({**row, "seed": seed, "seconds": seconds} for row in rows)


def table(rows: Rows) -> str:
    """Mean mAP, half the spread if there are several seeds, and mean precision at 1, by method and bits."""
    lines = [f"{'mAP, P@1':24s}" + "".join(f"{f'{bits} bits':>26s}" for bits in LENGTHS)]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        lengths = (0,) if mine[0]["bits"] == 0 else LENGTHS
        cells = [_cell([row for row in mine if row["bits"] == bits]) for bits in lengths]
        lines.append(f"{method:24s}" + "".join(f"{cell:>26s}" for cell in cells))
    return "\n".join(lines)


def gains(rows: Rows, bits: int = ASKED_BITS) -> dict[str, float]:
    """Mean mAP of each kind of heads minus that of the finish, at this number of bits."""
    maps: dict[str, list[float]] = {}
    for row in rows:
        if row["bits"] == bits:
            maps.setdefault(row["method"], []).append(row["map"])
    finish = statistics.mean(maps["finish"])
    return {name: statistics.mean(values) - finish for name, values in maps.items() if "heads" in name}


def _cell(rows: Rows) -> str:
    maps = [row["map"] for row in rows]
    spread = f" +- {(max(maps) - min(maps)) / 2:.4f}" if len(rows) > 1 else ""
    return f"{statistics.mean(maps):.4f}{spread}, {statistics.mean(row['precision_at_1'] for row in rows):.3f}"


def _progress(side: str) -> Callable[[int], None]:
    return lambda done: print(f"\r{side}: {done:,} pictures described", end="", file=sys.stderr, flush=True)


def _note(text: str) -> None:
    print(f"\r{text}", file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("clusters", __doc__)
    parser.add_argument("images", help="a labelled training set, for example cifar10:train")
    parser.add_argument("--model", type=Path, help="use the backbone of this spq model (default: lite0)")
    parser.add_argument("--size", type=int, default=128, help="size of pictures in pixels, without --model")
    parser.add_argument("--count", type=int, default=20_000, help="number of gallery pictures")
    parser.add_argument("--queries", type=int, default=2000, help="number of query pictures")
    parser.add_argument("--split", type=int, default=0, help="seed that draws queries and gallery")
    parser.add_argument("--at", type=int, default=400, help="depth of mAP")
    parser.add_argument(
        "--views", type=int, default=load_recipe("spq").finish.views, help="cached views of each picture"
    )
    parser.add_argument("--epochs", type=int, help="epochs of the finish (default: those of recipe spq)")
    parser.add_argument(
        "--temperatures",
        type=float,
        nargs="+",
        default=[3.0, 4.0, 5.0],
        help="temperatures of the softmax of the heads",
    )
    parser.add_argument("--without-choice", action="store_true", help="also score the first 16 heads")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    a, begun = parse_arguments(), time.monotonic()
    commit = commit_of(Path(__file__).parent.parent)  # read now, because a run may take hours
    if min(a.queries, a.count, a.at, a.seeds, *a.temperatures) <= 0 or a.views < 0:
        raise ConfigError("counts, seeds and temperatures must be above 0, and --views 0 or more")
    data = load(open_images(a.images), describe_source(a), count=a.count, queries=a.queries, at=a.at, split=a.split)
    described = time.monotonic()
    _note(f"features: {described - begun:.0f} s")
    found = compare(data, a.seeds, a.temperatures, without_choice=a.without_choice, epochs=a.epochs)
    rows = list(found)
    facts = {
        **{key: str(value) if isinstance(value, Path) else value for key, value in vars(a).items() if key != "json"},
        "count": len(data.gallery), "queries": len(data.queries), "at": data.at, "size": data.source.recipe.input.size,
        "machine": machine(), "commit": commit, "date": datetime.now(UTC).date().isoformat(),
        "seconds": {"features": round(described - begun, 1), "methods": round(time.monotonic() - described, 1)},
    }  # fmt: skip
    print(f"{a.images}: {len(data.gallery):,} pictures, {len(data.queries):,} queries, mAP@{data.at}, {a.seeds} seeds")
    print(f"{facts['machine']}, commit {commit}, {facts['date']}\n{table(rows)}")
    for name, gain in gains(rows).items():
        print(f"gain of {name} over finish at {ASKED_BITS} bits: {gain:+.4f} mAP")
    if a.json:
        report = {**facts, "gains": gains(rows), "rows": rows}
        a.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    entrance("clusters", main)
