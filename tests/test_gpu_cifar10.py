"""The command for a GPU, in miniature on a CPU: legs, kills, parts, and what it must not need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from spq.config import Recipe
from spq.data.protocols import Protocol
from spq.data.sources import open_images, subset
from spq.errors import CollapseError, ConfigError, DataError
from spq.evaluation.evaluate import evaluate
from spq.learning.optimizers import make_optimizers
from spq.model.artifact import Model
from spq.model.network import Network

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu_cifar10.py"
ABSENT = ("faiss", "typer", "rich", "matplotlib", "timm", "kornia", "scipy", "sklearn", "torchmetrics")
RECIPE = """
[input]
size = 28
[backbone]
blocks = [1, 1]
width = 8
stem_stride = 2
[head]
hidden = 32
norm = 1.0
[quantizer]
num_codebooks = 8
codeword_dim = 4
[views]
blur = 0.0
[train]
batch_size = 64
optimizer = "muon"
small_share = 0.5
refit = true
temperature = 0.2
warmup = 0.1
checkpoint_minutes = 0.0
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE, "utf-8")
    return path


def command(recipe: Path, *more: object) -> list[str]:
    """From a bare checkout, where nothing of ABSENT can be imported."""
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT})); sys.argv = sys.argv[1:]; "
    code += f"sys.path.insert(0, {str(SCRIPT.parent)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    sets = ["--train", "sample:train", "--test", "sample:test", "--protocol", "sample", "--limit", "2000"]
    options = ["--recipe", recipe, "--bits", 32, "--epochs", 3, "--map-at", 100, "--device", "cpu", "--leg-minutes", 60]
    return [sys.executable, "-c", code, str(SCRIPT), *sets, *map(str, options), *map(str, more)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def stopped(words: list[str], out: Path, number: signal.Signals) -> int:
    """Start, and send a signal after the first new checkpoint; its exit status."""
    checkpoint = out / "model" / "checkpoints" / "last.pt"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    with subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                process.send_signal(number)
                break
            time.sleep(0.01)
        return process.wait(timeout=300)


@pytest.mark.slow
def test_legs_that_are_stopped_killed_and_moved_end_in_the_model_of_an_uninterrupted_run(
    script: ModuleType, recipe_file: Path, tmp_path: Path
) -> None:
    whole, first, second = tmp_path / "whole", tmp_path / "first", tmp_path / "second"
    subprocess.run(command(recipe_file, "--out", whole, "--curve-minutes", 0), env=environment(), check=True)
    assert stopped(command(recipe_file, "--out", first), first, signal.SIGKILL) == -signal.SIGKILL
    assert stopped(command(recipe_file, "--out", first), first, signal.SIGINT) == 75  # as a leg ends
    moved = command(recipe_file, "--out", second, "--restore", first / "parts", "--parts", tmp_path / "left")
    last = subprocess.run(moved, env=environment(), check=True, capture_output=True, text=True)

    models = [Model.load(out / "model") for out in (whole, second)]
    assert models[0].hash == models[1].hash
    results, moved_results = (json.loads((out / "results.json").read_text("utf-8")) for out in (whole, second))
    assert [row["epoch"] for row in results["curve"]] == [1, 2, 3]
    assert all(0.1 < row["map"] < 1 for row in results["curve"])
    assert len(moved_results["legs"]) == 3  # with the one that was killed
    assert moved_results["legs"][2]["from_seconds"] > moved_results["legs"][1]["from_seconds"] > 0
    gallery, queries = subset(open_images("sample:train"), range(2000)), open_images("sample:test")
    report = evaluate(models[0], Protocol("sample", queries, gallery, gallery, 100))
    assert results["final"]["32"]["map"] == moved_results["final"]["32"]["map"] == report.map
    assert f"{report.map:.4f}" in last.stdout

    left = {path.name for path in (tmp_path / "left").iterdir()}
    assert {"model.json", "results.json"} < left
    assert not any(name.startswith("checkpoint") for name in left)
    script.parts.read_model(tmp_path / "left", tmp_path / "joined")
    assert Model.load(tmp_path / "joined").hash == models[0].hash

    third = tmp_path / "third"  # a machine that the finished model comes to is to measure it, not to train once more
    third.mkdir()
    facts = {"recipe": "tiny", "seed": 0}
    with pytest.raises(ConfigError, match=r"holds a training of recipe .*tiny.*, seed 0"):
        script.restore(tmp_path / "left", third, facts | {"seed": 1})
    assert not (third / "model").exists()
    with pytest.raises(ConfigError, match=r"first holds a training of recipe .*tiny.*, seed 0; give another folder"):
        script.restore(tmp_path / "left", first, {"recipe": moved_results["recipe"], "seed": 1})  # stopped midway
    assert script.restore(tmp_path / "left", third, {"recipe": moved_results["recipe"], "seed": 0}) == 0.0
    assert Model.load(third / "model").hash == models[0].hash
    assert json.loads((third / "results.json").read_text("utf-8")) == moved_results


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_cifar10

    return gpu_cifar10


def test_a_sweep_scores_each_variant_once_and_goes_on(
    script: ModuleType, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = f"--train sample:train --limit 600 --map-at 100 --bits 16 --minutes 0.01 --device cpu --out {tmp_path}"
    sets += f" --recipe {recipe_file}"
    variants = [str(recipe_file), f"{recipe_file}:train.temperature=0.5,views.crop_scale=[0.5, 1]"]
    script.sweep(script.parse([*sets.split(), "--leg-minutes", "60", "--sweep", *variants]), tmp_path)
    rows = json.loads((tmp_path / "sweep.json").read_text("utf-8"))["sweep"]
    assert [row["text"] for row in rows] == variants
    assert all(0.1 < row["map"] <= row["cosine"] + 0.1 < 1.1 for row in rows)
    more = [*sets.split(), "--sweep", *variants, "fast", "--leg-minutes"]
    with pytest.raises(ConfigError, match=r"--minutes 0.01, compiling and a score do not fit into --leg-minutes 1"):
        script.sweep(script.parse([*more, "1"]), tmp_path)
    monkeypatch.setattr(script, "STARTED", time.monotonic() - 3600)
    with pytest.raises(KeyboardInterrupt):  # what does not fit into the leg waits; what is there is not repeated
        script.sweep(script.parse([*more, "60"]), tmp_path)
    assert json.loads((tmp_path / "sweep.json").read_text("utf-8"))["sweep"] == rows
    monkeypatch.setattr(script, "STARTED", time.monotonic())

    def collapse(*arguments: object, **options: object) -> None:
        raise CollapseError("the loss is nan")

    monkeypatch.setattr(script._gpu_sweep, "run", collapse)
    fewer = [word.replace("600", "500") for word in [*more, "60"]]  # of other pictures: not the same rows
    script.sweep(script.parse(fewer), tmp_path)
    again = json.loads((tmp_path / "sweep.json").read_text("utf-8"))["sweep"]
    assert again[:2] == rows
    assert [(row["text"], row["map"], row["collapsed"]) for row in again[2:]] == [
        (text, 0.0, "the loss is nan") for text in (*variants, "fast")
    ]


@pytest.fixture
def checkpoint(tiny_recipe: Recipe) -> dict[str, object]:
    """Of a network whose first layers are large enough to be rounded."""
    torch.manual_seed(0)
    recipe = replace(tiny_recipe, backbone=replace(tiny_recipe.backbone, width=64))
    network = Network(replace(recipe, train=replace(recipe.train, optimizer="muon")))
    optimizers = make_optimizers(network, replace(recipe, train=replace(recipe.train, optimizer="muon")))
    for p in network.parameters():
        p.grad = 1e-6 * torch.randn_like(p)
    for optimizer in optimizers:
        optimizer.step()
    return {"network": network.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": 7}


def same(a: object, b: object, rtol: float) -> None:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        large = a.numel() >= 2**16
        torch.testing.assert_close(a, b, rtol=rtol if large else 0, atol=1e-7 if large and rtol else 0)
    elif isinstance(a, dict) and isinstance(b, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key], rtol)
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        assert len(a) == len(b)
        for pair in zip(a, b, strict=True):
            same(*pair, rtol)
    else:
        assert a == b


@pytest.mark.parametrize(("shrink", "rtol"), [(False, 0.0), (True, 2**-8)])
def test_parts_keep_a_checkpoint_exactly_or_to_three_digits(
    script: ModuleType, checkpoint: dict[str, object], tmp_path: Path, shrink: bool, rtol: float
) -> None:
    files = script.parts.write(tmp_path, "checkpoint", checkpoint, 0.1, shrink=shrink)
    assert len(files) > 2
    assert all(file.stat().st_size <= 0.1 * 2**20 for file in files)
    same(script.parts.read(tmp_path, "checkpoint"), checkpoint, rtol)
    larger = sum(file.stat().st_size for file in script.parts.write(tmp_path / "x", "c", checkpoint, 9, shrink=False))
    assert sum(file.stat().st_size for file in files) < (0.7 if shrink else 1.1) * larger


def test_parts_of_before_give_way_and_damage_is_noticed(
    script: ModuleType, checkpoint: dict[str, object], tmp_path: Path
) -> None:
    old = script.parts.write(tmp_path, "checkpoint", checkpoint, 0.1, shrink=True)
    new = script.parts.write(tmp_path, "checkpoint", {**checkpoint, "step": 8}, 0.1, shrink=True)
    assert not any(file.exists() for file in old)
    assert script.parts.read(tmp_path, "checkpoint")["step"] == 8
    assert script.parts.read(tmp_path, "model") is None
    new[1].write_bytes(new[1].read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match="damaged"):
        script.parts.read(tmp_path, "checkpoint")
    new[1].unlink()
    with pytest.raises(DataError, match=f"lacks {new[1].name}"):
        script.parts.read(tmp_path, "checkpoint")


def test_what_a_killed_leg_wrote_behind_its_checkpoint_is_forgotten(script: ModuleType, tmp_path: Path) -> None:
    results = script.Results(tmp_path / "results.json", {})
    results.content = {
        "legs": [{"from_seconds": 0.0}, {"from_seconds": 60.0}],
        "curve": [{"seconds": 50.0}, {"seconds": 70.0}],
    }
    results.start_leg(60.0)  # the second leg died before it had a checkpoint of its own
    again = script.Results(tmp_path / "results.json", {})
    assert [row["from_seconds"] for row in again.content["legs"]] == [0.0, 60.0]
    assert [row["seconds"] for row in again.content["curve"]] == [50.0]


def test_a_leg_ends_by_itself(script: ModuleType) -> None:
    for handler in (signal.default_int_handler, signal.SIG_IGN):  # a shell script's background ignores Ctrl-C
        before = signal.signal(signal.SIGINT, handler)
        try:
            with pytest.raises(KeyboardInterrupt), script.leg_of(0.0):
                time.sleep(30)
        finally:
            signal.signal(signal.SIGINT, before)


def test_a_snapshot_is_refitted_and_leaves_the_network_in_training(script: ModuleType, tiny_recipe: Recipe) -> None:
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, refit=True))
    network = Network(recipe).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gallery = script.decoded(open_images("sample:train"), 28, 300)
    model = script.snapshot(network, recipe, gallery)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    x = model.embed(np.stack([np.asarray(gallery.image(i)).transpose(2, 0, 1) for i in range(300)]))
    errors = [m.quantizer.squared_distances(torch.from_numpy(x)).min(-1).values.sum() for m in (model.network, network)]
    assert errors[0] < 0.5 * errors[1]


