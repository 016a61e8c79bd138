"""Views per second in training: the authors' code and ours, with the same network and batch, in turn.

    spq bench throughput SPQ --rounds 3

Both run a complete training step: batch, two views of each picture, forward, backward, update. Ours is
`spq.training.train.train`. A step is timed from loss to loss, without the first step of each turn. Ours runs recipe `paper`
(ResNet-18, 32 pixels, batch 256) in fp32, and in bf16 with channels-last layout. Other variants are as in `spq bench quality`.
Use all cores of an idle machine, and compare only rates of the same run.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from _authors import Authors, BudgetSpent, Training
from _entrance import entrance, parser_of
from _scoring import machine
from _variants import variant
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.training.losses import CrossQuantized
from spq.training.train import train

OURS = ["paper", "paper:train.precision='bf16',train.channels_last=true"]


def theirs(authors: Authors, images: ImageSet, batch_size: int, steps: int, device: str) -> list[float]:
    """Seconds between the losses of successive steps of the authors' code."""
    times: list[float] = []

    def before_step(training: Training) -> None:
        if training.step >= steps:
            raise BudgetSpent

    authors.train(
        load_pixels(images, 32).array, bits=32, batch_size=batch_size, device=device,
        before_step=before_step, on_loss=lambda loss: times.append(_now(loss)),
    )  # fmt: skip
    return [b - a for a, b in pairwise(times)]


def ours(text: str, images: ImageSet, batch_size: int, device: str) -> list[float]:
    """The same for our `train`, for one epoch of the images."""
    times: list[float] = []

    class Timed(CrossQuantized):
        def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
            value = super().forward(x, z, rows, own)
            times.append(_now(value))
            return value

    recipe = variant(text, 32, None, 1)[0]
    recipe = replace(recipe, train=replace(recipe.train, batch_size=batch_size))
    with tempfile.TemporaryDirectory(prefix="spq-throughput-") as folder:
        train(images, recipe, folder, device=device, loss=Timed())
    return [b - a for a, b in pairwise(times)]


def _now(loss: Tensor) -> float:
    loss.item()  # waits for a GPU
    return time.perf_counter()


def main() -> None:
    parser = parser_of("throughput", __doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("variants", nargs="*", default=OURS)
    parser.add_argument("--images", default="cifar10:train")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn, 4 or more; the first is not timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    authors, source = Authors(a.checkout), open_images(a.images)
    images = subset(source, range(max(a.steps, 4) * a.batch_size))
    seconds: dict[str, list[float]] = {name: [] for name in ("authors", *a.variants)}
    for number in range(a.rounds):
        for name, times in seconds.items():
            step = (
                theirs(authors, images, a.batch_size, max(a.steps, 4), a.device)
                if name == "authors"
                else ours(name, images, a.batch_size, a.device)
            )
            times += step[1:]
            print(
                f"round {number + 1}: {name} {statistics.median(step[1:]):.2f} s per step", file=sys.stderr, flush=True
            )
    rates = {name: [2 * a.batch_size / t for t in times] for name, times in seconds.items()}
    base = statistics.median(rates["authors"])
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"({min(values):.0f}..{max(values):.0f})"
        print(f"{median:8.0f} views/s {spread:14s} {median / base:5.2f}x  {name}")
    if a.json:
        report = {"commit": authors.commit, "batch_size": a.batch_size, "machine": machine(), "views_per_second": rates}
        a.json.write_text(json.dumps(report) + "\n", "utf-8")


if __name__ == "__main__":
    entrance("throughput", main)
