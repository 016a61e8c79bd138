"""Quantizers at the same bits, each with a network of its own: mAP, quantization error, time of a training and of an encoding.

    python benchmarks/quantizers.py --bits 64 --epochs 1 --seeds 0 1

Trains recipe fast on the sample (5,000 pictures). mAP@1000 is of the 500 test pictures among them, by the model's own distance.
Of a residual quantizer, codes by greedy encoding are also compared with codes by beam search (FAISS).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from spq import SPQ, evaluate, load_recipe
from spq.config import with_overrides
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.evaluation.metrics import average_precision_at_k
from spq.model.model import Model

KINDS = {
    "product, sqeuclidean": [],
    "product, dot": ['quantizer.distance="dot"'],
    "product of 256, sqeuclidean": ["quantizer.codebook_size=256"],
    "residual of 2 stages, dot": ['quantizer.kind="residual"', 'quantizer.distance="dot"'],
    "residual of 4 stages, dot": ['quantizer.kind="residual"', 'quantizer.distance="dot"', "quantizer.stages=4"],
}
BEAM = 8


def beam_decoded(model: Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What codes of descriptors (N, D) decode to, encoded with a beam of BEAM."""
    q = model.config.quantizer
    parts = []
    for part, words in zip(np.split(x, q.parts, 1), np.split(model.codebooks, q.parts), strict=True):
        searcher: Any = faiss.ResidualQuantizer(q.codeword_dim, q.stages, q.codebook_size.bit_length() - 1)
        searcher.max_beam_size, searcher.is_trained = BEAM, True
        faiss.copy_array_to_vector(np.ascontiguousarray(words).ravel(), searcher.codebooks)
        searcher.compute_codebook_tables()
        parts.append(searcher.decode(searcher.compute_codes(np.ascontiguousarray(part))))
    return np.concatenate(parts, 1)


def error(x: NDArray[np.float32], decoded: NDArray[np.float32]) -> float:
    """Share of the variance that is lost."""
    return float(np.square(x - decoded).sum() / np.square(x - x.mean(0)).sum())


def measured(name: str, images: ImageSet, queries: ImageSet, options: argparse.Namespace, seed: int) -> str:
    """Train a model, and describe its codes in a line."""
    recipe = with_overrides(load_recipe("fast"), KINDS[name])
    began = time.perf_counter()
    model = SPQ.train(images, recipe=recipe, bits=options.bits, epochs=options.epochs, seed=seed, measure=False)
    trained = time.perf_counter() - began
    x = model.embed([images.image(n) for n in range(len(images))])
    began = time.perf_counter()
    codes = model.encode_descriptors(x)
    encoded = time.perf_counter() - began
    report = evaluate(model, Protocol("sample", queries, images, images, 1000))
    line = (
        f"{name:28} seed {seed}: mAP {report.map:.4f}, error {error(x, model.decode(codes)):.4f}, "
        f"{model.facts['health']['dead_codewords']} dead, {trained:.0f} s, encoding {1000 * encoded:.0f} ms"
    )
    if model.config.quantizer.kind == "residual":
        line += "; " + with_beam(model, x, images, queries)
    return line


def with_beam(model: Model, x: NDArray[np.float32], images: ImageSet, queries: ImageSet) -> str:
    """Error and mAP of greedy codes and of codes by beam search, ranked by the same inner products."""
    assert images.labels is not None
    assert queries.labels is not None
    q = model.embed([queries.image(n) for n in range(len(queries))])
    found = []
    for decoded in (model.decode(model.encode_descriptors(x)), beam_decoded(model, x)):
        nearest = np.argsort(-q @ decoded.T, 1, kind="stable")[:, :1000]
        precision = average_precision_at_k(images.labels[nearest] == queries.labels[:, None]).mean()
        found.append(f"error {error(x, decoded):.4f}, mAP {precision:.4f}")
    return f"greedy {found[0]}, beam of {BEAM} {found[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pictures", type=int, default=5000, help="of the sample's training part")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    train, test = open_images("sample:train"), open_images("sample:test")
    images = subset(train, range(min(options.pictures, len(train))))
    for name in options.kinds:
        for seed in options.seeds:
            print(measured(name, images, test, options, seed), flush=True)


if __name__ == "__main__":
    main()
