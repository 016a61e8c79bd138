"""The folder of a training: one process at a time writes to it, and there is room for what it will write."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from torch import Tensor

from spq.common.files import remove_stale
from spq.common.locks import held
from spq.config import Recipe
from spq.errors import ModelError, SpaceError
from spq.model.model_folder import FILES, check_no_index
from spq.model.network import Network
from spq.training.checkpoint_file import NAME, checkpoint_path

LOCK = ".training"
STATES = 2  # tensors that Adam keeps for each weight; Muon keeps one


@contextmanager
def one_training(out: Path) -> Iterator[None]:
    """Hold the folder of a training until it ends, and delete parts of files that killed ones have left.

    Raises:
        ModelError: another process trains there.
    """
    check_no_index(out)
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(held(out / LOCK, stays=False))
            except BlockingIOError:
                raise ModelError(
                    f"another process is training in {out}; wait for it to end, or give another `out`"
                ) from None
            remove_stale(out, *FILES)
            remove_stale(checkpoint_path(out).parent, NAME)
            yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                out.rmdir()


def check_space(out: Path, network: Network, recipe: Recipe, count: int) -> None:
    """Refuse a training whose model and checkpoints do not fit on the disk, before it begins.

    Args:
        count: number of pictures.
    Raises:
        SpaceError: names the bytes that are needed, and those that are free.
    """
    train, path = recipe.train, checkpoint_path(out)
    model = _bytes(network.state_dict().values())
    needed = model
    if train.epochs or train.minutes or not train.frozen:
        learned = _bytes((network.head if train.frozen else network).parameters())
        checkpoint = model * (2 if train.target_momentum else 1) + STATES * learned + 8 * count * train.neighbours
        needed += 2 * checkpoint - (path.stat().st_size if path.is_file() else 0)  # a new one is written beside the old
    check_room(out, needed, "the model and its checkpoints", "give another `out`")


def check_room(folder: Path, needed: int, what: str, other: str) -> None:
    """Refuse to begin if a disk has no room for so many bytes.

    Args:
        what: will be written. other: what the user may do instead of freeing space.
    Raises:
        SpaceError: names the folder, the bytes that are needed, and those that are free.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise SpaceError(
            f"{what} need {needed / 1e6:,.1f} MB in {folder}, and {free / 1e6:,.1f} MB are free; free some space, or {other}"
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
