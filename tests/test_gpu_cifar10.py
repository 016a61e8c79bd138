"""The command for a GPU, in miniature on a CPU: its clock, its look, its parts, and what it must not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

import parts
from spq.config import Recipe
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.errors import ConfigError, DataError
from spq.evaluation.evaluate import evaluate
from spq.model.model import Model
from spq.model.network import Network
from spq.training.optimizers import make_optimizers

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
[cluster]
share = 0.3
head_steps = 100
batch_size = 64
certainty = 0.0
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
    sets = ["--train", "sample:train", "--test", "sample:test", "--limit", "1000", "--map-at", "100"]
    options = ["--recipe", recipe, "--bits", "16,32", "--device", "cpu"]
    return [sys.executable, "-c", code, str(SCRIPT), *sets, *map(str, options), *map(str, more)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_one_call_ends_in_time_with_scores_and_models_in_parts(
    script: ModuleType, recipe_file: Path, tmp_path: Path
) -> None:
    words = [
        "--out",
        tmp_path / "out",
        "--parts",
        tmp_path / "left",
        "--finish-by",
        24,
        "--reserve",
        8,
        "--part-mib",
        0.02,
    ]
    begun = time.monotonic()
    done = subprocess.run(
        command(recipe_file, *words, "--curve-minutes", 0.05),
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - begun > 10  # it learned until the clock said so
    results = json.loads((tmp_path / "left" / "results.json").read_text("utf-8"))
    names = list(results["scores"])  # how many rounds of self-training the time allows depends on the machine
    assert names[:2] + names[-2:] == ["network", "heads", "final", "final, training pictures ask"]
    assert list(results["seconds"])[:3] == ["pictures decoded", "network", "heads"]
    assert all(0.1 < row["map"] < 1 for row in results["curve"])
    assert len(results["curve"]) > 1
    assert {row["part"] for row in results["rates"]} <= {"network", "clusters"}

    assert {path.name for path in (tmp_path / "left").iterdir()} >= {"model.json", "network.json", "results.json"}
    parts.read_model(tmp_path / "left", tmp_path / "joined")
    parts.read_model(tmp_path / "left", tmp_path / "network", "network")
    model = Model.load(tmp_path / "joined")
    assert Model.load(tmp_path / "network").config.quantizer.distance == "l2"
    sizes = [file.stat().st_size for file in (tmp_path / "left").iterdir() if not file.name.endswith(".json")]
    assert max(sizes) <= 0.02 * 2**20
    gallery, queries = (
        subset(open_images(f"sample:{part}"), range(count)) for part, count in (("train", 1000), ("test", 500))
    )
    for bits in (16, 32):  # the scores are those of spq eval
        report = evaluate(model.truncate(bits), Protocol("sample", queries, gallery, gallery, 100))
        assert results["scores"]["final"][str(bits)]["map"] == pytest.approx(report.map, abs=2e-4)
        assert f"{bits}: {results['scores']['final'][str(bits)]['map']:.4f}" in done.stdout


@pytest.mark.slow
@pytest.mark.drill
def test_the_network_of_one_call_starts_the_next(recipe_file: Path, tmp_path: Path) -> None:
    for name, start in (("first", []), ("next", ["--start", tmp_path / "network"])):
        words = ["--out", tmp_path / name, "--parts", tmp_path / f"{name} parts", "--finish-by", 14, "--reserve", 10]
        subprocess.run(command(recipe_file, *words, *start), env=environment(), check=True, capture_output=True)
        if name == "first":
            parts.read_model(tmp_path / "first parts", tmp_path / "network", "network")
    assert (tmp_path / "next parts" / "model.json").exists()


def test_a_failure_after_the_training_of_the_network_leaves_the_network(
    script: ModuleType, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("spq.training.train.train_clusters", fail)
    monkeypatch.setattr(sys, "argv", command(recipe_file, "--out", tmp_path, "--finish-by", 3, "--reserve", 1)[3:])
    with pytest.raises(ZeroDivisionError):
        script.main()
    assert (tmp_path / "parts" / "results.json").exists()
    parts.read_model(tmp_path / "parts", tmp_path / "joined", "network")
    assert Model.load(tmp_path / "joined").config.backbone.width == 8


@pytest.mark.slow
@pytest.mark.drill
def test_a_look_reports_rates_and_scores_of_each_variant(recipe_file: Path, tmp_path: Path) -> None:
    variants = [str(recipe_file), f"{recipe_file}:cluster.contrast=1.0", f"{recipe_file}:cluster.head_steps=20"]
    words = ["--look", "--look-minutes", 0.03, "--variant-seconds", 2, "--out", tmp_path, "--variants", *variants]
    subprocess.run(command(recipe_file, *words), env=environment(), check=True, capture_output=True, text=True)
    look = json.loads((tmp_path / "look.json").read_text("utf-8"))
    assert [name.split(", ")[0] for name in look["scores"]] == [
        "network",
        *(f"{variants[0]}: {part}" for part in ("heads", "self-training")),
        f"{variants[1]}: self-training",  # with the same heads
        *(f"{variants[2]}: {part}" for part in ("heads", "self-training")),
    ]
    assert list(look["milliseconds"]) == ["views", "backbone", "loss", "all gradients", "Muon", "Adam"]
    assert list(look["ways"])[:3] == ["plain", "plain again", "recorded"]
    assert {way["difference"] for way in look["ways"].values()} == {
        0.0
    }  # no CUDA here: nothing is compiled or recorded


def test_errors_are_one_line(recipe_file: Path, tmp_path: Path) -> None:
    words = command(recipe_file, "--out", tmp_path, "--start", tmp_path / "none")
    refused = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [f"no model at {tmp_path}/none: it has no config.json; train one first"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_cifar10

    return gpu_cifar10


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
    files = parts.write(tmp_path, "checkpoint", checkpoint, 0.1, shrink=shrink)
    assert len(files) > 2
    assert all(file.stat().st_size <= 0.1 * 2**20 for file in files)
    same(parts.read(tmp_path, "checkpoint"), checkpoint, rtol)
    larger = sum(file.stat().st_size for file in parts.write(tmp_path / "x", "c", checkpoint, 9, shrink=False))
    assert sum(file.stat().st_size for file in files) < (0.7 if shrink else 1.1) * larger


def test_older_parts_are_replaced_and_damage_is_noticed(
    script: ModuleType, checkpoint: dict[str, object], tmp_path: Path
) -> None:
    old = parts.write(tmp_path, "checkpoint", checkpoint, 0.1, shrink=True)
    new = parts.write(tmp_path, "checkpoint", {**checkpoint, "step": 8}, 0.1, shrink=True)
    assert not any(file.exists() for file in old)
    assert parts.read(tmp_path, "checkpoint")["step"] == 8
    assert parts.read(tmp_path, "model") is None
    new[1].write_bytes(new[1].read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match="damaged"):
        parts.read(tmp_path, "checkpoint")
    new[1].unlink()
    with pytest.raises(DataError, match=f"lacks {new[1].name}"):
        parts.read(tmp_path, "checkpoint")


def test_rates_are_measured_in_the_training_loop(
    script: ModuleType, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    throughput = script._gpu_throughput
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    images = script._gpu_run.decoded(open_images("sample:train"), 28, 400)[0]
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
    with pytest.raises(ConfigError, match="give a checkout of the authors'"):  # before anything is measured
        next(throughput.measure(images, "cpu", tmp_path, []))
    assert not list(throughput.measure(images, "cpu", None, [*throughput.VARIANTS, pair[0]["what"]]))
    lines = throughput.table([{"what": "ours", **row}, {"what": "authors' code", **row | {"views_per_second": 1.0}}])
    assert f"{row['views_per_second']:.1f}x" in lines.replace(",", "")
