"""The authors' code, trained and scored in comparison with ours: same pictures, same wall clock, both metrics on both models.

    git clone https://github.com/youngkyunJang/SPQ
    spq bench official SPQ --out authors-32 --minutes 30 --ours cifar.spq

The authors' files run without changes. While `train_SPQ` runs, four things are replaced:

- the device,
- the data set: any labelled collection of spq instead of torchvision's CIFAR10,
- the order of batches and the seeds, which become functions of seed and step, so that a stopped run can continue exactly,
- the end of training: minutes or epochs instead of 5,000 epochs.

The authors' evaluation during training is skipped, because it would leave batch normalization frozen. Points of the curve are
copies of the weights that are scored later. Saving them does not count as time.

Queries are 5,000 training pictures that are held out, or the test set with `--test`. Needs kornia and tqdm.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from _authors import Authors, BudgetSpent, Training, as_model
from _entrance import entrance, parser_of
from _scoring import Data, choose_protocol, load_data, map_of, new_point, points
from spq.common.files import Replacing
from spq.model.model import Model


class Clock:
    """Seconds of training, summed over all parts of a run that was stopped."""

    def __init__(self, seconds: float) -> None:
        self.before, self.start = seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        since = time.monotonic()
        yield
        self.start += time.monotonic() - since


def train_within(
    authors: Authors,
    pixels: NDArray[np.uint8],
    out: Path,
    *,
    bits: int,
    seed: int = 0,
    minutes: float = 0.0,
    epochs: int = 0,
    every: float = 5.0,
    batch_size: int = 256,
    device: str = "cpu",
    workers: int = 0,
) -> tuple[dict[str, Any], torch.nn.Module]:
    """Train with the authors' code for some minutes or epochs. The same call continues a stopped training.

    Args:
        every: minutes between points of the curve, and between checkpoints.
    Returns:
        the last checkpoint (network as a state dict with the authors' names, step, seconds), and the network.
    Raises:
        KeyboardInterrupt: at Ctrl-C, after the current step and a checkpoint.
    """
    path, interrupted = out / "checkpoints" / "last.pt", False
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = torch.load(path, map_location=device, weights_only=True) if path.exists() else None
    clock = Clock(saved["seconds"] if saved else 0.0)
    last = clock.seconds

    def save(training: Training) -> None:
        nonlocal last
        last = clock.seconds
        with clock.stopped():
            with Replacing(path) as temporary:
                torch.save({**training.state(), "seconds": last}, temporary)
            new_point(out)
        print(f"authors' code: step {training.step}, {last / 60:.1f} minutes", file=sys.stderr)

    def before_step(training: Training) -> None:
        spent = training.step >= epochs * training.steps_per_epoch if epochs else clock.seconds >= 60 * minutes
        unsaved = training.step > (saved["step"] if saved else 0)
        if unsaved and (spent or interrupted or clock.seconds - last >= 60 * every):
            save(training)
        if spent or interrupted:
            raise BudgetSpent

    def stop(*_: Any) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    handler = signal.signal(signal.SIGINT, stop)
    try:
        options = {"bits": bits, "seed": seed, "batch_size": batch_size, "device": device, "workers": workers}
        training = authors.train(pixels, before_step=before_step, saved=saved, **options)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupted:
        raise KeyboardInterrupt
    return torch.load(path, map_location="cpu", weights_only=True), training.network


def both_scorers(
    authors: Authors, model: Model, data: Data, network: torch.nn.Module | None = None
) -> dict[str, float]:
    """mAP of one model by our metric and by the authors', both with unsquared distances; `difference` is with the same ties.

    Args:
        network: the authors' network, if `model` is a copy of it; their metric then uses it.
    """
    ours, (theirs, tied) = map_of(model, data, "l2"), authors.score(model, data, network)
    return {"ours": ours, "theirs": theirs, "theirs, ties by gallery order": tied, "difference": abs(ours - tied)}


def main() -> None:
    parser = parser_of("official", __doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of the authors' repository")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the training; give the same folder to continue"
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--epochs", type=int, default=0, help="instead of --minutes")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between points of the curve")
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=0, help="workers of the authors' loader; 0 decodes in the training process"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", default="cifar10:train")
    parser.add_argument(
        "--test", action="store_true", help="use the test set as queries, instead of 5,000 held-out pictures"
    )
    parser.add_argument("--queries", type=int, help="use only this many queries")
    parser.add_argument("--ours", type=Path, help="also score this model folder of spq with both metrics")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    authors = Authors(a.checkout)
    data = load_data(choose_protocol(a.images, a.test), 32, a.queries)
    last, network = train_within(
        authors, data.training, a.out, bits=a.bits, seed=a.seed, minutes=a.minutes, epochs=a.epochs, every=a.every,
        batch_size=a.batch_size, device=a.device, workers=a.workers,
    )  # fmt: skip
    scorers = {"authors": both_scorers(authors, as_model(last["network"], a.bits), data, network)}
    curve = []
    for point in points(a.out):
        is_last = point["step"] == last["step"]
        value = scorers["authors"]["ours"] if is_last else map_of(as_model(point["network"], a.bits), data, "l2")
        curve.append({"minutes": round(point["seconds"] / 60, 2), "step": point["step"], "map": value})
    if a.ours:
        scorers["spq"] = both_scorers(authors, Model.load(a.ours), data)
    report = {
        "commit": authors.commit, "protocol": data.name, "bits": a.bits, "seed": a.seed, "batch_size": a.batch_size,
        "queries": len(data.queries), "curve": curve, "scorers": scorers,
    }  # fmt: skip
    for point in curve:
        print(f"{point['minutes']:7.2f} minutes  step {point['step']:6d}  mAP@{data.map_at} {point['map']:.4f}")
    for name, scores in scorers.items():
        print(
            f"{name:8s} our metric {scores['ours']:.6f}, authors' metric {scores['theirs, ties by gallery order']:.6f}: "
            f"difference {scores['difference']:.1e}; with the ties of their sort {scores['theirs']:.6f}"
        )
    (a.json or a.out / "official.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    entrance("official", main)
