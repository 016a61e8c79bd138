"""The loop that trains head and codebooks on features of a backbone that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spq.training.loss import Outputs
from spq.training.neighbours import positive_rows
from spq.training.run import Run


def learn_head(run: Run, features: NDArray[np.float32], pictures: Tensor | None = None) -> None:
    """Train head and codebooks of the run's network until the budget is spent.

    Args:
        features: (N, 1 + V, F) of each whole picture and of V views of it.
        pictures: (N,) their positions among all pictures of the training; by default they are all.
    """
    part = run.part
    network, optimizers, criterion = part.network, part.optimizers, part.criterion
    assert criterion
    network.head.train()
    network.quantizer.train()
    with run.interruptible():
        for rows, generator in run.batches():
            shown = positive_rows(rows, part.neighbour_ids, part.recipe.train.num_views, generator)
            descriptors = [network.project(f) for f in draw_features(features, shown, generator)]
            outputs: Outputs = [(x, network.quantizer(x)) for x in descriptors]
            loss = criterion(outputs, rows if pictures is None else pictures[rows], part.recipe.train.temperature)
            for optimizer in optimizers:
                optimizer.zero_grad()
            torch.autograd.backward(loss)
            for optimizer in optimizers:
                optimizer.step()
            run.after_step(loss, descriptors[0])


def draw_features(features: NDArray[np.float32], shown: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Draw features (B, F) for each entry of `shown` (B,): of a random cached view of the picture, or of the whole picture.

    No row gets the same view of a picture twice while there are others. Otherwise a descriptor would be compared with its own
    quantization, and the loss must not see that.
    """
    available, rows = features.shape[1], shown[0]
    chances = torch.rand(len(rows), max(available, len(shown)), generator=generator, device=rows.device)
    columns = chances.argsort(1).T % available  # repeats only where fewer views are available than are shown
    return [
        torch.from_numpy(features[view_rows.cpu().numpy(), column.cpu().numpy()]).to(rows.device)
        for view_rows, column in zip(shown, columns, strict=False)
    ]
