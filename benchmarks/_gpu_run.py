"""The two modes of `gpu_cifar10.py`: a complete training in one call, and `--look`."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import parts
from _gpu_results import Diary, say
from _gpu_scoring import Scorer
from _gpu_step import eager_rates, pieces, ways
from _variants import variant
from spq.config import ClusterConfig, Recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.data.named import ArrayImages
from spq.data.open import open_images
from spq.errors import CollapseError
from spq.model.device import resolve_device
from spq.model.model import Model
from spq.model.network import Network
from spq.training.callbacks import TrainStatus
from spq.training.checkpoint import Checkpoint
from spq.training.context import Training, TrainOptions
from spq.training.stages.self_training import Heads, self_train
from spq.training.stages.train_clusters import ClusterStage
from spq.training.train import train
from spq.training.trained import Trained

ABLATION = "network", "heads", "self-training", "heads 2"  # parts that test queries score; no choice depends on them
HELD_OUT = 10  # one of this many training pictures is a query, for the curve and for choices


class Data:
    """The training set, decoded once, and scorers of two protocols on the device."""

    def __init__(self, arguments: argparse.Namespace, size: int) -> None:
        self.device = torch.device(resolve_device(arguments.device))
        self.bf16 = self.device.type == "cuda"
        self.images, self.pixels, labels = decoded(open_images(arguments.train), size, arguments.limit)
        _, queries, query_labels = decoded(open_images(arguments.test), size, arguments.limit)
        sides = [torch.from_numpy(part).to(self.device) for part in (queries, query_labels, self.pixels, labels)]
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels))).to(self.device)
        ask, rest = order[: len(order) // HELD_OUT], order[len(order) // HELD_OUT :]
        self.test = Scorer(*sides, arguments.map_at)
        self.held_out = Scorer(sides[2][ask], sides[3][ask], sides[2][rest], sides[3][rest], arguments.map_at)


def decoded(images: ImageSet, size: int, limit: int) -> tuple[ImageSet, NDArray[np.uint8], NDArray[np.int64]]:
    """The first `limit` pictures (0: all) as a set in memory, as pixels (N, 3, S, S) and as labels (N,)."""
    count = min(limit or len(images), len(images))
    pixels = load_pixels(images, size, positions=range(count))
    assert images.labels is not None
    labels = np.asarray(images.labels)[pixels.kept]
    rows = np.ascontiguousarray(pixels.array.transpose(0, 2, 3, 1))
    return ArrayImages(images.name, rows, labels, images.class_names), pixels.array, labels


def one_call(arguments: argparse.Namespace, out: Path, started: float) -> None:
    """Train until the time limit, score, and write the models in parts.

    Test queries score the network alone, the clustering heads, and the final model. No choice depends on these scores.
    """
    recipe = variant(arguments.recipe, arguments.bits, 10.0, None)[0]
    recipe = replace(recipe, train=replace(recipe.train, seed=arguments.seed, checkpoint_minutes=60.0))
    diary = Diary(out / "results.json", started, {"recipe": recipe.name, "seed": arguments.seed})
    start = Model.load(arguments.start) if arguments.start else None
    shutil.rmtree(out / "network", ignore_errors=True)  # of an earlier call
    data = Data(arguments, recipe.input.size)
    diary.mark("pictures decoded")
    watch = Watch(diary, data, recipe, 60 * arguments.curve_minutes)

    def on_part(name: str, model: Model) -> None:
        diary.mark(name)
        if name in ABLATION:
            diary.score(name, data.test.scores(model, data.bf16))
        elif name.startswith("heads"):
            diary.score(f"{name}, training pictures ask", data.held_out.scores(model, data.bf16))
        if name == "network":
            model.save(out / "network", half=True)

    try:
        model = train(
            data.images, recipe, out / "model", device=arguments.device, start=start,
            deadline=started + arguments.finish_by - arguments.reserve,
            on_status=watch.status, on_epoch=watch.epoch, on_note=diary.note, on_part=on_part,
        )  # fmt: skip
    except Exception:
        write_parts(arguments, out, rescue_network(out))
        raise
    diary.mark("learned")
    diary.content["training"] = model.facts
    diary.content["signs"] = [json.loads(line) for line in lines_of(out / "model" / "clusters.jsonl")]
    model.save(out / "model", half=True)
    model.network.to(data.device)
    torch.backends.cudnn.allow_tf32 = False  # in fp32, as on a CPU
    diary.score("final", data.test.scores(model))
    diary.score("final, training pictures ask", data.held_out.scores(model))
    diary.mark("scored")
    count = write_parts(arguments, out, ["model", *(["network"] if (out / "network" / "config.json").exists() else [])])
    diary.mark(f"{count} parts written")
    write_parts(arguments, out, [])
    print(diary.table())


def write_parts(arguments: argparse.Namespace, out: Path, models: list[str]) -> int:
    """Write model folders as parts, and a copy of the results beside them; return the number of parts."""
    folder = arguments.parts or out / "parts"
    files = [file for name in models for file in parts.write_model(folder, out / name, arguments.part_mib, name)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes((out / "results.json").read_bytes())
    return len(files)


def rescue_network(out: Path) -> list[str]:
    """After a failure, save the trained network from the checkpoint unless it is saved already: minutes of a GPU are dear."""
    if not (out / "network" / "config.json").exists():
        checkpoint = Checkpoint.load(out / "model")
        if checkpoint is None:
            return []
        network = Network(checkpoint.recipe)
        network.load_state_dict(checkpoint.network)
        Model(network.eval(), checkpoint.recipe).save(out / "network", half=True)
    return ["network"]


def look(arguments: argparse.Namespace, out: Path, started: float) -> None:
    """Measure rates of a step and train shortly, or load a model; then score variants of the last stage."""
    recipe = variant(arguments.recipe, arguments.bits, arguments.look_minutes, None)[0]
    recipe = replace(recipe, train=replace(recipe.train, seed=arguments.seed, checkpoint_minutes=60.0, refit=False))
    diary = Diary(out / "look.json", started, {"recipe": recipe.name, "seed": arguments.seed})
    data = Data(arguments, recipe.input.size)
    diary.mark("pictures decoded")
    if arguments.start:
        model = Model.load(arguments.start)
    else:
        measure_rates(recipe, data, diary)
        watch, first = Watch(diary, data, recipe, float("inf")), replace(recipe, cluster=ClusterConfig())
        model = train(
            data.images, first, out / "look", device=arguments.device, on_status=watch.status, on_note=diary.note
        )
        diary.mark("network trained")
    (out / "look").mkdir(parents=True, exist_ok=True)
    model.network.to(data.device, memory_format=torch.channels_last)
    diary.score("network", data.held_out.scores(model, data.bf16))
    known: dict[Any, Heads] = {}
    for text in arguments.variants or [arguments.recipe]:
        changed = variant(text, arguments.bits, arguments.variant_seconds / 60, None)[0]
        last_stage(changed, model, data, diary, known, out / "look")
        diary.mark(changed.name)
    print(diary.table())


def measure_rates(recipe: Recipe, data: Data, diary: Diary) -> None:
    """Measure the rates of a step, in all ways to run it."""
    diary.content["backbone"] = eager_rates(recipe, data.device)
    diary.content["milliseconds"] = {
        name: [round(1000 * seconds, 2) for seconds in pair] for name, pair in pieces(recipe, data.device).items()
    }
    say(f"backbone: {diary.content['backbone']}\nmilliseconds: {diary.content['milliseconds']}")
    diary.content["ways"] = ways(recipe, data.device, diary.note)
    for name, numbers in diary.content["ways"].items():
        say(f"a step, {name}: {numbers}")
    diary.mark("rates")


def last_stage(recipe: Recipe, model: Model, data: Data, diary: Diary, known: dict[Any, Heads], out: Path) -> None:
    """Score heads and self-training of a variant on a trained network. Heads with the same settings are fitted only once."""
    options, pixels = TrainOptions().with_names(on_note=diary.note), load_pixels(data.images, recipe.input.size)
    training = Training(data.images, recipe, out, data.device, options, decoded=pixels)
    stage = ClusterStage(training, Trained(copy.deepcopy(model.network), {"steps": 1}, 0.0))
    c = recipe.cluster
    key = (c.neighbours, c.balance, c.candidates, c.head_steps, c.head_batch, c.head_lr, c.temperature)
    if key not in known:
        begun = time.monotonic()
        known[key] = stage.make_heads()
        network = copy.deepcopy(known[key].network)
        stage.fit_codebooks(network)
        took = time.monotonic() - begun
        diary.score(f"{recipe.name}: heads, {took:.1f} s", data.held_out.scores(Model(network, stage.end_recipe)))
    heads = copy.deepcopy(known[key])
    stage.space.network.backbone = heads.network.backbone
    space = replace(stage.space, forward=heads.network.backbone)
    now = training.budget.watch.seconds  # heads do not take from a variant's seconds
    try:
        network = self_train(space, heads, (now, now + 60 * recipe.train.minutes))
    except CollapseError as error:
        diary.note(f"{recipe.name}: {error}")
        return
    stage.fit_codebooks(network)
    diary.score(f"{recipe.name}: self-training", data.held_out.scores(Model(network, stage.end_recipe)))
    diary.content["notes"] += lines_of(out / "clusters.jsonl")[-1:]


class Watch:
    """Callbacks of a training: rates, and a curve of scores with training pictures as queries."""

    def __init__(self, diary: Diary, data: Data, recipe: Recipe, interval: float) -> None:
        self.diary, self.data, self.recipe, self.interval = diary, data, recipe, interval
        self.before: TrainStatus | None = None
        self.last = time.monotonic()

    def status(self, now: TrainStatus) -> None:
        before, self.before = self.before, now
        if before is None or before.part != now.part or now.seconds <= before.seconds or now.views < before.views:
            return  # the first of a part or of a round
        rate = round((now.views - before.views) / (now.seconds - before.seconds))
        row = {"seconds": self.diary.seconds, "part": now.part, "done": round(now.done, 3), "epoch": now.epoch}
        self.diary.content["rates"].append(row | {"loss": round(now.loss, 4), "views_per_second": rate})
        say(
            f"{row['seconds']:6.1f} s  {now.part} {now.done:4.0%}  epoch {now.epoch}, loss {now.loss:.3f}, {rate:,} views/s, "
            f"codewords {now.health.codeword_use:.2f}, entropy {now.health.entropy:.2f}, spread {now.health.spread:.2f}"
        )

    def epoch(self, epoch: int, network: Network) -> None:
        if time.monotonic() - self.last < self.interval:
            return
        seconds = self.diary.seconds
        scores = self.data.held_out.scores(Model(copy.deepcopy(network), self.recipe), self.data.bf16)
        row = {"seconds": seconds, "epoch": epoch, **scores["float cosine"]}
        self.last = time.monotonic()
        self.diary.content["curve"].append(row)
        say(f"        curve, training pictures ask: {row}")


def lines_of(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []
