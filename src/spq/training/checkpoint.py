"""Checkpoints: what one holds, and how a training continues from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from spq.config import Recipe, from_dict, to_dict
from spq.errors import ConfigError, ModelError
from spq.model.network import Network
from spq.model.own_parts import Parts, checked_parts
from spq.training.checkpoint_file import checkpoint_path, read_checkpoint, write_checkpoint
from spq.training.losses import Criterion


class Phase(Enum):
    """Which stage of a training is running."""

    NETWORK = "network"  # backbone, head and codebooks
    FINISH = "finish"  # a new head and new codebooks on the features of the trained backbone
    CLUSTER = "cluster"  # codebooks that are clusterings
    FROZEN_HEAD = "frozen head"  # head and codebooks on the features of a given backbone

    @property
    def part(self) -> str:
        """The name that a status shows."""
        return {Phase.FINISH: "head and codes", Phase.CLUSTER: "clusters"}.get(self, "network")

    @property
    def is_last(self) -> bool:
        """Whether it follows stage `network`."""
        return self in (Phase.FINISH, Phase.CLUSTER)


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: steps of this stage. seconds: time spent in all stages.
        network_facts: steps, views and epochs of the network, once it is trained.
        began: value of `seconds` when the steps of this stage began.
    """

    step: int = 0
    seconds: float = 0.0
    network_facts: dict[str, float] | None = None
    began: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """All that the rest of a training depends on, apart from the pictures.

    Attributes:
        neighbour_ids: (N, count) neighbours of each picture, where they are positives.
        network, optimizers: their state dicts. targets: that of the moving targets, where the recipe has them.
        loss: parameters and buffers of the loss, where it has some.
        parts: those of the caller; None in checkpoints from before they were recorded.
    """

    recipe: Recipe
    phase: Phase
    fingerprint: str
    neighbour_ids: Tensor | None
    network: dict[str, Any]
    optimizers: list[dict[str, Any]]
    progress: Progress
    targets: dict[str, Any] | None = None
    parts: Parts | None = None
    loss: dict[str, Any] | None = None

    @classmethod
    def load(cls, out: Path) -> Checkpoint | None:
        """Read the last checkpoint of a training; None if there is none yet.

        Raises:
            ModelError: the file is damaged.
        """
        content = read_checkpoint(out)
        if content is None:
            return None
        try:
            recipe = from_dict(Recipe, content["recipe"], where=f"{out}/checkpoints")
            facts = content.get("trained")
            parts = checked_parts(content["parts"]) if "parts" in content else None
            progress = Progress(content["step"], content["seconds"], facts, content.get("began", 0.0))
            found = cls(
                recipe, _phase_of(recipe, facts), content["fingerprint"], content["near"], content["network"],
                content["optimizers"], progress, content.get("targets"), parts, content.get("loss"),
            )  # fmt: skip
            found._check_types()
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ModelError(f"{checkpoint_path(out)} is not a checkpoint of spq; delete it to start again") from None
        return found

    def _check_types(self) -> None:
        """Refuse values of other types, which a checkpoint without a checksum may have.

        Raises:
            TypeError: names nothing, as the caller does.
        """
        progress, near = self.progress, self.neighbour_ids
        is_valid = (
            isinstance(progress.step, int)
            and all(map(_is_number, (progress.step, progress.seconds, progress.began)))
            and all(map(_is_number, (progress.network_facts or {}).values()))
            and isinstance(self.fingerprint, str)
            and (near is None or (isinstance(near, Tensor) and near.ndim == 2 and near.dtype == torch.int64))
            and all(
                isinstance(tensor, Tensor)
                for part in (self.network, self.targets or {}, self.loss or {})
                for tensor in part.values()
            )
            and isinstance(self.optimizers, list)
            and all(isinstance(state, dict) for state in self.optimizers)
        )
        if not is_valid:
            raise TypeError

    def save(self, out: Path) -> None:
        """Replace the last checkpoint of a training; the file is never half written."""
        content = {
            "recipe": to_dict(self.recipe),
            "fingerprint": self.fingerprint,
            "near": self.neighbour_ids,
            "network": self.network,
            "optimizers": self.optimizers,
            "targets": self.targets,
            **({} if self.parts is None else {"parts": self.parts}),
            "loss": self.loss,
            "step": self.progress.step,
            "seconds": self.progress.seconds,
            "trained": self.progress.network_facts,
            "began": self.progress.began,
        }
        write_checkpoint(out, content)

    def check_pictures(self, fingerprint: str, name: str) -> None:
        """Refuse to continue with other pictures.

        Raises:
            ModelError: `fingerprint` differs from that of the checkpoint.
        """
        if self.fingerprint != fingerprint:
            raise ModelError(
                f"the checkpoint was made from other pictures than {name}; use the same pictures, or a new `out`"
            )

    def restore(self, network: Network, optimizers: list[Optimizer], criterion: Criterion | None = None) -> Progress:
        """Load network, optimizers and loss; return where the training stands.

        Raises:
            ConfigError: the caller's backbone or loss has other shapes. ModelError: the state is that of other optimizers.
        """
        load_weights(network, self.network, "checkpoint")
        if criterion:
            criterion.load_state(self.loss or {})
        try:
            for optimizer, saved in zip(optimizers, self.optimizers, strict=True):
                optimizer.load_state_dict(saved)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            raise ModelError(
                "the checkpoint has the state of other optimizers; delete `out`/checkpoints to start again"
            ) from None
        return replace(self.progress)


def _phase_of(recipe: Recipe, network_facts: dict[str, float] | None) -> Phase:
    """The file does not store the phase, but these decide it."""
    if recipe.train.frozen:
        return Phase.FROZEN_HEAD
    if network_facts is None:
        return Phase.NETWORK
    return Phase.CLUSTER if recipe.cluster.share else Phase.FINISH


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15


def load_weights(network: Network, weights: dict[str, Any], source: str) -> None:
    """Load weights into a network; `source` names them in the error.

    Raises:
        ConfigError: the caller's backbone or quantizer has other shapes.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        part = "backbone" if "backbone." in str(error) else "quantizer"
        raise ConfigError(f"the given `{part}` does not fit the {source}; give a {part} with the same shapes") from None
