from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import quality
from _scoring import choose_protocol, load_data, map_of, measure
from _variants import ABLATIONS, DIVERSITY, Hard, fingerprint, variant
from spq.config import Recipe, load_recipe, to_dict
from spq.data.open import open_images
from spq.errors import CollapseError, ConfigError
from spq.model.model import Model
from spq.model.network import Network
from spq.training.loss import multi_view, nt_xent
from spq.training.losses import Criterion
from spq.training.train import train

TINY = """
[input]
size = 16
[backbone]
blocks = [1]
width = 8
stem_stride = 2
[head]
hidden = 16
[quantizer]
num_codebooks = 4
codeword_dim = 4
[train]
batch_size = 32
"""


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    (tmp_path / "tiny.toml").write_text(TINY, "utf-8")
    return str(tmp_path / "tiny.toml")


@pytest.fixture
def network(tiny: str) -> Network:
    torch.manual_seed(0)
    return Network(load_recipe(tiny))


@pytest.fixture
def outputs(network: Network) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [network(torch.randn(6, 3, 16, 16, generator=generator)) for _ in range(2)]


def test_a_variant_is_a_recipe_with_an_ablation_and_changes(tiny: str) -> None:
    text = f"{tiny}+8bits:train.batch_size=64,backbone.blocks=[1,2]"
    recipe, ablation = variant(text, 16, None, 3)
    assert recipe.train.batch_size == 64
    assert recipe.backbone.blocks == (1, 2)
    assert (recipe.train.epochs, recipe.quantizer.bits, recipe.quantizer.dim) == (3, 8, 16)
    assert ablation is ABLATIONS["8bits"]
    plain = variant(f"{tiny}+vq", 32, 1.0, None)[0].quantizer
    assert (plain.num_codebooks, plain.codebook_size, plain.dim, plain.bits) == (1, 256, 32, 8)


@pytest.mark.parametrize("text", ["fast+nothing", "fast:views", "fast:train.nonsense=1", "fast:train.lr=x", "slow"])
def test_an_invalid_variant_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        variant(text, 32, 1.0, None)


def loss_of(name: str, network: Network, outputs: Any, loss: Any = None) -> Tensor:
    """The loss of an ablation, as training calls it."""
    made = loss or ABLATIONS[name].loss
    assert made
    return Criterion(made(), network, 6)(outputs, torch.arange(6), 0.5)


def test_without_cross_quantization_the_loss_is_that_of_simclr(network: Network, outputs: Any) -> None:
    (x_a, _), (x_b, _) = outputs
    torch.testing.assert_close(loss_of("simclr", network, outputs), 2 * nt_xent(x_a, x_b, 0.5))


def test_hard_quantization_compares_with_codewords_and_learns_through_soft_ones(network: Network, outputs: Any) -> None:
    seen: list[Tensor] = []

    class Shown(Hard):
        def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
            module = mock.Mock(side_effect=lambda pairs, *_: seen.extend(z for _, z in pairs) or pairs[0][0].sum())
            with mock.patch("spq.training.losses.multi_view", module):
                return super().forward(x, z, rows, own)

    loss_of("hard", network, outputs, Shown)
    q = network.quantizer
    for z, (x, soft) in zip(seen, outputs, strict=True):
        torch.testing.assert_close(z, q.decode(q.encode(x)))
        weight = torch.arange(z.numel(), dtype=torch.float32).view_as(z)
        hard, own = (torch.autograd.grad((t * weight).sum(), q.codebooks, retain_graph=True)[0] for t in (z, soft))
        torch.testing.assert_close(hard, own)


def test_diversity_adds_the_mean_cosine_of_codewords(network: Network, outputs: Any) -> None:
    cosines = []
    for codebook in network.quantizer.codebooks.detach():
        c = F.normalize(codebook, dim=1)
        cosines += [float(c[i] @ c[j]) for i in range(len(c)) for j in range(len(c)) if i != j]
    added = loss_of("diversity", network, outputs) - multi_view(outputs, 0.5)
    assert added.item() == pytest.approx(DIVERSITY * np.mean(cosines), abs=1e-5)


def test_a_changed_recipe_has_another_fingerprint_and_another_seed_or_budget_has_not() -> None:
    recipe = load_recipe("fast")
    assert fingerprint(recipe) == fingerprint(
        replace(recipe, train=replace(recipe.train, seed=5, minutes=9.0), name="x")
    )
    assert fingerprint(recipe) != fingerprint(replace(recipe, train=replace(recipe.train, lr=1e-3)))


def test_a_new_key_of_the_configuration_changes_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(load_recipe("fast"))

    def with_a_new_key(recipe: Recipe) -> dict[str, Any]:
        table = to_dict(recipe)
        return {**table, "train": {**table["train"], "new": 0.0}}

    monkeypatch.setattr("_variants.to_dict", with_a_new_key)
    assert fingerprint(load_recipe("fast")) == before


def test_choices_never_use_test_pictures() -> None:
    protocol = choose_protocol("sample:train", test=False)
    assert set(protocol.queries.ids).isdisjoint(protocol.gallery.ids)
    assert len(protocol.queries) + len(protocol.gallery) == 5000
    assert protocol.training is protocol.gallery
    assert choose_protocol("sample:train", test=True).queries.name == "sample:test"


def test_equal_distances_are_not_ranked_in_the_order_of_a_folder_of_classes(pictures: str) -> None:
    protocol = choose_protocol(pictures, test=False)
    data = load_data(protocol, 28)
    assert (np.diff(protocol.gallery.labels) >= 0).all()  # type: ignore[arg-type]
    assert not (np.diff(data.gallery_labels) >= 0).all()
    at = {protocol.gallery.image(i).convert("RGB").tobytes(): protocol.gallery.labels[i] for i in range(100)}  # type: ignore[index]
    shown = [picture.transpose(1, 2, 0).tobytes() for picture in data.gallery]
    assert sum(name in at for name in shown) >= 100
    assert all(at.get(name, label) == label for name, label in zip(shown, data.gallery_labels, strict=True))


