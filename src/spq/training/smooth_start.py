"""A head that smooths features over the neighbours of a picture, and codebooks for it: in closed form, without training steps.

Each picture of the collection gets a target: its own feature plus the mean feature of the pictures that random walks from it
visit (diffusion: Donoser and Bischof 2013; Iscen et al. 2017). Pictures of the same kind come closer, and its own feature keeps a
picture nearest to its copies. The targets are known for the collection only, so the head learns them by ridge regression and
gives them for any picture. Its hidden layer has two parts: principal axes, each with both signs, and landmarks. A landmark is a
typical feature, and its unit is active for pictures that are similar to it. No labels are used.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spq.config import HeadConfig
from spq.errors import ConfigError
from spq.model.network import Network
from spq.training.neighbours import visited_mean
from spq.training.pq_start import (
    FITTED_STEPS,
    START_STEPS,
    Progress,
    check_pq,
    fit_codebooks,
    rotate,
    shared_axes,
    start_at_pq,
)

AXES = 256  # principal axes of the features, at most; a third of the hidden units serve them
OWN = 0.8  # weight of a picture's own feature beside the mean of its neighbours
KEPT = 128  # principal axes of the smoothed features that descriptors have; more are noise
ACTIVE = 20  # landmarks that are active for a picture, on average
RIDGE = 1.0
ROUNDS = 10  # of k-means for the landmarks


def check_start(network: Network, head: HeadConfig) -> None:
    """Refuse a network that cannot start as `start` of its head says.

    Raises:
        ConfigError: the layers of the head do not fit.
    """
    if head.start == "smooth":
        check_smooth(network)
    else:
        check_pq(network)


def start_head(
    network: Network, head: HeadConfig, features: NDArray[np.float32], progress: Progress | None = None
) -> None:
    """Set head and codebooks, in place, as `start` of the head says.

    Args:
        features: (N, F) of the pictures. progress: called with the number of `START_STEPS` that are done.
    """
    if head.start == "smooth":
        start_smooth(network, features, progress)
    else:
        start_at_pq(network, features, head.start, progress)
    if progress:
        progress(START_STEPS)


def check_smooth(network: Network) -> None:
    """Refuse a head without hidden units.

    Raises:
        ConfigError: fewer than 6 hidden units, batch norm, or features that are not scaled.
    """
    first = network.head[0]
    hidden = first.out_features if len(network.head) > 1 and isinstance(first, nn.Linear) else 0
    if hidden < 6 or len(network.head) != 3 or not network.unit:
        raise ConfigError(
            f'head.start = "smooth" needs head.unit = true and a plain hidden layer, got head.hidden = {hidden}; try 1536'
        )


@torch.no_grad()
def start_smooth(network: Network, features: NDArray[np.float32], progress: Progress | None = None) -> None:
    """Set a head of two layers and the codebooks, in place.

    Args:
        features: (N, F) of the pictures. progress: as in `start_head`.
    Raises:
        ConfigError: as `check_smooth`.
    """
    check_smooth(network)
    first, last = network.head[0], network.head[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    done = progress or (lambda count: None)
    f = F.normalize(torch.from_numpy(np.array(features)), dim=1)
    mean, axes = _principal_axes(f, min(AXES, first.out_features // 6))
    z = (f - mean) @ axes  # (N, A)
    targets = F.normalize(visited_mean(z) + OWN * F.normalize(z, dim=1), dim=1)
    done(1)
    _set_hidden_layer(first, z, axes, mean)
    done(2)
    hidden = torch.relu(first(f))
    gram = hidden.T @ hidden + RIDGE * torch.eye(hidden.shape[1])
    smooth = torch.linalg.solve(gram.double(), (hidden.T @ targets).double()).float()  # (hidden, A)
    outputs = F.normalize(hidden @ smooth, dim=1)
    turned = shared_axes(outputs, network.quantizer.config, KEPT)  # (D, A)
    weight = turned @ smooth.T
    last.weight.copy_(weight)
    last.bias.copy_(-turned @ outputs.mean(0))
    done(3)
    fit_codebooks(network, f)
    done(FITTED_STEPS)
    rotate(network, f, progress)


def _principal_axes(f: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Compute the mean (F,) and the first principal axes (F, A) of f (N, F)."""
    mean = f.mean(0)
    centred = (f - mean).double()
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, : min(count, len(f) - 1)]
    return mean, axes.float()


def _set_hidden_layer(layer: nn.Linear, z: Tensor, axes: Tensor, mean: Tensor) -> None:
    """Fill a hidden layer: axes, the same with the other sign, landmarks. Units that remain are zero.

    Args:
        z: (N, A) the pictures on the axes (F, A).
    """
    layer.weight.zero_()
    layer.bias.zero_()
    A = axes.shape[1]
    scale = (ACTIVE / z.square().sum(1).mean().clamp(min=1e-12)).sqrt()  # axes and landmarks count about the same
    marks, thresholds, heights = _landmarks(F.normalize(z, dim=1), z, layer.out_features - 2 * A)
    projections = torch.cat([scale * axes.T, -scale * axes.T, marks @ axes.T / heights[:, None]])
    offsets = torch.cat([z.new_zeros(2 * A), -thresholds / heights])
    layer.weight[: len(projections)] = projections
    layer.bias[: len(projections)] = offsets - projections @ mean


def _landmarks(directions: Tensor, z: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose landmarks (J, A) by k-means of directions (N, A), their thresholds (J,) and heights (J,).

    A landmark's unit is above 0 for the pictures whose similarity exceeds the threshold, and 1 for the most similar one.
    """
    N, J = len(z), min(count, len(z))
    marks = directions[torch.arange(J) * N // J].clone()
    for _ in range(ROUNDS if J < N else 0):
        nearest = torch.cat([(rows @ marks.T).argmax(1) for rows in torch.split(directions, 4096)])
        sums = torch.zeros_like(marks).index_add_(0, nearest, directions)
        marks = torch.where(sums.abs().sum(1, keepdim=True) > 0, F.normalize(sums, dim=1), marks)
    near = max(1, min(N - 1, ACTIVE * N // J))
    best = torch.stack([(z @ mark).topk(near + 1).values for mark in marks])  # (J, near + 1)
    return marks, best[:, -1], (best[:, 0] - best[:, -1]).clamp(min=1e-3)
