"""The log of a training: `log.jsonl`, TensorBoard and the status callback."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spq.common.files import naming
from spq.errors import ConfigError
from spq.training.callbacks import TrainStatus
from spq.training.checkpoint import Phase
from spq.training.context import Training


class TrainingLog:
    """Write each status of one stage. It opens TensorBoard at once, because the package may be missing."""

    def __init__(self, training: Training, phase: Phase) -> None:
        self.path, self.on_status = training.out / "log.jsonl", training.callbacks.on_status
        self.prefix = "finish/" if phase.is_last else ""  # its steps count from 0 again
        self.board = _open_tensorboard(training.out) if training.options.tensorboard else None

    def write(self, status: TrainStatus) -> None:
        row = {**asdict(status), "warning": status.health.warning}
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board:
            for key in ("loss", "lr", "images_per_second"):
                self.board.add_scalar(self.prefix + key, row[key], status.step)
            for key, number in asdict(status.health).items():
                self.board.add_scalar(f"{self.prefix}health/{key}", number, status.step)
        if self.on_status:
            self.on_status(status)

    def close(self) -> None:
        if self.board:
            self.board.close()


def _open_tensorboard(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("`tensorboard` needs a package; run pip install 'spq-retrieval[tensorboard]'") from None
    return SummaryWriter(str(out / "tensorboard"))