def test_settings_of_a_finish_do_not_count_without_a_finish() -> None:
    recipe = load_recipe("spq")
    without = [replace(recipe, finish=replace(recipe.finish, epochs=0, share=share)) for share in (0.1, 0.2)]
    assert fingerprint(without[0]) == fingerprint(without[1]) != fingerprint(recipe)


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """400 pictures of the sample in class subfolders."""
    sample = open_images("sample:train")
    for position in range(400):
        folder = tmp_path / "pictures" / sample.class_names[int(sample.labels[position])]
        folder.mkdir(parents=True, exist_ok=True)
        sample.image(position).save(folder / f"{position:03d}.png")
    return str(tmp_path / "pictures")


def options(pictures: str, *variants: str) -> Any:
    file = Path(pictures).parent / "q.json"
    words = ["--images", pictures, "--bits", "16", "--epochs", "2", "--every", "0.0001", "--json", str(file)]
    return quality.parse([*variants, *words])


class Stopping:
    """`train` that Ctrl-C stops in its second run, once; `steps` are all that were made."""

    def __init__(self) -> None:
        self.runs, self.steps = 0, list[int]()

    def __call__(self, images: Any, recipe: Recipe, out: Path, *, on_status: Any, **more: Any) -> Model:
        self.runs += 1

        def noted(status: Any) -> None:
            on_status(status)
            self.steps.append(status.step)
            if self.runs == 2 and status.step == 7:
                raise KeyboardInterrupt

        return train(images, recipe, out, on_status=noted, **more)


def test_finished_runs_are_not_repeated_and_a_stopped_one_continues(
    tiny: str, pictures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    stopping = Stopping()
    monkeypatch.setattr(quality, "train", stopping)
    asked = options(pictures, tiny, f"{tiny}+simclr")
    with pytest.raises(KeyboardInterrupt):
        quality.Bench(asked).run()
    first = json.loads(asked.json.read_text("utf-8"))
    assert [row["variant"] for row in first] == [tiny]
    rows = quality.Bench(asked).run()
    assert stopping.runs == 3
    assert stopping.steps == [*range(1, 23), *range(1, 8), *range(7, 23)]  # the checkpoint is that of the step before
    assert rows[0] == first[0]
    assert rows[1]["variant"] == f"{tiny}+simclr"
    assert rows[1]["distance"] == "sqeuclidean"
    assert rows[1]["map"] == pytest.approx(rows[1]["others"]["PQ"], abs=0.03)  # PQ of other random starts
    assert [Model.load(folder).config.quantizer.bits for folder in sorted(asked.work.iterdir())] == [16, 16]
    assert quality.Bench(asked).run() == rows
    assert stopping.runs == 3
    text = quality.table(rows)
    assert f"{rows[0]['map']:.4f}" in text
    assert text.endswith("+simclr")


def test_a_run_that_collapses_does_not_stop_the_others(
    tiny: str, pictures: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def collapsing(images: Any, recipe: Recipe, out: Path, **more: Any) -> Model:
        if "hard" in recipe.name:
            raise CollapseError("the loss is nan at step 7")
        return train(images, recipe, out, **more)

    monkeypatch.setattr(quality, "train", collapsing)
    asked = options(pictures, f"{tiny}+hard", tiny)
    bench = quality.Bench(asked)
    assert [row["variant"] for row in bench.run()] == [tiny]
    assert [str(error) for error in bench.collapsed] == ["the loss is nan at step 7"]
    assert "+hard, 16 bits, seed 0: the loss is nan at step 7" in capsys.readouterr().err


def test_a_row_has_all_facts_of_its_run(
    tiny: str, pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    row = quality.Bench(options(pictures, tiny)).run()[0]
    assert row["protocol"] == f"{pictures}, 40 held out"
    classic = {"PQ", "OPQ", "PQ-256", "OPQ-256", "ITQ", "LSH"}
    assert classic | {"float cosine", "sqeuclidean", "dot"} == set(row["others"])
    assert row["map"] > 0.12  # chance is 0.1; hardly trained, and many of its codes tie
    minutes = [point[0] for point in row["curve"]]
    assert len(minutes) > 1
    assert minutes == sorted(minutes)
    assert row["curve"][-1] == [row["minutes_spent"], row["map"]]
    assert row["epochs_done"] == 2
    paths = quality.save_plots([row], tmp_path / "plots")
    assert sorted(path.name for path in paths) == ["map-over-time-16.png", "pr-16.png", "precision-16.png"]


def test_stopped_scoring_continues(tiny: str, pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    asked, calls = options(pictures, tiny), 0

    def stopped(*args: Any, **more: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return measure(*args, **more)

    monkeypatch.setattr(quality, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        quality.Bench(asked).run()
    row = quality.Bench(asked).run()[0]
    assert calls == len(row["curve"]) + 1  # the third once more
    assert not list(asked.work.rglob("scores.json"))


def test_shorter_codes_of_one_training_have_the_score_of_the_truncated_model(tiny: str, pictures: str) -> None:
    asked = options(pictures, f"{tiny}:quantizer.prefixes=[2,4]")
    row = quality.Bench(asked).run()[0]
    model = Model.load(next(asked.work.iterdir())).truncate(8)
    data = load_data(choose_protocol(pictures, test=False), 16)
    assert row["lengths"] == {"8": pytest.approx(map_of(model, data, model.config.quantizer.distance), abs=1e-3)}
