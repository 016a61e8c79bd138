"""The authors' code, trained and scored beside ours: same pictures, same wall clock, both metrics on both models.

    git clone https://github.com/youngkyunJang/SPQ
    spq bench official SPQ --out authors-32 --minutes 30 --ours cifar.spq

Their files are run as they are. Four things come from here, put in their place while `train_SPQ` runs: the device, the data
set (any labelled collection of spq, where they open torchvision's CIFAR10), the order of batches and the seeds (functions of
seed and step, so that a stopped run goes on as if it had not been), and the end of the training (minutes or epochs in place of
5,000 epochs). Their evaluation during training never takes place: it would leave batch normalisation frozen. Points of the
curve are copies of the weights, scored afterwards, and saving them does not count as time.

5,000 training pictures are held out as queries, or with `--test` the test set asks. Needs kornia and tqdm.
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
from _scoring import Data, choose_protocol, entrance, load_data, map_of, new_point, parser_of, points
from spq.common.files import Replacing
from spq.model.model import Model


class Clock:
    """Seconds of training alone, over all sessions of a run."""

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
    """Their training for so many minutes, or else epochs, in `out`: stopped at any time, the same call goes on.

    Args:
        every: minutes between points of the curve, and between checkpoints.
    Returns:
        the last checkpoint: network (a state dict under their names), step, seconds; and their network itself.
    Raises:
        KeyboardInterrupt: Ctrl-C, after the step under way and a checkpoint.
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
    """mAP of one model by our metric and by theirs, both with unsquared distances; `difference` with the same ties.

    Args:
        network: of theirs, of which `model` is the copy; their metric then sees it itself.
    """
    ours, (theirs, tied) = map_of(model, data, "l2"), authors.score(model, data, network)
    return {"ours": ours, "theirs": theirs, "theirs, ties by gallery order": tied, "difference": abs(ours - tied)}


def main() -> None:
    parser = parser_of("official", __doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training; the same one goes on")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--epochs", type=int, default=0, help="in place of --minutes")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between points of the curve")
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="of their loader; 0 decodes in the training process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", default="cifar10:train")
    parser.add_argument("--test", action="store_true", help="the test set asks; else 5,000 pictures held out")
    parser.add_argument("--queries", type=int, help="only so many of them, for a quick look")
    parser.add_argument("--ours", type=Path, help="a model folder of spq, to be scored by both as well")
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
            f"{name:8s} by our metric {scores['ours']:.6f}, by theirs {scores['theirs, ties by gallery order']:.6f}: "
            f"{scores['difference']:.1e} apart; with ties as their sort leaves them {scores['theirs']:.6f}"
        )
    (a.json or a.out / "official.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    entrance("official", main)
