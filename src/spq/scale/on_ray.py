"""Finish input shards as tasks of Ray, which finds machines for them and repeats tasks whose machine is lost."""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from spq.data.decode import first_line
from spq.errors import ConfigError, DataError, StoreError
from spq.scale.worker_processes import Failed, Outcomes, Work, attempt

RETRIES = 5  # of a task whose process or machine is lost
AHEAD = 2  # tasks for each that can run at once are submitted: this bounds the memory of the driver
TOKEN = "set RAY_AUTH_TOKEN to its token, or RAY_AUTH_MODE=disabled if it has none"
LOCAL_REMEDY = "is the machine busy? Run the command again, or without Ray"
LOCAL = "local"  # the address that starts a cluster on this machine


def set_environment(address: str) -> None:
    """Set what Ray reads when it is imported: no telemetry, and a token that all have to know.

    A cluster on this machine gets a token of its own, which no file has, unless the user has set one. Where the user has set
    RAY_AUTH_MODE, it stays.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    has_token = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if address == LOCAL and os.environ["RAY_AUTH_MODE"] == "token" and not has_token:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@dataclass(frozen=True)
class RayOptions:
    """A Ray cluster, and what each task takes of it.

    Attributes:
        address: auto for the cluster that runs on this machine, local to start one for this job.
        workers: cores of a cluster that is started; by default all.
        threads: cores of a task. gpu: whether each task needs a GPU.
    """

    address: str
    workers: int | None = None
    threads: int = 1
    gpu: bool = False


def on_ray(work: Work, numbers: Iterable[int], options: RayOptions) -> Outcomes:
    """Finish input shards on a Ray cluster, and yield the outcomes as they come.

    Raises:
        ConfigError: Ray is not installed. StoreError: the cluster cannot be reached, or is lost.
    """
    ray = connect(options.address, options.workers)
    task = ray.remote(num_cpus=options.threads, num_gpus=int(options.gpu), max_retries=RETRIES)(attempt)
    left, running = iter(numbers), dict[Any, int]()
    try:
        while True:
            found = ray.cluster_resources()
            at_once = found.get("GPU", 1) if options.gpu else found.get("CPU", 1) // options.threads
            room = AHEAD * max(1, int(at_once)) - len(running)
            running |= {task.remote(work, number): number for number in islice(left, max(0, room))}
            if not running:
                return
            for done in ray.wait(list(running))[0]:
                yield _outcome(ray, done, running.pop(done))
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise StoreError(
            f"the Ray cluster {options.address} is lost: {first_line(error)}; run the command again"
        ) from None
    finally:
        ray.shutdown()


def _outcome(ray: Any, done: Any, number: int) -> Any:
    try:
        return ray.get(done)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        return Failed(number, DataError(f"its process was lost {RETRIES + 1} times: {first_line(error)}"))
    except ray.exceptions.RayTaskError as error:  # `attempt` raises nothing, so it could not even begin
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(
            f"Ray cannot run spq: {reason}; install the same environment on all of its machines"
        ) from None


def connect(address: str, workers: int | None = None, namespace: str | None = None) -> Any:
    """Ray, connected to a cluster.

    Args:
        workers: cores of a cluster that is started; by default all. namespace: of the names of actors.
    Raises:
        ConfigError: Ray is not installed. StoreError: the cluster cannot be reached.
    """
    set_environment(address)
    try:
        import ray
    except ImportError:
        raise ConfigError("Ray is not installed; run pip install 'spq-retrieval[ray]'") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": namespace}
    if address == LOCAL:
        options |= {"num_cpus": workers, "include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address, **options)
    except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError, ...
        reason = first_line(error).partition(". ")[0]
        remedy = LOCAL_REMEDY if address == LOCAL else f"check the address, and {TOKEN}"
        raise StoreError(f"no Ray cluster at {address}: {reason}; {remedy}") from None
    for number, handler in handlers.items():  # Ray's own would end the command without a word
        signal.signal(number, handler)
    return ray
