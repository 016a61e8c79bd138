from __future__ import annotations

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spq.errors import ModelError
from spq.training.checkpoint_file import CHECKSUM, checkpoint_path, read_checkpoint, write_checkpoint

CONTENT: dict[str, Any] = {
    "recipe": {"name": "x", "train": {"lr": 1e-3, "seed": 7}},
    "network": {"w": torch.arange(300.0).view(3, 100), "n": torch.tensor(5), "none": torch.empty(0)},
    "optimizers": [{"state": {0: {"step": torch.tensor(3.0)}}, "groups": [(0.9, 0.99), True, None]}],
    "near": torch.tensor([[1], [0]]),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    write_checkpoint(tmp_path, CONTENT)
    return tmp_path


def without_its_checksum(out: Path) -> None:
    """Write the checkpoint as versions without a checksum in the content did."""
    torch.save(CONTENT, checkpoint_path(out))


def same(content: dict[str, Any] | None) -> bool:
    assert content
    return repr(content) == repr(CONTENT)


def test_what_was_written_is_read(out: Path) -> None:
    assert same(read_checkpoint(out))


def test_checkpoints_of_before_without_a_checksum_are_read(out: Path) -> None:
    without_its_checksum(out)
    assert same(read_checkpoint(out))


@pytest.mark.parametrize("is_old", [False, True])
def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(out: Path, is_old: bool) -> None:
    if is_old:
        without_its_checksum(out)
    path, rng, refused = checkpoint_path(out), random.Random(0), 0
    whole = path.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            assert same(read_checkpoint(out))
        except ModelError as error:
            assert "delete it to start again" in str(error)  # noqa: PT017 (both ends are right)
            refused += 1
    assert refused > 75


def test_content_that_was_changed_and_saved_again_is_noticed(out: Path) -> None:
    stored = torch.load(checkpoint_path(out), weights_only=True)
    stored["optimizers"][0]["groups"][0] = (0.9, 0.999)
    torch.save(stored, checkpoint_path(out))
    with pytest.raises(ModelError, match="its content has another checksum; delete it to start again"):
        read_checkpoint(out)
    stored[CHECKSUM] = None
    torch.save(stored, checkpoint_path(out))
    assert read_checkpoint(out)


def test_parts_that_would_take_more_memory_than_the_file_are_refused(out: Path) -> None:
    with zipfile.ZipFile(checkpoint_path(out), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(10**7))
    with pytest.raises(ModelError, match="it is damaged"):
        read_checkpoint(out)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "it is damaged, or no checkpoint"),
        (lambda path: path.write_bytes(b"PK"), "it is damaged, or no checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_the_reason(
    out: Path, make: Callable[[Path], object], reason: str
) -> None:
    checkpoint_path(out).unlink()
    make(checkpoint_path(out))
    with pytest.raises(ModelError, match=f"cannot be read: {reason}; delete it to start again"):
        read_checkpoint(out)
