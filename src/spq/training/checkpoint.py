"""Where a training goes on: its last checkpoint, or a model whose weights it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from spq.errors import ConfigError, ModelError
from spq.model.model import Model
from spq.model.network import Network


@dataclass
class State:
    """What a checkpoint holds beside tensors.

    step: of this part. seconds: of all. trained: steps, views and epochs of the network, in the part after it.
    began: seconds when the steps of that part began.
    """

    step: int = 0
    seconds: float = 0.0
    trained: dict[str, float] | None = None
    began: float = 0.0


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """The last checkpoint of a training, None where there is none yet."""
    path = Path(out) / "checkpoints" / "last.pt"
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise ModelError(f"checkpoint {path} is unreadable ({type(error).__name__}); delete it to start anew") from None
    return content


def started(network: Network, start: Model | None) -> Network:
    """The network with the weights of a model.

    Raises:
        ConfigError: a given backbone is not of the model's shapes.
    """
    if start is not None:
        fill(network, start.network.state_dict(), "model to start from")
    return network


def fill(network: Network, weights: dict[str, Any], of: str) -> None:
    """Load weights into a network.

    Raises:
        ConfigError: a given backbone is not of their shapes.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ConfigError(f"the given backbone does not fit the {of}; give one of its shapes") from None


def check_same_pictures(checkpoint: dict[str, Any] | None, fingerprint: str, out: Path, name: str) -> None:
    """Refuse to go on with other pictures than those of the checkpoint."""
    if checkpoint and checkpoint["fingerprint"] != fingerprint:
        raise ModelError(f"checkpoint of {out} was made from other pictures than {name}; give the same, or a new --out")


def restored(checkpoint: dict[str, Any] | None, network: Network, optimizers: list[Optimizer]) -> State:
    """Load network and optimizers from a checkpoint where there is one; where the training stands."""
    if not checkpoint:
        return State()
    fill(network, checkpoint["network"], "checkpoint")
    for optimizer, saved in zip(optimizers, checkpoint["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return State(checkpoint["step"], checkpoint["seconds"], checkpoint.get("trained"), checkpoint.get("began", 0.0))
