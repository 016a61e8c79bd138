"""Head and codebooks learned on features of a frozen backbone: minutes on two cores for any pretrained network.

The start is product quantization of the features' principal axes, rotated as OPQ does. From there the loss of the paper goes
on, with one change: what a picture is to agree with is, beside its own views, its nearest neighbours in feature space.
Features of a good backbone have most of their nearest neighbours of the same kind, and codes as short as these gain more
from kinds drawn together than they lose by it (compare NNCLR, Dwibedi et al. 2021; figures in docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spq.config import Recipe
from spq.data.images import load_pixels
from spq.data.sources import ImageSet
from spq.errors import ConfigError
from spq.learning.features import Features, cached_features
from spq.learning.loss import multi_view
from spq.learning.neighbours import neighbours, whose
from spq.learning.refit import refit
from spq.model.artifact import Model
from spq.model.device import resolve_device, resolve_precision
from spq.model.network import Network
from spq.model.quantizer import Quantizer

if TYPE_CHECKING:
    from spq.learning.train import Objective, Outputs, TrainStatus

FIT_IMAGES = 20_000  # pictures, about, that the start is fitted to
OPQ_STEPS = 20  # of codebooks and rotation in turn


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
    """What `spq.learning.train.train` does with a recipe that is `frozen`; the arguments are its own."""
    from spq.learning import train as training  # which calls this

    torch.manual_seed(recipe.train.seed)
    network = training.started(Network(recipe, backbone), start)
    if checkpoint:
        network.load_state_dict(checkpoint["network"])  # the backbone that the features are of
    network.backbone.requires_grad_(False)
    if recipe.train.channels_last:
        network.to(memory_format=torch.channels_last)
    place = torch.device(resolve_device(device))
    features = _features(network, images, recipe, place, on_load)
    array = features.array
    batch_size = training.batch_size_for(recipe, len(array), images.name, features.failures)
    training.check_same_pictures(checkpoint, features.fingerprint, out, images.name)
    if not checkpoint and not start and recipe.head.start == "opq":
        start_at_opq(network, array[:: 1 + len(array) // FIT_IMAGES, 0])
    optimizers = training.make_optimizers(network.to(place), recipe)
    state = training.restored(checkpoint, network, optimizers)
    run = training.Run(recipe, out, network, optimizers, state, batch_size, features.fingerprint, tensorboard)
    near = neighbours(array[:, 0], recipe.train.neighbours, recipe.train.seed, place)

    def own_loss(outputs: Outputs) -> Tensor:
        return multi_view(outputs, recipe.train.temperature, recipe.quantizer.prefix_dims)

    network.head.train()
    with run.interruptible():
        for indices, generator in run.batches(len(array), place):
            shown = whose(indices, near, recipe.train.num_views, generator)
            described = [network.project(draw(array, rows, generator)) for rows in shown]
            outputs = [(x, network.quantizer(x)) for x in described]
            loss = objective(outputs, network, own_loss) if objective else own_loss(outputs)
            for optimizer in optimizers:
                optimizer.zero_grad()
            torch.autograd.backward(loss)
            for optimizer in optimizers:
                optimizer.step()
            run.after_step(loss, described[0], on_status, on_epoch)
    step = 1 + len(array) // training.FIT_IMAGES
    kept = features.kept[::step]

    def pixels_of(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return load_pixels(images, recipe.input.size, positions=kept[rows]).array

    x = Model(network, recipe).project(array[::step, 0])
    return run.conclude(images.name, x, pixels_of, len(array), len(features.failures))


def draw(features: NDArray[np.float32], rows: Tensor, generator: torch.Generator) -> Tensor:
    """(B, F): a cached view, or the whole picture, of each row."""
    which = torch.randint(features.shape[1], rows.shape, generator=generator, device=rows.device)
    return torch.from_numpy(features[rows.cpu().numpy(), which.cpu().numpy()]).to(rows.device)


@torch.no_grad()
def start_at_opq(network: Network, features: NDArray[np.float32]) -> None:
    """Set a one-layer head and the codebooks, in place, to OPQ (Ge et al. 2013) on the features' principal axes.

    Raises:
        ConfigError: the head has a hidden layer, or descriptors of more numbers than the features.
    """
    config, layer = network.quantizer.config, network.head[-1]
    assert isinstance(layer, nn.Linear)
    if len(network.head) > 1:
        raise ConfigError('start = "opq" sets a head of one layer; give [head] hidden = 0, or start = "random"')
    if features.shape[1] < config.dim:
        raise ConfigError(
            f"{config.dim} numbers a descriptor are more than {features.shape[1]} features; lower codeword_dim"
        )
    f = torch.from_numpy(np.array(features))
    mean = f.mean(0)
    axes = torch.linalg.eigh((f - mean).T @ (f - mean)).eigenvectors.flip(1)[:, : config.dim]  # largest variance first
    dealt = torch.arange(config.dim).view(-1, config.num_codebooks)
    dealt[1::2] = dealt[1::2].flip(1)  # to and fro: about the same variance in each sub-space
    axes = axes[:, dealt.T.flatten()]
    x = (f - mean) @ axes
    scale = (config.num_codebooks / x.square().sum(1).mean()).sqrt()
    rotation = _rotation(network.quantizer, network.scaled(scale * x))
    layer.weight.copy_(scale * (axes @ rotation).T)
    layer.bias.copy_(-layer.weight @ mean)


def _rotation(quantizer: Quantizer, x: Tensor) -> Tensor:
    """(D, D): rotation and codebooks in turn, each the best for the other; the codebooks are set."""
    K = quantizer.config.codebook_size
    chosen = torch.linspace(0, len(x) - 1, K).long()
    quantizer.codebooks.copy_(quantizer.split(x[chosen]).transpose(0, 1))
    refit(quantizer, x, 10)
    rotation = torch.eye(x.shape[1])
    for _ in range(OPQ_STEPS):
        refit(quantizer, x @ rotation, 1)
        decoded = quantizer.decode(quantizer.encode(x @ rotation))
        u, _, vt = torch.linalg.svd(x.T @ decoded)
        rotation = u @ vt
    refit(quantizer, x @ rotation, 5)
    return rotation


def _features(
    network: Network, images: ImageSet, recipe: Recipe, place: torch.device, progress: Callable[[int], None] | None
) -> Features:
    precision = resolve_precision(recipe.train.precision, place.type)
    backbone, dim = network.backbone.to(place), network.feature_dim
    return cached_features(images, recipe, backbone, dim, precision=precision, progress=progress)
