"""What moving dead codewords does to the codes of a young model: trained, after k-means alone, and after `refit`.

    python benchmarks/dead_codewords.py --bits 64 --epochs 1 2 5

Trains recipe fast on the sample (5,000 pictures) for a few epochs. The rows of one training have the same network. Counts are of
the training pictures; mAP@1000 is of the 500 test pictures among them, by the model's own distance.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from spq import SPQ, evaluate, load_recipe
from spq.config import with_overrides
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.model.model import Model
from spq.model.quantizer import CodebookQuantizer, Quantizer
from spq.training.refit import ITERATIONS, lloyd_step, refit


def k_means(quantizer: Quantizer, x: torch.Tensor) -> None:
    """Lloyd's algorithm as `refit` runs it, but dead codewords stay dead."""
    assert isinstance(quantizer, CodebookQuantizer)
    with torch.no_grad():
        for _ in range(ITERATIONS):
            lloyd_step(quantizer.stages[0], quantizer.split(x))


def young_model(images: ImageSet, bits: int, epochs: int, seed: int, overrides: list[str]) -> Model:
    """A model of recipe fast after a few epochs, with codebooks as training left them."""
    recipe = with_overrides(load_recipe("fast"), ["train.refit=false", *overrides])
    return SPQ.train(images, recipe=recipe, bits=bits, epochs=epochs, seed=seed, measure=False)


def rows_of(model: Model, images: ImageSet, queries: ImageSet) -> list[dict[str, Any]]:
    """A row for each way to fit the codebooks."""
    x = torch.from_numpy(model.embed([images.image(n) for n in range(len(images))]))
    ways: dict[str, Callable[[Quantizer, torch.Tensor], None]] = {
        "as trained": lambda *_: None, "k-means": k_means, "refit": refit,
    }  # fmt: skip
    rows = []
    for name, fit in ways.items():
        fitted = Model(copy.deepcopy(model.network), model.config)
        began = time.perf_counter()
        fit(fitted.network.quantizer, x)
        seconds = time.perf_counter() - began
        codes = fitted.encode_descriptors(x.numpy())
        protocol = Protocol("sample", queries, images, images, 1000)
        used = sum(len(np.unique(column)) for column in codes.T)
        rows.append({
            "codebooks": name,
            "dead": codes.shape[1] * model.config.quantizer.codebook_size - used,
            "distinct codes": len(np.unique(codes, axis=0)),
            "error": float(np.square(x.numpy() - fitted.decode(codes)).sum() / (x - x.mean(0)).square().sum()),
            "mAP": evaluate(fitted, protocol).map,
            "seconds": seconds,
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=5000, help="of the sample's training part")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    train, test = open_images("sample:train"), open_images("sample:test")
    images = subset(train, range(min(options.pictures, len(train))))
    for epochs in options.epochs:
        model = young_model(images, options.bits, epochs, options.seed, options.set)
        total = model.config.quantizer.num_codebooks * model.config.quantizer.codebook_size
        for row in rows_of(model, images, test):
            print(
                f"{epochs} epochs, {row['codebooks']:10}: {row['dead']:4} of {total} codewords dead, {row['distinct codes']:5,} "
                f"distinct codes of {len(images):,} pictures, error {row['error']:.4f}, mAP {row['mAP']:.4f}, "
                f"{row['seconds']:.1f} s", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