def test_a_model_with_prefixes_is_measured_at_each_length(script: ModuleType, tiny_model: Model) -> None:
    assert script.at_lengths(tiny_model) == [tiny_model]

    class Nested:
        class config:  # noqa: N801
            class quantizer:  # noqa: N801
                lengths = (16, 32)

        def truncate(self, bits: int) -> str:
            return f"cut to {bits}"

    assert script.at_lengths(Nested()) == ["cut to 16", "cut to 32"]


def test_rates_are_of_the_training_loop_itself(
    script: ModuleType, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    throughput = script._gpu_throughput
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    images = script.decoded(open_images("sample:train"), 28, 400)
    text = f'{recipe_file}:train.num_views=3,views.crop_scale=[0.5, 1],train.compile="off"'
    recipe = throughput.variant(text, 16, 60.0, None)[0]
    assert (recipe.train.num_views, recipe.views.crop_scale, recipe.quantizer.bits) == (3, (0.5, 1.0), 16)
    row = throughput.rate_of(images, recipe, "cpu")
    assert 0 < row["from"] <= row["views_per_second"] <= row["to"]
    pair = throughput.forward_passes(recipe, "cpu", rounds=1)
    assert [p["what"].split(", ")[1] for p in pair] == [
        "a forward pass for each view",
        "one forward pass for all views",
    ]
    with pytest.raises(ConfigError, match="no checkout of the authors'"):  # said before minutes are spent
        next(throughput.measure(images, "cpu", tmp_path, []))
    assert not list(throughput.measure(images, "cpu", None, [*throughput.VARIANTS, pair[0]["what"]]))
    lines = throughput.table([{"what": "ours", **row}, {"what": "authors' code", **row | {"views_per_second": 1.0}}])
    assert f"{row['views_per_second']:.1f}x" in lines.replace(",", "")
