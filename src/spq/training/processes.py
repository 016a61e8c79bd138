"""The processes of one training, as `torchrun` starts them: who this one is, and what they tell each other.

The first process decides, writes and reports. What it decides reaches the others through `control`, a group that also waits
for hours while the first works alone. Sums and gathers of a step go through `steps`, on the device.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from spq.common.parallel import launched
from spq.errors import ConfigError, ProcessesError
from spq.model.device import resolve_device

STEP_TIMEOUT = timedelta(minutes=30)  # of a sum or gather: by then all processes are at the same step
WAIT_TIMEOUT = timedelta(days=7)  # while the first works alone; that one has ended is noticed at once
POLL_SECONDS = 0.05  # a process that waits handles signals in between

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a training; by default, this one is alone, and every method returns what it gets.

    Attributes:
        rank: of this process, from 0. count: of all processes. local_rank: on this machine.
        pending: what this process waits for.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    steps: Any = None
    control: Any = None
    pending: list[Any] = field(default_factory=list)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.count > 1

    def own(self, size: int) -> slice:
        """The rows of a batch of `size` that are this process's."""
        each = size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def check_batch(self, size: int, why: str = "") -> None:
        """Refuse a batch that cannot be divided among the processes: the results would depend on their number.

        Raises:
            ConfigError: names both numbers.
        """
        if size % self.count:
            raise ConfigError(
                f"train.batch_size is {size}{why}, which {self.count} processes cannot share evenly; "
                f"set it to {max(self.count, size - size % self.count)}, or start {_divisor(size, self.count)}"
            )

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.several:
            with _peers():
                dist.all_reduce(tensor, group=self.steps)
        return tensor

    def gather(self, own: Tensor) -> Tensor:
        """Collect a tensor of every process, as (count, *shape) in the order of ranks; without a gradient."""
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(self.count)]
        with _peers():
            dist.all_gather(parts, own.detach().contiguous(), group=self.steps)
        return torch.stack(parts)

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Add up the gradients of all processes, in place; returns the sum of their shares of the loss."""
        if not self.several:
            return loss
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = self.sum(torch.cat([loss.reshape(1).to(grads[0].dtype), *(grad.reshape(-1) for grad in grads)]))
        totals = torch.split(flat[1:], [grad.numel() for grad in grads])
        for grad, total in zip(grads, totals, strict=True):
            grad.copy_(total.view(grad.shape))
        return flat[0]

    def copy_first(self, *modules: nn.Module | None) -> None:
        """Give every process the parameters and buffers that the first one has."""
        if self.several:
            tensors = [tensor for module in modules if module for tensor in module.state_dict().values()]
            with _peers():
                for tensor in tensors:
                    dist.broadcast(tensor, 0, group=self.steps)

    def agree(self, done: float, signal: int) -> tuple[float, int]:
        """Return how much is done, as the first process sees it, and a signal if any process has got one."""
        said = torch.tensor([done if self.is_first else -1.0, signal], dtype=torch.float64)
        with _peers():
            dist.all_reduce(said, dist.ReduceOp.MAX, group=self.control)
        return float(said[0]), int(said[1])

    def meet(self) -> None:
        """Wait until every process is here, for hours if need be; signals are handled meanwhile."""
        if self.several:
            with _peers():
                work = dist.all_reduce(torch.zeros(1), group=self.control, async_op=True)
                self.pending.append(work)  # and stays there if a signal ends the wait
                while not work.is_completed():
                    time.sleep(POLL_SECONDS)
                self.pending.clear()
                work.wait()

    def from_first(self, work: Callable[[], T]) -> T:
        """Do some work in the first process only, and return its result in each."""
        if not self.several:
            return work()
        result = work() if self.is_first else None
        self.meet()
        box: list[Any] = [result]
        with _peers():
            dist.broadcast_object_list(box, 0, group=self.control)
        return cast(T, box[0])

    def on_each_machine(self, work: Callable[[], T]) -> T:
        """Do some work in one process of each machine, and return its result in those of the same machine."""
        if not self.several:
            return work()
        result = work() if self.local_rank == 0 else None
        self.meet()
        results: list[Any] = [None] * self.count
        with _peers():
            dist.all_gather_object(results, result, group=self.control)
        return cast(T, results[self.rank - self.local_rank])


ALONE = Processes()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Connect this process with the others that `torchrun` has started for this training, if there are any.

    Args:
        device: auto, cpu or cuda; with CUDA, each process of a machine takes a GPU of its own.
    Raises:
        ConfigError: fewer GPUs than processes, or torch.distributed is in use. ProcessesError: the others do not come.
    """
    rank, count = launched()
    if count == 1:
        yield ALONE
        return
    if dist.is_initialized():
        raise ConfigError("torch.distributed is in use already; call `destroy_process_group` before training")
    local, kind = int(os.environ.get("LOCAL_RANK", "0")), resolve_device(device)
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"this machine has {torch.cuda.device_count()} GPUs for {os.environ.get('LOCAL_WORLD_SIZE', count)} "
                "processes; start one process for each GPU, or use `device` cpu"
            )
        torch.cuda.set_device(local)
    with _peers():
        store = PrefixStore(f"spq-{next(_trainings)}", _meeting_point())  # of its own: keys stay
        backend = "nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=STEP_TIMEOUT)
    processes = ALONE
    try:
        with _peers():
            control = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
        processes = Processes(rank, count, local, dist.group.WORLD, control)
        yield processes
    finally:
        if not processes.pending:  # it would wait for them; the others notice when this process ends
            dist.destroy_process_group()


_trainings = itertools.count()  # of this process


@functools.cache
def _meeting_point() -> Store:
    """The store through which processes find each other, that of `torchrun`."""
    store: Store = next(iter(rendezvous("env://")))[0]
    return store


@contextmanager
def _peers() -> Iterator[None]:
    """Turn the errors of a connection into one that says what has happened.

    Raises:
        ProcessesError: another process has ended, or does not answer.
    """
    try:
        yield
    except RuntimeError as error:  # also those of torch.distributed
        raise ProcessesError(
            "another process of this training has ended, so this one ends too; its own message says why, and `resume` "
            "continues from the last checkpoint"
        ) from error


def _divisor(size: int, count: int) -> int:
    """The largest number of processes up to `count` that share a batch evenly."""
    return next(n for n in range(count, 0, -1) if size % n == 0)
