"""Which weight should a negative example have? Precision after the first wrong answer becomes a negative.

    python benchmarks/negatives.py demo-out/model sample:train

Labelled pictures are both queries and gallery. The first answer of another class becomes the negative. For each weight and
distance the benchmark prints the precision at 50 of the second search, without query and negative. Weight 0 is the first search.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from spq.config import DISTANCES
from spq.data.decode import load_pixels
from spq.data.image_set import labelled, subset
from spq.data.open import open_images
from spq.index.merge import combined
from spq.model.model import Model
from spq.pq.scan import rank
from spq.pq.tables import distance_tables

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
DEPTH = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--count", type=int, default=5000, help="pictures of the gallery")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    images = labelled(open_images(arguments.images))
    images = subset(images, rng.permutation(len(images))[: arguments.count])
    model = Model.load(arguments.model)
    pixels = load_pixels(images, model.config.input.size)
    x = model.embed(pixels.array)
    queries = rng.choice(len(x), min(arguments.queries, len(x)), replace=False)
    assert images.labels is not None
    for distance in DISTANCES:
        measure(x, model.encode_descriptors(x), model.codebooks, distance, images.labels[pixels.kept], queries)


def measure(
    x: NDArray[np.float32],
    codes: NDArray[np.uint8],
    codebooks: NDArray[np.float32],
    distance: str,
    labels: NDArray[np.int64],
    queries: NDArray[np.int64],
) -> None:
    tables = distance_tables(x[queries], codebooks, distance)
    first = rank(tables, codes, DEPTH)[1]
    wrong = labels[first] != labels[queries, None]
    some = wrong.any(1)  # queries with a wrong answer
    tables, queries, negative = tables[some], queries[some], first[some, wrong[some].argmax(1)]
    against = distance_tables(x[negative], codebooks, distance)
    for weight in WEIGHTS:
        pairs = zip(tables, against, strict=True)
        rows = rank(np.stack([combined(p[None], n[None], np.array([1, weight])) for p, n in pairs]), codes, DEPTH)[1]
        precision = [
            np.mean(labels[[r for r in row if r not in (query, other)][:50]] == labels[query])
            for query, other, row in zip(queries, negative, rows, strict=True)
        ]
        error = np.std(precision) / len(precision) ** 0.5
        facts = {"distance": distance, "weight": weight, "queries": len(precision)}
        print(json.dumps({**facts, "precision_at_50": round(float(np.mean(precision)), 4), "error": round(error, 4)}))


if __name__ == "__main__":
    main()
