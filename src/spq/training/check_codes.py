"""Compare models without labels: do altered copies find their original, and are code neighbours neighbours by feature?

Rank 1 depends on fine differences, which copies test. The first ten answers should be similar by the features of the backbone.
Both tests use the backbone's features, so two models of one backbone are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spq.model.model import Model
from spq.training.fidelity import in_top

TOP = 10
WIDE = 5  # answers count as similar if they are among the 5 * TOP nearest by feature
COPY_LOSS = 0.2  # shares that a model may lose before the other one is better
NEAR_LOSS = 0.045  # heads that helped lost up to 0.037, one that was smoothed too much lost 0.05 (docs/log.md)


@dataclass(frozen=True)
class CodeCheck:
    """What the codes of a model find; shares from 0 to 1.

    Attributes:
        copy_at_1, copy_at_10: of altered copies, whose original is the nearest picture, or among the 10 nearest.
        near_at_10: of the 10 nearest by code to a copy, those that are among the 50 nearest to its original by feature.
    """

    copy_at_1: float
    copy_at_10: float
    near_at_10: float


@torch.no_grad()
def check_codes(
    model: Model, features: NDArray[np.float32], copies: NDArray[np.float32], originals: NDArray[np.int64]
) -> CodeCheck:
    """Check the codes of pictures with features (N, F) by altered copies.

    Args:
        copies: (Q, F) features of altered copies of the pictures in rows `originals` (Q,).
    """
    codes = torch.from_numpy(model.encode_descriptors(model.project(features))).long()
    tables = torch.from_numpy(model.tables(model.project(copies)))  # (Q, M, K)
    distances = torch.stack([table.gather(1, codes.T).sum(0) for table in tables])  # (Q, N)
    own, top = torch.from_numpy(originals)[:, None], min(TOP, len(features) - 1)
    similar = _similarities(features, originals).scatter_(1, own, -2.0)
    limit = similar.topk(min(WIDE * top, len(features) - 1), dim=1).values[:, -1:]
    answers = distances.scatter(1, own, float("inf")).topk(top, largest=False).indices
    return CodeCheck(
        copy_at_1=in_top(distances, own, 1),
        copy_at_10=in_top(distances, own, TOP),
        near_at_10=float((similar.gather(1, answers) >= limit).float().mean()),
    )


def is_safe(first: CodeCheck, second: CodeCheck) -> bool:
    """Whether a model with the second check loses little against one with the first.

    Smoothed features lose some copies by design: pictures of one kind come closer than copies are. So only a large loss counts.
    """
    loss = first.copy_at_10 - second.copy_at_10, first.near_at_10 - second.near_at_10
    return loss[0] <= COPY_LOSS and loss[1] <= NEAR_LOSS


def _similarities(features: NDArray[np.float32], rows: NDArray[np.int64]) -> Tensor:
    """Compute cosines (Q, N) of the centred features of some rows and of all pictures."""
    unit = F.normalize(torch.from_numpy(np.array(features)), dim=1)
    unit = F.normalize(unit - unit.mean(0), dim=1)
    return unit[torch.from_numpy(rows)] @ unit.T
