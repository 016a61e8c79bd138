"""Holders of shards as actors of Ray, which finds machines for them and starts them again when their process dies."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spq.errors import ConfigError, StoreError
from spq.index.shards.holding import Holding, State, Wanted
from spq.pq.questions import Question, Reply
from spq.scale.on_ray import LOCAL, connect

NAMESPACE = "spq"
SEARCHES = 8  # that a holder does at a time
PROBES, QUESTIONS = "probes", "questions"  # have threads of their own, so that a probe never waits for searches


class HolderActor:
    """The process of a holder."""

    def __init__(self) -> None:
        self._holding = Holding()

    def hold(self, wanted: Wanted) -> State:
        return self._holding.hold(wanted)

    def search(self, question: Question) -> Reply:
        return self._holding.search(question)


@dataclass(frozen=True)
class RayHolders:
    """Holders that any process of the cluster can find.

    Attributes:
        address: of the cluster. group: begins their names.
    """

    address: str
    group: str
    count: int

    @property
    def names(self) -> list[str]:
        return [f"{self.group}-{number}" for number in range(self.count)]

    def find(self) -> list[RayHolder]:
        """The holders, for a server. It connects this process to the cluster, if that was not done.

        Raises:
            ConfigError, StoreError: as `connect`; or there is no such holder.
        """
        ray = _ray() or connect(self.address, namespace=NAMESPACE)
        try:
            return [RayHolder(name, ray.get_actor(name, NAMESPACE)) for name in self.names]
        except ValueError:
            raise StoreError(
                f"the Ray cluster {self.address} has no holders {self.group}; has the server that started them ended?"
            ) from None


class RayHolder:
    """A holder, as a server asks it."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self._search = actor.search.options(concurrency_group=QUESTIONS)
        self._hold = actor.hold.options(concurrency_group=PROBES)

    def ask(self, question: Question) -> Future[Reply]:
        found: Future[Reply] = self._search.remote(question).future()
        return found

    def hold(self, wanted: Wanted) -> Future[State]:
        found: Future[State] = self._hold.remote(wanted).future()
        return found


@contextmanager
def started_holders(address: str, count: int | None = None) -> Iterator[RayHolders]:
    """Start holders, one process each, on the machines of a cluster. They end with this context, or with this process.

    Args:
        address: as that of `RayOptions`. With `local`, the cluster that is started gives its own address to other processes.
        count: of holders; by default one for each machine.
    Raises:
        ConfigError: Ray is not installed, or the number is out of range. StoreError: the cluster cannot be reached.
    """
    if count is not None and count < 1:
        raise ConfigError(f"`holders` must be 1 or more, got {count}")
    ray = connect(
        address, workers=0, namespace=NAMESPACE
    )  # of a cluster that is started: holders take no core for themselves
    try:
        if address == LOCAL:
            address = ray.get_runtime_context().gcs_address
        count = count or sum(node["Alive"] for node in ray.nodes())
        holders = RayHolders(address, f"holder-{secrets.token_hex(4)}", count)
        groups = {PROBES: 1, QUESTIONS: SEARCHES}
        actor = ray.remote(concurrency_groups=groups, max_restarts=-1, num_cpus=0)(HolderActor)
        kept = [actor.options(name=name, scheduling_strategy="SPREAD").remote() for name in holders.names]
        yield holders
        del kept  # an actor ends when nothing refers to it
    finally:
        ray.shutdown()


def _ray() -> Any:
    """Ray, if this process is connected to a cluster."""
    ray = sys.modules.get("ray")
    return ray if ray and ray.is_initialized() else None
