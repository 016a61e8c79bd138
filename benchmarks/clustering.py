"""Which share of the test pictures is in the right cluster, if clusters are matched one to one with classes (Hungarian)?

    spq bench clustering MODEL --images cifar10:train

Published methods of clustering (SCAN, RUC, SPICE) report this number for one head with as many clusters as there are classes.
A user does not know this number, so recipes of spq use 16 clusters. Heads are fitted to features of the
model for the whole training set, without labels, as in stage `cluster`. One head is chosen, also without labels: the one that
agrees best with all heads. The mean and the range of all heads are printed too.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from _entrance import entrance, parser_of
from _scoring import Data, choose_protocol, load_data, machine
from spq.config import ClusterConfig
from spq.model.model import Model
from spq.training.cluster_heads import choose_heads, fit_heads
from spq.training.neighbours import neighbours
from spq.training.stages.train_clusters import CHOOSERS

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Clusterings:
    """Clusters (Q, H) of the queries, of H heads; `chosen` is the head that agrees best with all."""

    clusters: NDArray[np.int64]
    chosen: int
    count: int

    def report(self, labels: NDArray[np.int64]) -> dict[str, Any]:
        """Accuracies against the labels (Q,)."""
        found = [accuracy(column, labels, self.count) for column in self.clusters.T]
        return {
            "clusters": self.count, "heads": len(found), "accuracy": round(found[self.chosen], 4),
            "mean": round(float(np.mean(found)), 4), "min": round(min(found), 4), "max": round(max(found), 4),
        }  # fmt: skip


def accuracy(clusters: NDArray[np.int64], labels: NDArray[np.int64], count: int) -> float:
    """The share of pictures (N,) in the cluster that belongs to their class, in the best one-to-one matching.

    >>> accuracy(np.array([2, 2, 0, 0, 1]), np.array([0, 0, 1, 1, 1]), 3)
    0.8
    """
    from scipy.optimize import linear_sum_assignment  # only benchmarks need it

    table = np.zeros((count, int(labels.max()) + 1), np.int64)
    np.add.at(table, (clusters, labels), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(labels))


def cluster(model: Model, data: Data, config: ClusterConfig, heads: int, seed: int) -> Clusterings:
    """Fit heads to the features of the gallery, and assign the queries."""
    gallery, queries = (torch.from_numpy(model.features(part)) for part in (data.gallery, data.queries))
    near = neighbours(gallery.numpy(), config.neighbours, seed, CPU)
    assert near is not None
    layer = fit_heads(gallery[:, None], near, heads, config, torch.Generator().manual_seed(seed))
    few = torch.linspace(0, len(gallery) - 1, min(CHOOSERS, len(gallery))).long()
    with torch.no_grad():
        of_few, of_queries = (_logits(layer, part, heads) for part in (gallery[few], queries))
    chosen = choose_heads(torch.softmax(of_few, 2), 1)[0]
    return Clusterings(of_queries.argmax(2).numpy(), chosen, config.clusters)


def _logits(layer: torch.nn.Linear, features: Tensor, heads: int) -> Tensor:
    logits: Tensor = layer(features)
    return logits.view(len(features), heads, -1)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of("clustering", __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", default="cifar10:train", help="a labelled training set (default: %(default)s)")
    parser.add_argument("--held-out", action="store_true", help="ask for training pictures, not for the test set")
    parser.add_argument("--clusters", type=int, help="of a head (default: the number of classes)")
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--steps", type=int, default=ClusterConfig().head_steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    a = parse(arguments)
    model = Model.load(a.model)
    protocol = choose_protocol(a.images, not a.held_out)
    data = load_data(protocol, model.config.input.size)
    config = ClusterConfig(clusters=a.clusters or int(data.gallery_labels.max()) + 1, head_steps=a.steps)
    report = cluster(model, data, config, a.heads, a.seed).report(data.query_labels)
    print(
        f"{protocol.name}, {machine()}: {report['accuracy']:.4f} of {len(data.queries):,} pictures in the right cluster"
    )
    print(f"all {a.heads} heads of {config.clusters}: {report['mean']:.4f}, {report['min']:.4f} to {report['max']:.4f}")
    if a.json:
        a.json.write_text(json.dumps({"protocol": protocol.name, **report}) + "\n", "utf-8")


if __name__ == "__main__":
    entrance("clustering", main)
