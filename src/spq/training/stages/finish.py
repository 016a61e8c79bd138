"""The finish of a training: a new head and new codebooks, on the features of the trained backbone.

The backbone has learned to recognise a picture in all its views. Now the positives of a picture also include its neighbours.
Used from the beginning, neighbours taught less than views did. Found by a trained backbone, they teach what views cannot.
With neighbours only, codes no longer separate similar pictures well. Two views of the picture itself beside its neighbour
restore a part of that, and give better codes (docs/log.md).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spq.config import Recipe, TrainConfig
from spq.model.given_quantizer import GivenQuantizer
from spq.model.model import Model
from spq.model.network import Network
from spq.training.budget import LEAST_SHARE, Stopwatch
from spq.training.checkpoint import Phase, Progress
from spq.training.context import Training, choose_batch_size
from spq.training.features import CHUNK, FeatureExtractor
from spq.training.head_loop import learn_head
from spq.training.losses import Criterion
from spq.training.neighbours import POOL, neighbours
from spq.training.optimizers import make_optimizers
from spq.training.run import Part, Run, step_seed
from spq.training.trained import Trained, save_trained

PICTURES = 50_000  # the finish learns from at most so many, so that it takes no longer for a million
TRIED_POOL = 1000  # pictures whose neighbours show how long those of more take


def finish_head(training: Training, trained: Trained) -> Model:
    """Train a new head and new codebooks, and save the model.

    They learn from at most PICTURES pictures, drawn at random. If the recipe gives minutes, a share of them is reserved for
    the finish. Half of that time goes into features, of as many pictures as possible, and at most a quarter into neighbours,
    among as many as possible. The rest is for learning.

    Args:
        trained: where stage `network` ended; its backbone does not change.
    """
    recipe, checkpoint, watch = training.recipe, training.checkpoint, training.budget.watch
    torch.manual_seed(recipe.train.seed + 1)
    network = Network(recipe, trained.network.backbone, _reset(trained.network)).to(training.device)
    own_recipe = replace(recipe, train=_own_settings(recipe))
    criterion = Criterion(training.options.loss, network, len(training.pixels.array))
    optimizers = make_optimizers(network, own_recipe, backbone=False, of_loss=criterion.parameters())
    order = np.random.default_rng(recipe.train.seed).permutation(len(training.pixels.array))[:PICTURES]
    least = LEAST_SHARE * training.limit
    reserved = max(training.seconds - watch.seconds, least) if recipe.finish.share else math.inf
    if checkpoint and checkpoint.phase is Phase.FINISH:
        assert checkpoint.neighbour_ids is not None
        progress, neighbour_ids = (
            checkpoint.restore(network, optimizers, criterion),
            checkpoint.neighbour_ids.to(training.device),
        )
        features = _describe(training, network, order[: len(neighbour_ids)], math.inf)
    else:
        features = _describe(training, network, order, reserved / 2)
        neighbour_ids = _find_neighbours(training, features, reserved / 4)
        progress = Progress(0, watch.seconds, trained.facts, watch.seconds)
    batch_size = choose_batch_size(replace(training, recipe=own_recipe), len(features), training.pixels.failures)
    seconds = progress.began, max(training.seconds, watch.seconds + least) if recipe.finish.share else math.inf
    part = Part(
        Phase.FINISH, own_recipe, network, optimizers, len(features), batch_size, seconds, neighbour_ids,
        criterion=criterion,
    )  # fmt: skip
    run = Run(training, part, progress)
    learn_head(run, features, torch.from_numpy(order).to(training.device))
    return save_trained(training, Trained(network, run.network_facts, run.watch.seconds))


def _reset(network: Network) -> nn.Module | None:
    """The caller's own quantizer, with new weights if it has torch's usual method for that; None if the quantizer is shipped."""
    if not isinstance(network.quantizer, GivenQuantizer):
        return None
    module: nn.Module = network.quantizer.module
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
    return module


def _own_settings(recipe: Recipe) -> TrainConfig:
    """The settings of the finish, in the form of those of a training."""
    finish = recipe.finish
    return replace(
        recipe.train, optimizer="adam", epochs=finish.epochs, minutes=0.0, num_views=3 if finish.views else 2,
        batch_size=finish.batch_size, temperature=finish.temperature, lr=finish.lr, backbone_lr_scale=1.0,
        neighbours=finish.neighbours,
    )  # fmt: skip


def _describe(training: Training, network: Network, rows: NDArray[np.int64], seconds: float) -> NDArray[np.float32]:
    """Compute features (n, 1 + V, F) of the first CHUNK pictures of `rows`, and of more while the seconds last."""
    recipe, precision = training.recipe, "bf16" if training.bf16 else "fp32"
    view_input = recipe.input.scaled(recipe.train.view_scale)
    extractor = FeatureExtractor(
        recipe, network.backbone.eval(), precision, view_input, own_views=training.options.views
    )
    parts: list[NDArray[np.float32]] = []
    watch, progress = Stopwatch(training.options.clock), training.callbacks.stage("features", len(rows))
    for start in range(0, len(rows), CHUNK):
        if parts and watch.elapsed * (len(parts) + 1) / len(parts) > seconds:  # one more would take too long
            break
        part = rows[start : start + CHUNK]
        large, sizes = training.pixels.large, training.pixels.full_sizes[part]
        cut = None if large is None else (large[part], sizes)
        seed = step_seed(recipe.train.seed, start)
        parts.append(extractor.describe(training.pixels.array[part], recipe.finish.views, seed, cut))
        progress(min(start + CHUNK, len(rows)))
    return np.concatenate(parts)


def _find_neighbours(training: Training, features: NDArray[np.float32], seconds: float) -> Tensor:
    """Find neighbours of each picture, among as many pictures as there is time for; that time grows with their square."""
    recipe, device, pool = training.recipe, training.device, POOL
    count, seed = recipe.finish.neighbours, recipe.train.seed
    if seconds < math.inf and len(features) > TRIED_POOL:
        watch = Stopwatch(training.options.clock)
        neighbours(features[:TRIED_POOL, 0], count, seed, device)
        pool = int(min(pool, TRIED_POOL * max(1.0, seconds / max(watch.elapsed, 1e-9)) ** 0.5))
    progress = training.callbacks.stage("neighbours", min(pool, len(features)))
    neighbour_ids = neighbours(features[:, 0], count, seed, device, pool, progress)
    assert neighbour_ids is not None  # the recipe of a finish has neighbours
    return neighbour_ids
