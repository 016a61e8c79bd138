"""Head and codebooks learned on features of a frozen backbone: minutes on two cores for any pretrained network.

For a frozen backbone the start is product quantization of the features (`start_at_pq`); as the finish of a training, a fresh
head. From there the loss of the paper goes on, with one change: what a picture is to agree with is, beside itself, its
neighbours in feature space. Those of a good backbone are most often of the same kind, and
short codes gain more from kinds drawn together than they lose by it (compare NNCLR, Dwibedi et al. 2021; docs/log.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spq.config import Recipe
from spq.data.decode import Pixels, load_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.backbone import check_sizes
from spq.model.device import resolve_device, resolve_precision
from spq.model.model import Model
from spq.model.network import Network
from spq.training.checkpoint import State, check_same_pictures, fill, restored, started
from spq.training.features import CHUNK, Features, cached_features, describe
from spq.training.loss import multi_view
from spq.training.neighbours import neighbours, whose
from spq.training.optimizers import make_optimizers
from spq.training.refit import refit
from spq.training.run import FIT_IMAGES, Objective, Outputs, Run, TrainStatus, batch_size_for, step_seed

PICTURES = 50_000  # that a finish learns from at most, so that it takes no longer for a million


def train_head(
    images: ImageSet,
    recipe: Recipe,
    out: Path,
    checkpoint: dict[str, Any] | None,
    *,
    device: str,
    backbone: nn.Module | None,
    start: Model | None,
    objective: Objective | None,
    on_load: Callable[[int], None] | None,
    on_status: Callable[[TrainStatus], None] | None,
    on_epoch: Callable[[int, Network], None] | None,
    tensorboard: bool,
) -> Model:
    """What `spq.training.train.train` does with a recipe that is `frozen`; the arguments are its own."""
    torch.manual_seed(recipe.train.seed)
    network = started(Network(recipe, backbone), start)
    check_sizes(network.backbone, recipe.backbone.name, {recipe.input.size})
    if checkpoint:
        fill(network, checkpoint["network"], f"checkpoint of {out}")  # the backbone that the features are of
    if recipe.train.channels_last:
        network.to(memory_format=torch.channels_last)
    place = torch.device(resolve_device(device))
    starts_at_pq = not checkpoint and not start and recipe.head.start == "pq"
    if starts_at_pq:
        check_pq(network)  # before minutes go into features
    features = _features(network, images, recipe, place, on_load)
    array = features.array
    batch_size = batch_size_for(recipe, len(array), images.name, features.failures)
    check_same_pictures(checkpoint, features.pictures, out, images.name)
    if starts_at_pq:
        start_at_pq(network, array[:: 1 + len(array) // FIT_IMAGES, 0])
    optimizers = make_optimizers(network.to(place), recipe, backbone=False)
    state = restored(checkpoint, network, optimizers)
    run = Run(recipe, out, network, optimizers, state, batch_size, features.pictures, tensorboard)
    saved = checkpoint["near"] if checkpoint else None  # on another device or in another precision they would be others
    run.near = (
        neighbours(array[:, 0], recipe.train.neighbours, recipe.train.seed, place) if saved is None else saved.to(place)
    )
    _learn(run, array, place, objective, on_status, on_epoch)
    step = 1 + len(array) // FIT_IMAGES
    kept = features.kept[::step]

    def pixels_of(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        pixels = load_pixels(images, recipe.input.size, positions=kept[rows])
        return pixels.array, np.isin(kept[rows], pixels.kept)  # files may have gone since

    x = Model(network, recipe).project(array[::step, 0])
    return run.conclude(images.name, x, pixels_of, len(array), len(features.failures))


def finish_head(
    network: Network,
    recipe: Recipe,
    pixels: Pixels,
    name: str,
    out: Path,
    begin: State | dict[str, Any],
    *,
    fingerprint: str,
    device: torch.device,
    objective: Objective | None,
    on_status: Callable[[TrainStatus], None] | None,
    on_epoch: Callable[[int, Network], None] | None,
    tensorboard: bool,
) -> Model:
    """The part of a training after its backbone's (`recipe.finish`): a new head and new codebooks, on the backbone's features.

    The backbone has learned to tell pictures apart, whatever their views. Now a picture is to agree with its neighbours as well:
    as positives from the start they taught less than views did, found by a trained backbone they teach what views cannot.
    With neighbours alone, codes tell a picture from the next no longer well; two views of the picture itself beside its
    neighbour give a part of that back, and make better codes at that (docs/log.md).

    It learns from PICTURES at most, drawn at random, so that it takes no longer for a million. In a training by minutes it
    describes as many as it can in a third of the time that is kept for it, and what is left is for learning, a third at least.

    Args:
        network: trained; its backbone stays as it is. begin: where the part before ended, or a checkpoint of this one.
    """
    begun, f = time.monotonic(), recipe.finish
    torch.manual_seed(recipe.train.seed + 1)
    network = Network(recipe, network.backbone).to(device)
    part = replace(
        recipe.train, optimizer="adam", epochs=f.epochs, minutes=0.0, num_views=3 if f.views else 2, batch_size=f.batch_size,
        temperature=f.temperature, lr=f.lr, backbone_lr_scale=1.0, neighbours=f.neighbours,
    )  # fmt: skip
    recipe, whole = replace(recipe, train=part), recipe
    optimizers = make_optimizers(network, recipe, backbone=False)
    checkpoint = begin if isinstance(begin, dict) else None
    state = begin if isinstance(begin, State) else restored(begin, network, optimizers)
    precision = resolve_precision(part.precision, device.type)
    network.backbone.eval()
    describe_some = partial(
        describe, pixels.array, whole, network.backbone, f.views,
        view_input=whole.input.scaled(part.view_scale), precision=precision,
    )  # fmt: skip
    order = np.random.default_rng(part.seed).permutation(len(pixels.array))[:PICTURES]
    kept = 60 * whole.train.minutes * f.share or math.inf
    if checkpoint:
        near = checkpoint["near"].to(device)
        array = _in_time(describe_some, order[: len(near)], part.seed, math.inf)
    else:
        array = _in_time(describe_some, order, part.seed, kept / 3)
        near = neighbours(array[:, 0], f.neighbours, part.seed, device)
        state.seconds += time.monotonic() - begun
        state.began = state.seconds
    batch_size = batch_size_for(recipe, len(array), name, pixels.failures)
    run = Run(recipe, out, network, optimizers, state, batch_size, fingerprint, tensorboard, whole)
    run.near = near
    run.clock = state.began, max(60 * whole.train.minutes or math.inf, state.began + kept / 3)
    _learn(run, array, device, objective, on_status, on_epoch)
    return run.finish(name, pixels)


def _learn(
    run: Run,
    array: NDArray[np.float32],
    place: torch.device,
    objective: Objective | None,
    on_status: Callable[[TrainStatus], None] | None,
    on_epoch: Callable[[int, Network], None] | None,
) -> None:
    """The loop: head and codebooks of the run's network on features (N, 1 + V, F) of pictures and their views."""
    network, train = run.network, run.recipe.train

    def own_loss(outputs: Outputs) -> Tensor:
        return multi_view(outputs, train.temperature, run.recipe.quantizer.prefix_dims)

    network.head.train()
    with run.interruptible():
        for indices, generator in run.batches(len(array), place):
            shown = whose(indices, run.near, train.num_views, generator)
            described = [network.project(x) for x in draw(array, shown, generator)]
            outputs = [(x, network.quantizer(x)) for x in described]
            loss = objective(outputs, network, own_loss) if objective else own_loss(outputs)
            for optimizer in run.optimizers:
                optimizer.zero_grad()
            torch.autograd.backward(loss)
            for optimizer in run.optimizers:
                optimizer.step()
            run.after_step(loss, described[0], on_status, on_epoch)


