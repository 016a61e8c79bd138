"""Head and codebooks learned on features of a frozen backbone: minutes on two cores for any pretrained network.

The start is product quantization of the features' principal axes, rotated as OPQ does. From there the loss of the paper goes
on, with one change: what a picture is to agree with is, beside its own views, its nearest neighbours in feature space.
Features of a good backbone have most of their nearest neighbours of the same kind, and codes as short as these gain more
from kinds drawn together than they lose by it (compare NNCLR, Dwibedi et al. 2021; figures in docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spq.config import Recipe
from spq.data.sources import ImageSet
from spq.errors import ConfigError
from spq.learning import train as training
from spq.learning.features import Features, cached_features
from spq.learning.loss import multi_view
from spq.learning.refit import refit
from spq.model.artifact import Model
from spq.model.device import resolve_device, resolve_precision
from spq.model.network import Network

CANDIDATES = 50_000  # pictures among which neighbours are sought, and which the start is fitted to, at most
OPQ_STEPS = 20  # of codebooks and rotation in turn


def train_head(
    images: ImageSet,
    recipe: Recipe,
    out: Path,
    checkpoint: dict[str, Any] | None,
    *,
    device: str = "auto",
    backbone: nn.Module | None = None,
    on_load: Callable[[int], None] | None = None,
    on_status: Callable[[training.TrainStatus], None] | None = None,
    on_epoch: Callable[[int, Network], None] | None = None,
    tensorboard: bool = False,
) -> Model:
    """What `spq.learning.train.train` does for a recipe with `frozen`; the arguments are its own."""
    torch.manual_seed(recipe.train.seed)
    network = Network(recipe, backbone).to(resolve_device(device))
    network.backbone.requires_grad_(False)
    if recipe.train.channels_last:
        network.to(memory_format=torch.channels_last)
    place = network.quantizer.codebooks.device
    precision = resolve_precision(recipe.train.precision, place.type)
    features = cached_features(
        images, recipe, network.backbone, network.feature_dim, precision=precision, progress=on_load
    )
    batch_size = training.batch_size_for(recipe, len(features.array), images.name, features.failures)
    training.check_same_pictures(checkpoint, features.fingerprint, out, images.name)
    if not checkpoint and recipe.head.start == "opq":
        start_at_opq(network, features.array[:, 0])
    optimizers = training.make_optimizers(network, recipe)
    state = training.restore(checkpoint, network, optimizers)
    run = training.Run(
        recipe, out, network, optimizers, state, batch_size, features.fingerprint, tensorboard
    )
    near = neighbours(features.array[:, 0], recipe.train.neighbours, recipe.train.seed, place)
    network.train()
    network.backbone.eval()
    with run.interruptible():
        for indices, generator in run.batches(len(features.array), place):
            outputs = []
            for view in range(recipe.train.num_views):
                x = network.project(_drawn(features.array, indices, near if view else None, generator))
                outputs.append((x, network.quantizer(x)))
            loss = multi_view(outputs, recipe.train.temperature)
            for optimizer in optimizers:
                optimizer.zero_grad(); loss.backward(); optimizer.step()
            run.after_step(loss, outputs[0][0], on_status, on_epoch)
    sample = features.array[:: 1 + len(features.array) // training.FIT_IMAGES, 0]
    return run.finish(images.name, project(network, sample), len(features.array), len(features.failures))


def project(network: Network, features: NDArray[np.float32], batch_size: int = 4096) -> NDArray[np.float32]:
    """Features (N, F) -> descriptors (N, D)."""
    place = network.quantizer.codebooks.device
    with torch.inference_mode():
        parts = [
            network.project(torch.from_numpy(np.array(features[i : i + batch_size])).to(place)).cpu().numpy()
            for i in range(0, len(features), batch_size)
        ]
    return np.concatenate(parts)


def neighbours(features: NDArray[np.float32], count: int, seed: int, device: torch.device) -> Tensor | None:
    """(N, count) rows of the nearest other pictures, by cosine of centred features; None with a count of 0."""
    N = len(features)
    if not count:
        return None
    pool = torch.arange(N)
    if N > CANDIDATES:
        pool = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:CANDIDATES].sort().values
    gallery = torch.from_numpy(np.array(features[pool.numpy()])).to(device)
    gallery = F.normalize(gallery, dim=1)
    mean = gallery.mean(0)
    gallery, pool, found = F.normalize(gallery - mean, dim=1), pool.to(device), []
    for start in range(0, N, 1024):
        rows = F.normalize(torch.from_numpy(np.array(features[start : start + 1024])).to(device), dim=1)
        similar = F.normalize(rows - mean, dim=1) @ gallery.T
        own = torch.arange(start, start + len(rows), device=device)
        similar.masked_fill_(own[:, None] == pool, float("-inf"))
        found.append(pool[similar.topk(min(count, len(pool) - 1), dim=1).indices])
    return torch.cat(found)


@torch.no_grad()
def start_at_opq(network: Network, features: NDArray[np.float32]) -> None:
    """Set a one-layer head and the codebooks, in place, to OPQ (Ge et al. 2013) of the features' principal axes.

    Raises:
        ConfigError: the head has a hidden layer, or more dimensions than the features.
    """
    quantizer, config = network.quantizer, network.quantizer.config
    layer, D = network.head[-1], config.dim
    assert isinstance(layer, nn.Linear)
    if len(network.head) > 1:
        raise ConfigError('start = "opq" needs a head of one layer; set hidden = 0 or start = "random"')
    if features.shape[1] < D:
        raise ConfigError(f"a descriptor of {D} numbers is more than the {features.shape[1]} features; lower codeword_dim")
    sample = np.array(features[:: 1 + len(features) // CANDIDATES])
    f = F.normalize(torch.from_numpy(sample), dim=1)
    mean = f.mean(0)
    _, axes = torch.linalg.eigh((f - mean).T @ (f - mean))
    axes = axes[:, -D:].flip(1)  # (F, D), largest variance first
    order = torch.arange(D).view(-1, config.num_codebooks)
    order[1::2] = order[1::2].flip(1)  # dealt to and fro: about the same variance in each sub-space
    axes = axes[:, order.T.flatten()]
    x = (f - mean) @ axes
    scale = 1 / x.square().sum(1).mean().sqrt()
    x = network.scaled(scale * x)
    rotation = _fit_rotation(quantizer, x)
    layer.weight.copy_(scale * (axes @ rotation).T)
    layer.bias.copy_(-layer.weight @ mean.to(layer.weight))
