"""Where a training starts: its final recipe, and the first weights of its network."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from spq.config import Recipe
from spq.errors import ConfigError
from spq.model.backbone import check_sizes
from spq.model.given_quantizer import GivenQuantizer, given_config
from spq.model.network import Network
from spq.model.own_parts import parts_of
from spq.training.checkpoint import Checkpoint, load_weights
from spq.training.context import Training, TrainOptions
from spq.training.losses import check_loss
from spq.training.out_folder import check_space
from spq.training.own_views import check_own_views, view_sizes, with_own_views


def with_parts_of_start(options: TrainOptions) -> TrainOptions:
    """Take copies of the caller's own backbone and quantizer from the start model, unless others are given."""
    start = options.start
    if start is None:
        return options
    parts, quantizer = parts_of(start.facts, start.config), start.network.quantizer
    if "backbone" in parts and options.backbone is None:
        options = replace(options, backbone=copy.deepcopy(start.network.backbone))
    if isinstance(quantizer, GivenQuantizer) and options.quantizer is None:
        options = replace(options, quantizer=copy.deepcopy(quantizer.module))
    return options


def resolve_recipe(recipe: Recipe, options: TrainOptions, checkpoint: Checkpoint | None) -> Recipe:
    """Return the recipe to train with: that of the checkpoint if there is one, with the shapes of the start model.

    Raises:
        ConfigError: the options do not fit the recipe.
    """
    if checkpoint:
        recipe = checkpoint.recipe
    if options.start is not None:
        start = options.start.config
        if start.head.softmax:
            raise ConfigError(
                "training cannot start from a model that ends with clusters; give a model trained without stage `cluster`"
            )
        recipe = replace(recipe, input=start.input, backbone=start.backbone, head=start.head, quantizer=start.quantizer)
    _check_pretrained(recipe, options, checkpoint)
    if options.start is not None or checkpoint:  # their weights replace those named in the recipe
        recipe = replace(recipe, backbone=replace(recipe.backbone, pretrained=False, weights=""))
    if options.backbone is not None:
        recipe = replace(recipe, backbone=replace(recipe.backbone, name=f"given/{type(options.backbone).__name__}"))
    if options.quantizer is not None:
        before, recipe = recipe.quantizer, _with_given_quantizer(recipe, options.quantizer)
        if checkpoint and recipe.quantizer != before:
            raise ConfigError(
                f"your `quantizer` gives {recipe.quantizer.described}, distance {recipe.quantizer.distance}, and the training "
                f"began with {before.described}, distance {before.distance}; give one of the same shapes"
            )
    check_loss(options.loss, recipe)
    check_own_views(options.views, recipe)
    if options.views is not None:
        recipe = with_own_views(recipe)
    return recipe


def _with_given_quantizer(recipe: Recipe, module: nn.Module) -> Recipe:
    """The recipe with the shapes of the caller's own quantizer."""
    if recipe.train.graph or recipe.head.start != "random":
        setting, off = ("train.graph", "false") if recipe.train.graph else ("head.start", '"random"')
        raise ConfigError(f"recipe {recipe.name} has {setting}, which does not work with `quantizer`; set it to {off}")
    return replace(recipe, quantizer=given_config(module, recipe.quantizer))


def _check_pretrained(recipe: Recipe, options: TrainOptions, checkpoint: Checkpoint | None) -> None:
    """Refuse Muon for pretrained weights, and a frozen backbone without any."""
    source, frozen = recipe.backbone, recipe.train.frozen
    pretrained = options.start is not None or source.weights or source.pretrained
    with_muon = recipe.train.optimizer == "muon" and not frozen
    if with_muon and pretrained and source.name != "resnet" and not checkpoint:
        raise ConfigError(
            f'optimizer = "muon" of recipe {recipe.name} would destroy the pretrained weights of {source.name}; '
            "use `recipe` finetune"
        )
    known = source.weights or (source.pretrained and source.name != "resnet") or options.start or checkpoint
    if frozen and not (known or options.backbone):
        raise ConfigError(
            f"a frozen backbone needs pretrained weights, and {source.name} has none; "
            "give `weights`, `start` or pretrained = true"
        )


def start_network(training: Training) -> Network:
    """Make the network with the recipe's seed, and load the weights of the start model.

    Raises:
        ConfigError: a backbone that does not accept pictures of the recipe's input or the caller's views, or does not fit the
            start model; views that are none. SpaceError: the disk has no room for the model and its checkpoints.
    """
    recipe, options = training.recipe, training.options
    torch.manual_seed(recipe.train.seed)
    network = Network(recipe, options.backbone, options.quantizer)
    if training.processes.is_first:
        check_space(training.out, network, recipe, len(training.images))
    if options.start:
        load_weights(network, options.start.network.state_dict(), "model to start from")
    sizes = {recipe.input.size}
    if options.views:
        sizes |= view_sizes(options.views, recipe.input, training.device)
    check_sizes(network.backbone, recipe.backbone.name, sizes, network.feature_dim)
    if recipe.train.channels_last:
        network.to(memory_format=torch.channels_last)
    return network


def with_view_sizes(training: Training, network: Network) -> Training:
    """Return the training with views of the input's size only, if the backbone takes no others, as many transformers do."""
    recipe = training.recipe
    try:
        check_sizes(network.backbone, recipe.backbone.name, recipe.shown_sizes)
    except ConfigError:
        size = recipe.input.size
        others = " or ".join(map(str, sorted(recipe.shown_sizes - {size})))
        training.callbacks.note(
            f"backbone {recipe.backbone.name} takes no views of {others} pixels, so all views have {size} x {size}: "
            "train.view_scale = 1.0, train.small_share = 0.0"
        )
        cluster = replace(recipe.cluster, view_scale=1.0)
        train = replace(recipe.train, view_scale=1.0, small_share=0.0)
        training = replace(training, recipe=replace(recipe, train=train, cluster=cluster))
    return training
