"""The entry point of training: the recipe, then its stages in order."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spq.common.parallel import slices
from spq.config import Recipe
from spq.data.image_set import ImageSet
from spq.model.device import resolve_device
from spq.model.model import Model
from spq.model.network import Network
from spq.model.own_parts import check_resumed
from spq.training.budget import Budget
from spq.training.callbacks import Callbacks
from spq.training.checkpoint import Checkpoint, Phase, Progress, load_weights
from spq.training.context import Training, TrainOptions, choose_batch_size, draw_sample
from spq.training.out_folder import one_training
from spq.training.pixel_file import Rows
from spq.training.pixel_memory import read_pixels
from spq.training.processes import ALONE, Processes, joined
from spq.training.stages.finish import finish_head
from spq.training.stages.frozen_head import train_frozen_head
from spq.training.stages.train_clusters import train_clusters
from spq.training.stages.train_network import train_network
from spq.training.start import resolve_recipe, start_network, with_parts_of_start, with_view_sizes
from spq.training.trained import Trained, estimate_ending, save_trained


def train(
    images: ImageSet, recipe: Recipe, out: str | Path, options: TrainOptions | None = None, **named: Any
) -> Model:
    """Train on images without labels, and save the model folder `out`.

    If `torchrun` has started several processes, they train together. The first one writes `out`, and calls the callbacks.

    Args:
        options: device, start model, callbacks and so on.
        named: fields of `TrainOptions` and `Callbacks` by name, such as `device="cpu"` or `on_status=print`.
    Raises:
        DataError: too few readable images. CollapseError: the loss is no longer finite. SpaceError: the disk has no room.
        ModelError: another process trains in `out`. KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
        ProcessesError: another process of this training has ended.
    """
    options = with_parts_of_start((options or TrainOptions()).with_names(**named))
    with joined(options.device) as processes:
        if processes.is_first:
            with one_training(Path(out)):
                model = train_in(Path(out), images, recipe, options, processes)
        else:
            follow(images, recipe, options, processes)
        return share_model(model if processes.is_first else None, options, processes)


def train_in(out: Path, images: ImageSet, recipe: Recipe, options: TrainOptions, processes: Processes = ALONE) -> Model:
    """Train, and save the model folder, which the caller holds (`one_training`)."""
    training = _prepare(images, recipe, out, options, processes)
    if training.recipe.train.frozen:
        return train_frozen_head(training)
    network = start_network(training)  # before minutes are spent on reading pictures
    training = with_view_sizes(training, network)
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


def follow(images: ImageSet, recipe: Recipe, options: TrainOptions, processes: Processes) -> None:
    """Take the part of a process that is not the first: the steps of stage `network`.

    The other stages work on features or few pictures, and the first process computes them alone.
    """
    options = replace(options, callbacks=Callbacks(), tensorboard=False)
    training = _prepare(images, recipe, Path(), options, processes)
    if training.recipe.train.frozen:
        return
    network = start_network(training)
    training = with_view_sizes(training, network)
    training = _decode(training)
    if not (training.checkpoint and training.checkpoint.phase.is_last):
        train_network(training, network)


def share_model(model: Model | None, options: TrainOptions, processes: Processes) -> Model:
    """Return the model of the first process in all of them; they wait for it."""
    if not processes.several:
        assert model
        return model
    found = processes.from_first(lambda: model and (model.network.state_dict(), model.config, model.facts))
    if model:
        return model
    assert found
    weights, recipe, facts = found
    untrained = replace(recipe, backbone=replace(recipe.backbone, pretrained=False, weights=""))
    network = Network(untrained, options.backbone, options.quantizer).to("cpu")
    network.load_state_dict(weights)
    return Model(network.eval(), recipe, facts)


def _prepare(images: ImageSet, recipe: Recipe, out: Path, options: TrainOptions, processes: Processes) -> Training:
    checkpoint = processes.from_first(lambda: Checkpoint.load(out) if options.resume else None)
    if checkpoint:
        if checkpoint.parts is not None:
            options.callbacks.note(check_resumed(checkpoint.parts, options.parts, str(out)))
        options = replace(options, start=None)  # the checkpoint already has its weights
    options.parts  # noqa: B018  # described before training changes them
    recipe = resolve_recipe(recipe, options, checkpoint)
    budget = Budget(options.clock, checkpoint.progress.seconds if checkpoint else 0.0, options.began)
    device = torch.device(resolve_device(options.device))
    if not recipe.train.frozen:
        processes.check_batch(recipe.train.batch_size)
    images = draw_sample(images, options.sample, recipe.train.seed)
    return Training(images, recipe, out, device, options, checkpoint, budget=budget, processes=processes)


def _decode(training: Training) -> Training:
    """Read all pictures, and refuse too few or others than the checkpoint's."""
    images, processes = training.images, training.processes
    progress = training.callbacks.loading("reading pictures", len(images))
    pixels = read_pixels(images, training.recipe.input.size, processes, progress, training.callbacks.on_note)
    size = choose_batch_size(training, len(pixels.array), pixels.failures)
    processes.check_batch(size, f" for the {len(pixels.array):,} readable pictures")
    fingerprint = processes.from_first(lambda: _hash_of(pixels.array))
    if training.checkpoint:
        training.checkpoint.check_pictures(fingerprint, images.name)
    return replace(training, decoded=pixels, fingerprint=fingerprint)


def _hash_of(array: Rows) -> str:
    digest = hashlib.sha256()
    for rows in slices(len(array), 1024):
        digest.update(np.ascontiguousarray(array[rows]).data)
    return digest.hexdigest()


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
    Checkpoint(
        training.recipe, Phase.CLUSTER, training.fingerprint, None, weights, [], progress, parts=training.options.parts
    ).save(training.out)
