"""Run work in a few threads beside the event loop, with a short queue and a short wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from spq.web.server.problems import OverloadedError

T = TypeVar("T")


class Pool:
    """Runs functions in its threads, in the order of the calls. Create and use it on one event loop.

    A call that cannot begin within `patience` seconds is rejected, so that the others wait only briefly. A function that
    has begun cannot be stopped. Its thread becomes free only when it is done, so late work cannot pile up.

    Args:
        waiting: how many calls may wait at a time.
        patience: seconds that a call may wait.
        timeout: seconds that the work itself may take.
    """

    def __init__(self, name: str, workers: int, waiting: int, patience: float, timeout: float) -> None:
        self.name, self.workers, self.waiting = name, workers, waiting
        self.patience, self.timeout = patience, timeout
        self.queued = self.running = self.rejected = self.timed_out = 0
        self._free = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, f"spq-{name}")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what the function returns, or raise what it raises.

        Raises:
            OverloadedError: the function did not begin, or did not end in time.
        """
        await self._enter()
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.timeout)
        except TimeoutError:
            if future.done():
                return future.result()  # the function's own TimeoutError, or it ended just now
            self.timed_out += 1
            raise OverloadedError(f"not done after {self.timeout:g} s; ask for less", 5) from None

    async def _enter(self) -> None:
        if self._free.locked():
            if self.queued >= self.waiting:
                self.rejected += 1
                raise OverloadedError(f"{self.queued} requests wait already; try again in a second")
            self.queued += 1
            try:
                await asyncio.wait_for(self._free.acquire(), self.patience)
            except TimeoutError:
                self.rejected += 1
                raise OverloadedError(
                    f"all threads stayed busy for {self.patience:g} s; try again in a second"
                ) from None
            finally:
                self.queued -= 1
        else:
            await self._free.acquire()
        self.running += 1

    def _leave(self, future: asyncio.Future[T]) -> None:
        self.running -= 1
        self._free.release()
        if not future.cancelled():
            future.exception()  # else asyncio warns of an error that nobody looked at

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
