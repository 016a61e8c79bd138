"""CIFAR-10 at full length on one GPU, in legs: train, measure, go on. docs/gpu.md says how.

    PYTHONPATH=src python benchmarks/gpu_cifar10.py --data DATA --out runs/gpu --minutes 25

The same command again goes on where the last leg stopped; exit status 75 says that there is more to do. Needs torch,
torchvision, accelerate, safetensors, pyarrow and numpy alone. OUT/results.json holds the throughput, mAP@1000 over time
(training pictures ask, so that no choice is ever made on test queries) and at the end that of the test queries.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import _gpu_run
import _gpu_sweep
import _gpu_throughput
import parts
from _authors import commit_of
from _gpu_results import Results, device_name, say, summary
from _scoring import held_out
from _variants import fingerprint, variant
from spq.config import Recipe
from spq.data.images import load_pixels
from spq.data.named import ArrayImages
from spq.data.protocols import Protocol
from spq.data.sources import ImageSet, open_images
from spq.errors import CollapseError, ConfigError, SPQError
from spq.evaluation.evaluate import evaluate
from spq.learning.checkpoint import read_checkpoint
from spq.learning.refit import refit
from spq.learning.run import FIT_IMAGES, TrainStatus
from spq.learning.train import train
from spq.model.artifact import Model
from spq.model.device import resolve_device
from spq.model.network import Network
from spq.system import Replacing

RESULTS = "results.json"
# seconds of a run of a sweep beside its minutes, for compiling and its score, until one has been timed
OVERHEAD = 120.0
AGAIN = 75  # exit status: the leg is over, the work is not (EX_TEMPFAIL of sysexits.h)
STARTED = time.monotonic()


class Watch:
    """The callbacks of a training: rates into the leg's row, now and then mAP into the curve."""

    def __init__(self, results: Results, leg: dict[str, Any], recipe: Recipe, curve: Protocol, minutes: float) -> None:
        self.results, self.leg, self.recipe, self.curve = results, leg, recipe, curve
        self.interval, self.last_curve = 60 * minutes, time.monotonic()
        self.before: TrainStatus | None = None
        self.known: tuple[float, float | None] = leg["from_seconds"], None  # seconds of training, and when that was

    def status(self, now: TrainStatus) -> None:
        before, self.before = self.before, now
        self.known = now.seconds, time.monotonic()
        if before and now.seconds > before.seconds and now.part == "network":
            rate = (now.views - before.views) / (now.seconds - before.seconds)
            side = "small" if before.done < self.recipe.train.small_share else "large"
            self.leg["rates"].append([side, round(rate)])
            say(f"{now.done:4.0%}  epoch {now.epoch}, loss {now.loss:.3f}, {rate:,.0f} views/s")
        self.leg["to_seconds"] = round(now.seconds, 1)
        if torch.cuda.is_available():
            self.leg["gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)

    def epoch(self, epoch: int, network: Network) -> None:
        start = time.monotonic()
        if start - self.last_curve < self.interval:
            return
        value = evaluate(snapshot(network, self.recipe, self.curve.gallery), self.curve).map
        self.last_curve = time.monotonic()
        seconds, took = self.known[0] + start - (self.known[1] or start), self.last_curve - start
        row = {"seconds": round(seconds, 1), "epoch": epoch, "map": value, "took": round(took, 1)}
        self.results.content["curve"].append(row)
        self.results.save()
        say(f"      epoch {epoch}: mAP@{self.curve.map_at} {value:.4f}, training pictures ask, {took:.1f} s")

    def note(self, text: str) -> None:
        self.leg["notes"].append(text)
        say(text)


def snapshot(network: Network, recipe: Recipe, gallery: ImageSet) -> Model:
    """The model that a training would end with now; the network itself stays as it is."""
    model = Model(copy.deepcopy(network), recipe)
    if recipe.train.refit:
        pixels = load_pixels(
            gallery, recipe.input.size, positions=range(0, len(gallery), 1 + len(gallery) // FIT_IMAGES)
        )
        refit(model.network.quantizer, torch.from_numpy(model.embed(pixels.array)).to(model.device))
    return model


def decoded(images: ImageSet, size: int, limit: int) -> ImageSet:
    """The first `limit` pictures (0: all), decoded once at the size of the input."""
    count = min(limit or len(images), len(images))
    pixels = load_pixels(images, size, positions=range(count))
    assert images.labels is not None
    array = np.ascontiguousarray(pixels.array.transpose(0, 2, 3, 1))
    return ArrayImages(images.name, array, images.labels[pixels.kept], images.class_names)


def run(arguments: argparse.Namespace, out: Path) -> None:
    """One leg of the training, or what is left of it, then the evaluation.

    Raises:
        KeyboardInterrupt: the leg is over, and a checkpoint written.
    """
    recipe, ablation = variant(arguments.recipe, arguments.bits, arguments.minutes, arguments.epochs)
    if arguments.seed is not None:
        recipe = replace(recipe, train=replace(recipe.train, seed=arguments.seed))
    if ablation.pq:
        raise ConfigError(f"{recipe.name} trains no codebooks; run spq bench quality for it")
    device, model_folder = resolve_device(arguments.device), out / "model"
    facts = {"recipe": recipe.name, "seed": recipe.train.seed}
    seconds = restore(arguments.restore or arguments.parts or out / "parts", out, facts)
    results = Results(out / RESULTS, facts)
    results.content = {"legs": [], "curve": [], "final": {}} | results.content
    results.save()
    size = recipe.input.size
    images = decoded(open_images(arguments.train), size, arguments.limit)
    if not (model_folder / "config.json").exists():
        leg = results.start_leg(seconds)
        curve = replace(held_out(images), map_at=arguments.map_at)  # trained on all the same: a curve, not a result
        watch = Watch(results, leg, recipe, curve, arguments.curve_minutes)
        try:
            train(
                images, recipe, model_folder, resume=True, device=device, objective=ablation.objective,
                on_status=watch.status, on_epoch=watch.epoch, on_note=watch.note,
            )  # fmt: skip
        finally:
            results.save()
    queries = decoded(open_images(arguments.test), size, arguments.limit)
    protocol = Protocol(arguments.protocol, queries, images, images, arguments.map_at)
    for model in at_lengths(Model.load(model_folder, device)):
        bits = str(model.config.quantizer.bits)
        if bits not in results.content["final"]:
            results.content["final"][bits] = evaluate(model, protocol).to_dict()
            results.save()


def at_lengths(model: Model) -> list[Model]:
    """The model at each length of code that it was trained for."""
    lengths = getattr(model.config.quantizer, "lengths", ())  # of a version whose models have prefixes
    return [model.truncate(bits) for bits in lengths] or [model]


def restore(folder: Path, out: Path, facts: dict[str, Any]) -> float:
    """Seconds of training that are done: in OUT's checkpoint, else in the parts of one, which are put together first.

    Parts of a finished model become that model: what is left to do is to measure it.

    Raises:
        ConfigError: they are of a training of other facts.
    """
    model = out / "model"
    checkpoint = read_checkpoint(model)
    if checkpoint is not None or (model / "config.json").exists():
        _check_facts(out, facts)
    elif (folder / "model.json").exists():
        _check_facts(folder, facts)
        parts.read_model(folder, model)
        (out / RESULTS).write_bytes((folder / RESULTS).read_bytes())
    elif (checkpoint := parts.read(folder, "checkpoint")) is not None:
        _check_facts(folder, facts)
        (model / "checkpoints").mkdir(parents=True, exist_ok=True)
        with Replacing(model / "checkpoints" / "last.pt") as temporary:
            torch.save(checkpoint, temporary)
        (out / RESULTS).write_bytes((folder / RESULTS).read_bytes())
    return float(checkpoint["seconds"]) if checkpoint else 0.0


def _check_facts(folder: Path, facts: dict[str, Any]) -> None:
    if not (folder / RESULTS).exists():
        raise ConfigError(f"{folder} holds a training, but no {RESULTS} that says of what; give another folder")
    of = json.loads((folder / RESULTS).read_text("utf-8"))
    if not facts.items() <= of.items():
        told = f"recipe {of.get('recipe')}, seed {of.get('seed')}"
        raise ConfigError(f"{folder} holds a training of {told}; give another folder for this one")


def leave(arguments: argparse.Namespace, out: Path) -> None:
    """Parts of what the next leg needs, or of the finished model, and the results beside them."""
    folder, model = arguments.parts or out / "parts", out / "model"
    if (model / "config.json").exists():
        files = parts.write_model(folder, model, arguments.part_mib)
        for old in folder.glob("checkpoint*"):
            old.unlink()
    elif (checkpoint := read_checkpoint(model)) is not None:
        files = parts.write(folder, "checkpoint", checkpoint, arguments.part_mib, shrink=True)
        for old in folder.glob("model*"):
            old.unlink()
    else:
        return
    say(f"{len(files)} parts in {folder}, {sum(file.stat().st_size for file in files) / parts.MIB:.1f} MiB")
    (folder / RESULTS).write_bytes((out / RESULTS).read_bytes())


def sweep(arguments: argparse.Namespace, out: Path) -> None:
    """Short trainings of variants. One that does not fit into what is left of the leg waits for the next.

    Raises:
        KeyboardInterrupt: the leg is over. ConfigError: a run is longer than a leg.
    """
    if 60 * arguments.minutes + OVERHEAD > 60 * arguments.leg_minutes:
        raise ConfigError(
            f"--minutes {arguments.minutes:g}, compiling and a score do not fit into --leg-minutes {arguments.leg_minutes:g}"
        )
    chosen = {text: variant(text, arguments.bits, arguments.minutes, None)[0] for text in arguments.sweep}
    size = chosen[arguments.sweep[0]].input.size
    images = decoded(open_images(arguments.train), size, arguments.limit)
    protocol = replace(held_out(images), map_at=arguments.map_at)
    results = Results(out / "sweep.json", {})
    rows = results.content.setdefault("sweep", [])
    overhead = OVERHEAD
    # what makes rates and scores comparable: minutes of another card, or on fewer pictures, are others
    here = {"device": device_name(), "protocol": protocol.name, "pictures": len(images), "map_at": arguments.map_at}
    for text, recipe in chosen.items():
        key = {"text": text, "bits": arguments.bits, "minutes": arguments.minutes, "seed": arguments.seed or 0}
        mark = here | {"fingerprint": fingerprint(recipe)}
        if any((key | mark).items() <= row.items() for row in rows):
            continue
        start = time.monotonic()
        if start - STARTED + 60 * arguments.minutes + overhead > 60 * arguments.leg_minutes:
            raise KeyboardInterrupt
        try:
            made = _gpu_sweep.run(protocol, folder=out / "sweep", device=arguments.device, note=say, **key)
        except CollapseError as error:  # a result as well: the next variant goes on
            made = {"map": 0.0, "cosine": 0.0, "views": 0, "epochs": 0.0, "collapsed": str(error)}
        rows.append(key | mark | made)
        overhead = time.monotonic() - start - 60 * arguments.minutes
        results.save()
        say(_gpu_sweep.table(rows[-1:]))
    print(_gpu_sweep.table([row for row in rows if here.items() <= row.items()]))


def throughput(arguments: argparse.Namespace, out: Path) -> None:
    """Views per second of variants, each in the training loop itself, and of the authors' code."""
    images = decoded(open_images(arguments.train), 32, arguments.limit)
    here = {"device": device_name(), "torch": torch.__version__, "commit": commit_of(Path(__file__).parent.parent)}
    results = Results(out / "throughput.json", {})
    everything = results.content.setdefault("rows", [])
    rows = [row for row in everything if here.items() <= row.items()]  # rates of other cards or code do not compare
    for more in _gpu_throughput.measure(images, arguments.device, arguments.official, [row["what"] for row in rows]):
        rows += (new := [row | here for row in more])
        everything += new
        results.save()
        say(_gpu_throughput.table(new))
    print(_gpu_throughput.table(rows))


@contextmanager
def leg_of(minutes: float) -> Iterator[None]:
    """Ctrl-C by itself when the minutes, counted from the start of the program, are over."""
    timer = threading.Timer(
        max(0.1, 60 * minutes - (time.monotonic() - STARTED)), os.kill, (os.getpid(), signal.SIGINT)
    )
    timer.daemon = True
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, help="folder that holds cifar10/train.parquet and test.parquet; else $SPQ_DATA")
    add("--out", type=Path, default=Path("runs/gpu"), help="checkpoints, model and results.json")
    add("--parts", type=Path, help="where parts are left for the next leg; by default OUT/parts")
    add("--restore", type=Path, help="where they lie now, where that is not --parts; OUT's own checkpoint comes first")
    add("--part-mib", type=float, default=15.0, help="size of a part at most")
    add("--recipe", default="gpu", help="name, FILE.toml or VARIANT; all of it counts at the first leg alone")
    add("--bits", default="16,32,64", help="lengths of one model's codes")
    add("--minutes", type=float, help="of training in all, or of each run of a sweep")
    add("--epochs", type=int, help="instead of minutes")
    add("--seed", type=int)
    add("--leg-minutes", type=float, default=8.0, help="after which this run stops, its start counted in")
    add("--curve-minutes", type=float, default=3.0, help="between two points of the curve")
    add("--sweep", nargs="+", metavar="VARIANT", help="short runs instead, for example gpu gpu:train.temperature=0.1")
    add(
        "--throughput",
        action="store_true",
        help="views per second instead, step by step from recipe paper to recipe gpu",
    )
    add("--finish-by", type=float, help="seconds from the start in which all is done: one call, one finished result")
    add(
        "--reserve",
        type=float,
        default=38.0,
        help="of these seconds for codebooks, the model's report, scores and parts",
    )
    add("--look", action="store_true", help="rates, then a short training and variants of its last stage")
    add("--look-minutes", type=float, default=1.0, help="of the short training")
    add("--variants", nargs="+", metavar="VARIANT", help="of the last stage, for --look")
    add("--variant-seconds", type=float, default=15.0, help="of self-training, for each")
    add("--start", type=Path, help="model folder whose weights the training starts from")
    add("--official", type=Path, metavar="CHECKOUT", help="with the authors' code beside it (needs kornia and tqdm)")
    add("--train", default="cifar10:train")
    add("--test", default="cifar10:test")
    add("--protocol", default="cifar10-spq", help="what the results call it")
    add("--map-at", type=int, default=1000)
    add("--limit", type=int, default=0, help="only so many pictures of each set: to try it in miniature")
    add("--device", default="auto")
    arguments = parser.parse_args(argv)
    if arguments.sweep and not arguments.minutes:
        parser.error("--sweep needs --minutes, the length of each run")
    arguments.bits = [int(bits) for bits in arguments.bits.split(",")]
    arguments.throughput |= arguments.official is not None
    if arguments.data:
        os.environ["SPQ_DATA"] = str(arguments.data)
    return arguments


def main() -> int:
    arguments = parse()
    out: Path = arguments.out
    torch.backends.cudnn.benchmark = True
    if arguments.look or arguments.finish_by:
        try:
            (_gpu_run.look if arguments.look else _gpu_run.one_call)(arguments, out, STARTED)
        except SPQError as error:
            say(str(error))
            return 1
        return 0
    try:
        with leg_of(arguments.leg_minutes):
            work = sweep if arguments.sweep else throughput if arguments.throughput else run
            work(arguments, out)
        status = 0
    except KeyboardInterrupt:
        say("the leg is over; the same command goes on")
        status = AGAIN
    except SPQError as error:
        say(str(error))
        return 1
    if work is run:
        leave(arguments, out)
        print(summary(json.loads((out / RESULTS).read_text("utf-8"))))
    return status


if __name__ == "__main__":
    sys.exit(main())
