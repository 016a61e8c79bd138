"""A compiled backbone learns what a plain one learns, and training continues without a compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from small_training import distance, sample_images, small_recipe
from spq import SPQ
from spq.data.image_set import ImageSet
from spq.training import compiled as module
from spq.training.stages import train_network as network_stage
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


def test_a_compiled_training_has_one_graph_for_each_size_and_learns_the_same(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CompileCounterWithBackend("aot_eager")  # the compiler without its last, slow stage: making kernels
    compile_, sizes = torch.compile, {"small_share": 0.5, "small_scale": 0.5, "epochs": 2}
    eager = train(images, small_recipe(**sizes), tmp_path / "eager")
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", lambda backbone, **options: compile_(backbone, backend=counter, **options))
    monkeypatch.setattr(module, "resolve_compile", lambda option, device: (option == "on", ""))
    make_views, graphs = network_stage.make_views, list[int]()
    monkeypatch.setattr(
        network_stage, "make_views", lambda *args: graphs.append(counter.frame_count) or make_views(*args)
    )
    compiled = train(images, small_recipe(**sizes, compile="on"), tmp_path / "compiled")
    assert set(graphs) == {2}  # both before the first step, and so before the clock
    batches = [{k: v for k, v in m.network.state_dict().items() if "num_batches" in k} for m in (compiled, eager)]
    assert batches[0] == batches[1]
    assert list(compiled.network.state_dict()) == list(eager.network.state_dict())
    other = train(images, small_recipe(**sizes, seed=1), tmp_path / "other")
    assert 10 * distance(compiled, eager) < distance(other, eager)
    assert SPQ.load(tmp_path / "compiled").hash == compiled.hash


@pytest.mark.slow
@pytest.mark.drill
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_kernels_learn_what_eager_ones_learn(images: ImageSet, tmp_path: Path) -> None:
    notes: list[str] = []
    models = [
        train(
            images, small_recipe(compile=choice, small_share=0.0, epochs=2), tmp_path / choice, on_note=notes.append
        )
        for choice in ("off", "on")
    ]  # fmt: skip
    if notes:
        pytest.skip(notes[0])
    assert distance(models[1], models[0]) < 0.2  # rounding, which grows with each step; another seed is 0.35 away


def test_a_training_that_cannot_be_compiled_notes_it_and_continues(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(module, "resolve_compile", lambda option, device: (False, "not compiled: no compiler"))
    train(images, small_recipe(epochs=1), tmp_path, on_note=notes.append)
    train(images, small_recipe(minutes=0.001), tmp_path / "short", on_note=notes.append)  # too short to compile
    assert [note for note in notes if "compile" in note] == ["not compiled: no compiler"]


def test_a_network_that_cannot_be_compiled_learns_the_same_without(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(backbone: torch.nn.Module, **options: Any) -> Any:
        def forward(views: torch.Tensor) -> Any:
            backbone(views)  # which changes batch statistics
            raise RuntimeError("backend raised:\n  no kernel for this")

        return forward

    notes: list[str] = []
    eager = train(images, small_recipe(epochs=1), tmp_path / "eager")
    monkeypatch.setattr(module, "resolve_compile", lambda option, device: (option == "on", ""))
    monkeypatch.setattr(torch, "compile", broken)
    model = train(images, small_recipe(epochs=1, compile="on"), tmp_path / "on", on_note=notes.append)
    assert notes == ["training is not compiled, which is slower: no kernel for this"]
    assert distance(model, eager) == 0
