"""One call, one finished result, and the look before it: `gpu_cifar10.py --finish-by SECONDS` and `--look`."""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import parts
from _gpu_results import Results, device_name, say
from _gpu_scoring import Scorer
from _variants import variant
from spq.config import Recipe
from spq.data.images import load_pixels
from spq.data.named import ArrayImages
from spq.data.sources import ImageSet, open_images
from spq.errors import SPQError
from spq.learning.checkpoint import State
from spq.learning.cluster_stage import ClusterStage
from spq.learning.refit import refit
from spq.learning.run import TrainStatus
from spq.learning.train import train
from spq.model.artifact import Model
from spq.model.device import resolve_device
from spq.model.network import Network

HELD_OUT = 5_000  # training pictures that ask the others, for the curve and for choices


class Data:
    """Pictures decoded once: the set that is trained on, and scorers of two protocols on the device."""

    def __init__(self, arguments: argparse.Namespace, size: int) -> None:
        self.device = torch.device(resolve_device(arguments.device))
        self.images, gallery, labels = decoded(open_images(arguments.train), size, arguments.limit)
        _, queries, query_labels = decoded(open_images(arguments.test), size, arguments.limit)
        gallery, labels, queries, query_labels = (
            torch.from_numpy(part).to(self.device) for part in (gallery, labels, queries, query_labels)
        )
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(gallery))).to(self.device)
        ask, rest = order[: len(order) // 10], order[len(order) // 10 :]
        self.test = Scorer(queries, query_labels, gallery, labels, arguments.map_at)
        self.held_out = Scorer(gallery[ask], labels[ask], gallery[rest], labels[rest], arguments.map_at)


def decoded(images: ImageSet, size: int, limit: int) -> tuple[ImageSet, Any, Any]:
    """The first `limit` pictures (0: all) as a set in memory, pixels (N, 3, S, S) uint8 and labels (N,)."""
    count = min(limit or len(images), len(images))
    pixels = load_pixels(images, size, positions=range(count))
    assert images.labels is not None
    labels = np.asarray(images.labels)[pixels.kept]
    rows = np.ascontiguousarray(pixels.array.transpose(0, 2, 3, 1))
    return ArrayImages(images.name, rows, labels, images.class_names), pixels.array, labels


def one_call(arguments: argparse.Namespace, out: Path, started: float) -> None:
    """Train until the clock says so, score, and leave model and parts."""
    deadline = started + arguments.finish_by - arguments.reserve
    recipe = variant(arguments.recipe, arguments.bits, 10.0, None)[0]
    recipe = replace(recipe, train=replace(recipe.train, seed=arguments.seed or 0, checkpoint_minutes=60.0))
    results = Results(out / "results.json", {"recipe": recipe.name, "seed": recipe.train.seed, "device": device_name()})
    results.content |= {"torch": torch.__version__, "rates": [], "curve": [], "notes": [], "scores": {}, "seconds": {}}
    clock = results.content["seconds"]

    def mark(name: str) -> None:
        clock[name] = round(time.monotonic() - started, 1)
        say(f"{clock[name]:6.1f} s: {name}")
        results.save()

    data = Data(arguments, recipe.input.size)
    mark("pictures decoded")
    bf16 = data.device.type == "cuda"
    watch = Watch(results, data, recipe, 60 * arguments.curve_minutes, started)

    def on_part(name: str, model: Model) -> None:
        mark(name)
        results.content["scores"][name] = data.test.scores(model, bf16)
        say(f"{name}: {results.content['scores'][name]}")
        if name == "network":
            model.save(out / "network", half=True)
        results.save()

    start = Model.load(arguments.start, "cpu") if arguments.start else None
    model = train(
        data.images, recipe, out / "model", device=arguments.device, start=start, deadline=deadline,
        on_status=watch.status, on_epoch=watch.epoch, on_note=watch.note, on_part=on_part,
    )  # fmt: skip
    mark("learned")
    results.content["training"] = model.training
    model.save(out / "model", half=True)
    model.network.to(data.device)
    torch.backends.cudnn.allow_tf32 = False
    results.content["scores"]["final"] = data.test.scores(model)
    results.content["scores"]["final, training pictures ask"] = data.held_out.scores(model)
    mark("scored")
    folder = arguments.parts or out / "parts"
    files = parts.write_model(folder, out / "model", arguments.part_mib)
    if (out / "network" / "config.json").exists():
        files += parts.write_model(folder, out / "network", arguments.part_mib, "network")
    mark(f"{len(files)} parts written")
    results.content["log"] = [json.loads(line) for line in read_lines(out / "model" / "clusters.jsonl")]
    results.save()
    (folder / "results.json").write_bytes((out / "results.json").read_bytes())
    print(table(results.content))


def read_lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


class Watch:
    """Callbacks of the training: rates and a curve of training pictures that ask the others."""

    def __init__(self, results: Results, data: Data, recipe: Recipe, interval: float, started: float) -> None:
        self.results, self.data, self.recipe, self.interval, self.started = results, data, recipe, interval, started
        self.before: TrainStatus | None = None
        self.last = time.monotonic()

    def status(self, now: TrainStatus) -> None:
        before, self.before = self.before, now
        if before and now.seconds > before.seconds and now.part == before.part and now.step > before.step:
            rate = (now.views - before.views) / (now.seconds - before.seconds)
            row = [
                round(time.monotonic() - self.started, 1),
                now.part,
                round(now.done, 3),
                now.epoch,
                round(now.loss, 4),
                round(rate),
            ]
            self.results.content["rates"].append(row)
            say(
                f"{row[0]:6.1f} s  {now.part} {now.done:4.0%}  epoch {now.epoch}, loss {now.loss:.3f}, {rate:,.0f} views/s, "
                f"codewords {now.health.codeword_use:.2f}, entropy {now.health.entropy:.2f}, spread {now.health.spread:.2f}"
            )

    def epoch(self, epoch: int, network: Network) -> None:
        if time.monotonic() - self.last < self.interval:
            return
        begun = time.monotonic()
        model = Model(copy.deepcopy(network), self.recipe)
        value = self.data.held_out.scores(model, self.data.device.type == "cuda")["float cosine"]
        self.last = time.monotonic()
        row = {"seconds": round(begun - self.started, 1), "epoch": epoch, **value, "took": round(self.last - begun, 1)}
        self.results.content["curve"].append(row)
        say(f"        curve: {row}")

    def note(self, text: str) -> None:
        self.results.content["notes"].append(text)
        say(text)


def table(content: dict[str, Any]) -> str:
    """Scores and times as text."""
    lines = [f"{content['device']}, recipe {content['recipe']}, torch {content['torch']}"]
    lines += [f"{seconds:7.1f} s  {name}" for name, seconds in content["seconds"].items()]
    for name, scores in content["scores"].items():
        row = "  ".join(f"{bits}: {s['map']:.4f} (P@1 {s['p1']:.3f})" for bits, s in scores.items())
        lines.append(f"{name:30s} {row}")
    return "\n".join(lines)


def look(arguments: argparse.Namespace, out: Path, started: float) -> None:
    """Rates eager and compiled, then a short training and variants of its last stage, scored by training pictures."""
    recipe = variant(arguments.recipe, arguments.bits, arguments.look_minutes, None)[0]
    recipe = replace(recipe, train=replace(recipe.train, checkpoint_minutes=60.0, refit=False, compile="on"))
    first = replace(recipe, cluster=replace(recipe.cluster, share=0.0))
    results = Results(out / "look.json", {"recipe": recipe.name, "device": device_name()})
    results.content |= {"torch": torch.__version__, "rates": [], "curve": [], "notes": [], "scores": {}, "seconds": {}}

    def mark(name: str) -> None:
        results.content["seconds"][name] = round(time.monotonic() - started, 1)
        say(f"{results.content['seconds'][name]:6.1f} s: {name}")
        results.save()

    data = Data(arguments, recipe.input.size)
    mark("pictures decoded")
    if data.device.type == "cuda":
        for name, rate in eager_rates(recipe, data.device).items():
            results.content["rates"].append([name, rate])
            say(f"{name}: {rate:,.0f} views/s")
        mark("eager rates")
    watch = Watch(results, data, recipe, 1e9, started)
    model = train(data.images, first, out / "look", device=arguments.device, on_status=watch.status, on_note=watch.note)
    mark("network trained")
    model.network.to(data.device)
    bf16 = data.device.type == "cuda"
    results.content["scores"]["network"] = data.held_out.scores(model, bf16)
    say(f"network: {results.content['scores']['network']}")
    pixels = load_pixels(data.images, recipe.input.size)
    heads: dict[Any, tuple[Network, ClusterStage]] = {}
    for text in arguments.variants or [arguments.recipe]:
        try:
            changed = variant(text, arguments.bits, arguments.variant_seconds / 60, None)[0]
            stage = ClusterStage(
                copy.deepcopy(model.network), changed, pixels, "look", out / "look", State(trained={}), fingerprint="",
                device=data.device, on_note=say,
            )  # fmt: skip
            c = changed.cluster
            key = (c.neighbours, c.balance, c.head_steps, c.head_batch, c.head_lr, c.temperature)
            if key not in heads:
                begun = time.monotonic()
                network = stage.heads()
                stage.fit_codebooks(network)
                scored = data.held_out.scores(Model(copy.deepcopy(network), stage.end_recipe), bf16)
                results.content["scores"][f"{text}: heads, {time.monotonic() - begun:.1f} s"] = scored
                heads[key] = copy.deepcopy(network), stage
            network, first_stage = copy.deepcopy(heads[key][0]), heads[key][1]
            stage.near, stage.bank = first_stage.near, first_stage.bank.clone()
            stage.before.backbone = network.backbone
            network = stage.self_training(network)
            stage.fit_codebooks(network)
            scored = data.held_out.scores(Model(network, stage.end_recipe), bf16)
            results.content["scores"][f"{text}: self-training"] = scored
            results.content["notes"].append(read_lines(out / "look" / "clusters.jsonl")[-1:])
        except (SPQError, RuntimeError) as error:
            say(f"{text}: {error}")
        mark(text)
    print(table(results.content))


def eager_rates(recipe: Recipe, device: torch.device, steps: int = 8) -> dict[str, float]:
    """Views per second of forward and backward pass in bf16, not compiled, at each size of the views and at 32 pixels."""
    network = Network(recipe).to(device, memory_format=torch.channels_last)
    rates = {}
    for batch in (recipe.train.batch_size * recipe.train.num_views,):
        for size in sorted({*recipe.view_sizes, 32}):
            x = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
            step = partial(_step, network, x)
            for _ in range(3):
                step()
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
            rates[f"eager, {batch} views of {size} px"] = round(steps * batch / (time.perf_counter() - begun))
    return rates


def _step(network: Network, x: Tensor) -> None:
    with torch.autocast(x.device.type, torch.bfloat16):
        loss = network.backbone(x).float().square().mean()
    torch.autograd.backward(loss)
