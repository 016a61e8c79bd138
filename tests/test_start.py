"""Which recipe a training uses, and what it refuses before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from small_training import FROZEN, Patches, sample_images, small_recipe
from spq.config import ClusterConfig, Recipe
from spq.errors import ConfigError
from spq.model.model import Model
from spq.model.network import Network
from spq.training.checkpoint import Checkpoint, Phase, Progress
from spq.training.context import Training, TrainOptions
from spq.training.losses import NTXent
from spq.training.start import resolve_recipe, start_network


def resolve(recipe: Recipe, checkpoint: Checkpoint | None = None, **named: Any) -> Recipe:
    return resolve_recipe(recipe, TrainOptions().with_names(**named), checkpoint)


def checkpoint_of(recipe: Recipe) -> Checkpoint:
    return Checkpoint(recipe, Phase.NETWORK, "", None, {}, [], Progress())


def test_the_recipe_of_the_checkpoint_counts_and_its_weights_are_not_looked_up() -> None:
    old = replace(small_recipe(), backbone=replace(small_recipe().backbone, weights="gone.safetensors"))
    resolved = resolve(small_recipe(epochs=9), checkpoint_of(old))
    assert resolved == replace(old, backbone=replace(old.backbone, weights=""))


def test_a_start_model_gives_its_shapes_and_the_recipe_the_rest() -> None:
    other = replace(small_recipe(), input=replace(small_recipe().input, mean=(0.1, 0.1, 0.1)))
    start = Model(Network(other), other)
    resolved = resolve(small_recipe(epochs=9, optimizer="adam"), start=start)
    assert (resolved.input, resolved.train.epochs) == (other.input, 9)


def test_the_network_starts_with_the_seed_or_with_the_weights_of_the_start_model(tmp_path: Path) -> None:
    recipe = small_recipe()
    start = Model(Network(recipe), recipe)

    def first_weights(**named: Any) -> dict[str, torch.Tensor]:
        options = TrainOptions().with_names(**named)
        training = Training(sample_images(16), recipe, tmp_path, torch.device("cpu"), options)
        return start_network(training).state_dict()

    torch.testing.assert_close(first_weights(), first_weights(), rtol=0, atol=0)
    torch.testing.assert_close(first_weights(start=start), start.network.state_dict(), rtol=0, atol=0)
    with pytest.raises(ConfigError, match="`backbone` does not fit the model to start from"):
        first_weights(start=start, backbone=nn.Sequential(Patches()))


def test_a_model_with_clusters_is_no_start() -> None:
    recipe = replace(small_recipe(), head=replace(small_recipe().head, hidden=0, norm=0.0, softmax=4.0))
    with pytest.raises(ConfigError, match="cannot start from a model that ends with clusters"):
        resolve(small_recipe(), start=Model(Network(recipe), recipe))


@pytest.mark.parametrize("source", [{"pretrained": True}, {"weights": "w.safetensors"}])
def test_muon_is_refused_for_pretrained_weights(source: dict[str, Any]) -> None:
    backbone = replace(small_recipe().backbone, name="timm/resnet18", **source)
    muon = replace(small_recipe(optimizer="muon"), backbone=backbone)
    with pytest.raises(ConfigError, match="destroy the pretrained weights of timm/resnet18; use `recipe` finetune"):
        resolve(muon)
    resolve(replace(muon, train=replace(muon.train, optimizer="adam")))
    resolve(muon, checkpoint_of(muon))  # it began with an earlier version, and may end


def test_a_frozen_backbone_needs_weights() -> None:
    with pytest.raises(ConfigError, match="needs pretrained weights, and resnet has none; give `weights`, `start`"):
        resolve(FROZEN)
    assert resolve(FROZEN, backbone=Patches()).backbone.name == "given/Patches"


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        (replace(small_recipe(), cluster=ClusterConfig(share=0.4)), "cluster.share"),
        (small_recipe(graph=True), "train.graph"),
    ],
)
def test_a_loss_is_refused_where_it_would_not_be_used(recipe: Recipe, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"has {setting}, which does not work with `loss`; set it to"):
        resolve(recipe, loss=NTXent())
