"""The entry point of training: the recipe, then its stages in order."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spq.config import Recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.model.device import resolve_device
from spq.model.model import Model
from spq.model.network import Network
from spq.training.budget import Budget
from spq.training.checkpoint import Checkpoint, Phase, Progress, load_weights
from spq.training.context import Training, TrainOptions, choose_batch_size
from spq.training.out_folder import one_training
from spq.training.stages.finish import finish_head
from spq.training.stages.frozen_head import train_frozen_head
from spq.training.stages.train_clusters import train_clusters
from spq.training.stages.train_network import train_network
from spq.training.start import resolve_recipe, start_network
from spq.training.trained import Trained, estimate_ending, save_trained


def train(
    images: ImageSet, recipe: Recipe, out: str | Path, options: TrainOptions | None = None, **named: Any
) -> Model:
    """Train on images without labels, and save the model folder `out`.

    Args:
        options: device, start model, callbacks and so on.
        named: fields of `TrainOptions` and `Callbacks` by name, such as `device="cpu"` or `on_status=print`.
    Raises:
        DataError: too few readable images. CollapseError: the loss is no longer finite. SpaceError: the disk has no room.
        ModelError: another process trains in `out`. KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    with one_training(Path(out)):
        return train_in(Path(out), images, recipe, (options or TrainOptions()).with_names(**named))


def train_in(out: Path, images: ImageSet, recipe: Recipe, options: TrainOptions) -> Model:
    """Train, and save the model folder, which the caller holds (`one_training`)."""
    training = _prepare(images, recipe, out, options)
    if training.recipe.train.frozen:
        return train_frozen_head(training)
    network = start_network(training, training.recipe.shown_sizes)  # before minutes are spent on reading pictures
    training = _decode(training)
    training.note_late_start("reading pictures")
    if training.counts_ending:
        training.budget.plan_ending(partial(estimate_ending, training, network.to(training.device)))
    checkpoint = training.checkpoint
    if checkpoint and checkpoint.phase.is_last:
        training, trained = _resume_last_stage(training, network, checkpoint)
    else:
        training, trained = train_network(training, network)
        if training.recipe.cluster.share:
            _save_before_clusters(training, trained)
    if training.recipe.cluster.share:
        return train_clusters(training, trained)
    if training.recipe.finish.epochs:
        return finish_head(training, trained)
    return save_trained(training, trained)


def _prepare(images: ImageSet, recipe: Recipe, out: Path, options: TrainOptions) -> Training:
    checkpoint = Checkpoint.load(out) if options.resume else None
    if checkpoint:
        options = replace(options, start=None)  # the checkpoint already has its weights
    recipe = resolve_recipe(recipe, options, checkpoint)
    budget = Budget(options.clock, checkpoint.progress.seconds if checkpoint else 0.0, options.began)
    device = torch.device(resolve_device(options.device))
    return Training(images, recipe, out, device, options, checkpoint, budget=budget)


def _decode(training: Training) -> Training:
    """Read all pictures, and refuse too few or others than the checkpoint's."""
    images = training.images
    progress = training.callbacks.loading("reading pictures", len(images))
    pixels = load_pixels(images, training.recipe.input.size, progress=progress)
    choose_batch_size(training, len(pixels.array), pixels.failures)
    fingerprint = hashlib.sha256(pixels.array.reshape(-1).data).hexdigest()
    if training.checkpoint:
        training.checkpoint.check_pictures(fingerprint, images.name)
    return replace(training, decoded=pixels, fingerprint=fingerprint)


def _resume_last_stage(training: Training, network: Network, checkpoint: Checkpoint) -> tuple[Training, Trained]:
    """Take the trained network from the checkpoint; its stage continues or starts again."""
    load_weights(network, checkpoint.network, "checkpoint")
    network.to(training.device)
    progress = checkpoint.progress
    assert progress.network_facts is not None  # by its phase
    return training.with_deadline(), Trained(network, progress.network_facts, progress.seconds)


def _save_before_clusters(training: Training, trained: Trained) -> None:
    """Save a checkpoint from which stage `cluster` can start; that stage saves none of its own."""
    progress = Progress(int(trained.facts["steps"]), trained.seconds, trained.facts)
    weights = trained.network.state_dict()
    Checkpoint(training.recipe, Phase.CLUSTER, training.fingerprint, None, weights, [], progress).save(training.out)