def _in_time(
    describe_some: Callable[..., NDArray[np.float32]], rows: NDArray[np.int64], seed: int, seconds: float
) -> NDArray[np.float32]:
    """Features of the pictures in these rows, of the first CHUNK and of more until the seconds are over."""
    parts: list[NDArray[np.float32]] = []
    end = time.monotonic() + seconds
    for start in range(0, len(rows), CHUNK):
        if parts and time.monotonic() > end:
            break
        parts.append(describe_some(seed=step_seed(seed, start), rows=rows[start : start + CHUNK]))
    return np.concatenate(parts)


def draw(features: NDArray[np.float32], shown: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """(B, F) for each of `shown` (B,): of a picture a cached view or the whole of it, never one twice in the same row.

    Twice the same would be a descriptor against its own quantization, which the loss is not to see.
    """
    have, rows = features.shape[1], shown[0]
    chances = torch.rand(len(rows), max(have, len(shown)), generator=generator, device=rows.device)
    columns = chances.argsort(1).T % have  # repeats only where there are fewer than are shown
    return [
        torch.from_numpy(features[of.cpu().numpy(), which.cpu().numpy()]).to(rows.device)
        for of, which in zip(shown, columns, strict=False)
    ]


def check_pq(network: Network) -> None:
    """Refuse to start at PQ what cannot.

    Raises:
        ConfigError: the head has a hidden layer, or a share has fewer features than a sub-vector has numbers.
    """
    config, F = network.quantizer.config, network.feature_dim
    M, d = config.num_codebooks, config.codeword_dim
    if len(network.head) > 1:
        raise ConfigError('start = "pq" sets a head of one layer; give [head] hidden = 0, or start = "random"')
    if d > F // M:
        raise ConfigError(
            f"{d} numbers a codeword are more than {F} features give {M} codebooks; give fewer --bits, or a recipe "
            f"with a lower codeword_dim"
        )


@torch.no_grad()
def start_at_pq(network: Network, features: NDArray[np.float32]) -> None:
    """Set a one-layer head and the codebooks, in place, to PQ of the features: sub-vector m is made of the m-th F/M of them.

    Each sub-vector has the principal axes of its share, and its codebook k-means. Every share of the channels of a deep network
    knows a bit of everything, so each codebook clusters all pictures in a way of its own, and their sum is an ensemble; axes of
    all features dealt to the sub-vectors (OPQ) took that apart, and trained codes ended worse.

    Raises:
        ConfigError: what `check_pq` refuses.
    """
    check_pq(network)
    config, layer = network.quantizer.config, network.head[-1]
    assert isinstance(layer, nn.Linear)
    M, d, F = config.num_codebooks, config.codeword_dim, features.shape[1]
    f = torch.from_numpy(np.array(features))
    f -= (mean := f.mean(0))
    weight = torch.zeros(M, d, F)
    for m, columns in enumerate(torch.arange(F).tensor_split(M)):
        part = f[:, columns]
        weight[m][:, columns] = torch.linalg.eigh(part.T @ part).eigenvectors[:, -d:].T
    weight = weight.view(M * d, F)
    weight *= (M / (f @ weight.T).square().sum(1).mean()).sqrt()  # sub-vectors of length 1 in the mean square
    layer.weight.copy_(weight)
    layer.bias.copy_(-weight @ mean)
    x = network.scaled(f @ weight.T)
    chosen = torch.linspace(0, len(x) - 1, config.codebook_size).long()
    network.quantizer.codebooks.copy_(network.quantizer.split(x[chosen]).transpose(0, 1))
    refit(network.quantizer, x)


def _features(
    network: Network, images: ImageSet, recipe: Recipe, place: torch.device, progress: Callable[[int], None] | None
) -> Features:
    precision = resolve_precision(recipe.train.precision, place.type)
    backbone, dim = network.backbone.to(place), network.feature_dim
    return cached_features(images, recipe, backbone, dim, precision=precision, progress=progress)
