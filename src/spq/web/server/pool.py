"""Work off the event loop: few threads, few that wait for them, and none that waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from spq.web.server.problems import OverloadedError

T = TypeVar("T")


class Pool:
    """Runs functions in its threads, first come, first served. Made and used on one event loop.

    Whoever cannot begin within `patience` seconds is sent away: the wait of those who are let in stays short, however slow
    the work is. A function that has begun cannot be stopped; its thread is given to others only when it is done, so late
    work cannot pile up.

    Args:
        waiting: how many may wait at a time. timeout: seconds that the work itself may take.
    """

    def __init__(self, name: str, workers: int, waiting: int, patience: float, timeout: float) -> None:
        self.name, self.workers, self.waiting = name, workers, waiting
        self.patience, self.timeout = patience, timeout
        self.queued = self.running = self.rejected = self.timed_out = 0
        self._free = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, f"spq-{name}")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns or raises.

        Raises:
            OverloadedError: it was not begun, or it is not done in time.
        """
        await self._enter()
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.timeout)
        except TimeoutError:
            if future.done():
                return future.result()  # a TimeoutError of the function's own, or done in the same moment
            self.timed_out += 1
            raise OverloadedError(f"given up after {self.timeout:g} s; ask for less", 5) from None

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
                raise OverloadedError(f"waited {self.patience:g} s in vain; try again in a second") from None
            finally:
                self.queued -= 1
        else:
            await self._free.acquire()
        self.running += 1

    def _leave(self, future: asyncio.Future[T]) -> None:
        self.running -= 1
        self._free.release()
        if not future.cancelled():
            future.exception()  # of one that nobody waits for any more: taken note of, or asyncio complains

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
