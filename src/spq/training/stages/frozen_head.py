"""Head and codebooks learned on features of a frozen backbone: minutes on two cores for any pretrained network.

Training starts at product quantization of the features (`start_at_pq`) and continues with the loss of the paper. There is one
change: the positives of a picture also include its neighbours in feature space. With a good backbone, neighbours mostly show
the same kind of picture. Short codes gain more when such pictures get similar codes than they lose by it (compare NNCLR,
Dwibedi et al. 2021; docs/log.md).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spq.data.decode import load_pixels
from spq.data.image_set import subset
from spq.model.model import Model
from spq.model.network import Network
from spq.training.budget import Ending, Stopwatch
from spq.training.checkpoint import Phase, Progress, load_weights
from spq.training.context import LEAST, Training, choose_batch_size
from spq.training.features import FeatureExtractor, Features, cached_features
from spq.training.fresh_features import fresh_features
from spq.training.head_loop import learn_head
from spq.training.losses import Criterion
from spq.training.neighbours import POOL, neighbours
from spq.training.optimizers import make_optimizers
from spq.training.pq_start import START_STEPS
from spq.training.run import Part, Run
from spq.training.smooth_start import check_start, start_head
from spq.training.start import start_network
from spq.training.trained import FIT_IMAGES, Sample, Trained, estimate_measuring, save_measured

COPIES = 128  # altered copies that codes are fitted to beside a few pictures


def train_frozen_head(training: Training) -> Model:
    """Train head and codebooks, and save the model."""
    recipe, checkpoint = training.recipe, training.checkpoint
    network = start_network(training)
    if checkpoint:
        load_weights(network, checkpoint.network, "checkpoint")  # the features are those of its backbone
    starts_new = not checkpoint and not training.options.start and recipe.head.start != "random"
    if starts_new:
        check_start(network, recipe.head)  # before minutes are spent on features
    choose_batch_size(training, len(training.images), [])  # refuses too few pictures before minutes are spent on them
    features = _read_features(training, network)
    training.note_late_start("features")
    array = features.array
    batch_size = choose_batch_size(training, len(array), features.failures)
    training = replace(training, fingerprint=features.pictures)
    if checkpoint:
        checkpoint.check_pictures(training.fingerprint, training.images.name)
    if starts_new:
        progress = training.callbacks.stage("fitting head and codes", START_STEPS)
        few = len(array) < LEAST
        rows = _with_copies(training, network, features) if few else array[:: 1 + len(array) // FIT_IMAGES, 0]
        start_head(network, recipe.head, rows, progress)
    network.to(training.device)
    if recipe.train.epochs:
        trained = _learn(training, network, features, batch_size)
    else:
        if recipe.train.minutes:
            training.callbacks.note(f"`minutes` has no effect: recipe {recipe.name} has no training steps")
        trained = Trained(network, {"views": 0, "steps": 0, "epochs": 0.0}, training.budget.watch.seconds)
    return save_measured(training, trained, _sample(training, network, features), training.budget.watch)


def _learn(training: Training, network: Network, features: Features, batch_size: int) -> Trained:
    """Train head and codebooks with the loss, from the start or from the checkpoint."""
    recipe, checkpoint, array = training.recipe, training.checkpoint, features.array
    criterion = Criterion(training.options.loss, network, len(array))
    optimizers = make_optimizers(network, recipe, backbone=False, of_loss=criterion.parameters())
    progress = checkpoint.restore(network, optimizers, criterion) if checkpoint else Progress()
    if checkpoint and checkpoint.neighbour_ids is not None:  # another device or precision could find other neighbours
        neighbour_ids: Tensor | None = checkpoint.neighbour_ids.to(training.device)
    else:
        progress_of = training.callbacks.stage("neighbours", min(POOL, len(array)))
        neighbour_ids = neighbours(
            array[:, 0], recipe.train.neighbours, recipe.train.seed, training.device, progress=progress_of
        )
    if training.counts_ending:
        training.budget.plan_ending(partial(_estimate_ending, training, network, features))
    seconds = 0.0, training.network_seconds
    part = Part(
        Phase.FROZEN_HEAD,
        recipe,
        network,
        optimizers,
        len(array),
        batch_size,
        seconds,
        neighbour_ids,
        criterion=criterion,
    )
    run = Run(training, part, progress)
    learn_head(run, array)
    return Trained(network, run.network_facts, run.watch.seconds)


def _read_features(training: Training, network: Network) -> Features:
    backbone, precision = network.backbone.to(training.device), "bf16" if training.bf16 else "fp32"
    recipe = training.recipe
    if not recipe.train.epochs:
        recipe = replace(recipe, train=replace(recipe.train, cached_views=0))  # only training steps use views
    extractor = FeatureExtractor(recipe, backbone, precision, own_views=training.options.views)
    progress = training.callbacks.loading("features", len(training.images))
    if extractor.own_views and recipe.train.cached_views:
        return fresh_features(training.images, extractor, network.feature_dim, progress)
    return cached_features(training.images, extractor, network.feature_dim, progress, note=training.callbacks.note)


def _with_copies(training: Training, network: Network, features: Features) -> NDArray[np.float32]:
    """Return features (n, F) of a few pictures and of altered copies of them: the pictures alone have too few directions."""
    count = len(features.kept)
    pictures = f"{count} picture{'' if count == 1 else 's'}"
    training.callbacks.note(f"codes are fitted to {pictures} and altered copies; with many more, make the index again")
    views = -(-COPIES // count)
    recipe = replace(training.recipe, train=replace(training.recipe.train, cached_views=views))
    extractor = FeatureExtractor(recipe, network.backbone, "bf16" if training.bf16 else "fp32")
    images = subset(training.images, features.kept)
    found = cached_features(images, extractor, network.feature_dim)
    choose_batch_size(training, len(found.array), found.failures)  # files may be missing by now
    return np.array(found.array).reshape(-1, network.feature_dim)


def _estimate_ending(training: Training, network: Network, features: Features) -> Ending:
    watch = Stopwatch(training.options.clock)
    sample = _sample(training, network, features)
    projecting = watch.elapsed
    network.head.train()
    network.quantizer.train()
    return Ending(rest=projecting + estimate_measuring(training, network, sample, len(sample.descriptors)))


def _sample(training: Training, network: Network, features: Features) -> Sample:
    """Choose pictures to measure the model on; files may be missing by now."""
    step = 1 + len(features.array) // FIT_IMAGES
    positions = features.kept[::step]

    def read_pixels(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        pixels = load_pixels(training.images, training.recipe.input.size, positions=positions[rows])
        return pixels.array, np.isin(positions[rows], pixels.kept)

    x = Model(network, training.recipe).project(np.array(features.array[::step, 0]))
    return Sample(x, read_pixels, len(features.array), len(features.failures))
