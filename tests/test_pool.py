"""Few threads, few that wait, none that waits for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from spq.web.server.pool import Pool
from spq.web.server.problems import OverloadedError


def run(test: Callable[[Pool, threading.Event], Awaitable[None]], **options: float) -> Pool:
    """The test with a pool of one thread, and an event that lets the work in it end."""
    settings = {"workers": 1, "waiting": 2, "patience": 30.0, "timeout": 30.0} | options
    pools = []

    async def main() -> None:
        pool, release = Pool("test", **settings), threading.Event()  # type: ignore[arg-type]
        pools.append(pool)
        try:
            await test(pool, release)
        finally:
            release.set()
            pool.close()

    asyncio.run(main())
    return pools[0]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def test_results_and_errors_come_back() -> None:
    async def test(pool: Pool, release: threading.Event) -> None:
        assert await pool.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 7, 0)

        def timeout() -> None:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            await pool.run(timeout)

    pool = run(test)
    assert (pool.running, pool.queued, pool.rejected, pool.timed_out) == (0, 0, 0, 0)


def test_whoever_finds_a_full_queue_is_sent_away_at_once_and_the_others_are_served_in_turn() -> None:
    order: list[int] = []

    async def test(pool: Pool, release: threading.Event) -> None:
        first = asyncio.ensure_future(pool.run(release.wait))
        await until(lambda: pool.running == 1)
        others = [asyncio.ensure_future(pool.run(order.append, number)) for number in range(2)]
        await until(lambda: pool.queued == 2)
        with pytest.raises(OverloadedError, match="2 requests wait already") as caught:
            await pool.run(order.append, 3)
        assert caught.value.headers == {"Retry-After": "1"}
        release.set()
        await asyncio.gather(first, *others)

    pool = run(test)
    assert order == [0, 1]
    assert (pool.rejected, pool.running, pool.queued) == (1, 0, 0)


def test_whoever_waits_for_too_long_is_sent_away() -> None:
    async def test(pool: Pool, release: threading.Event) -> None:
        first = asyncio.ensure_future(pool.run(release.wait))
        await until(lambda: pool.running == 1)
        with pytest.raises(OverloadedError, match=r"stayed busy for 0\.05 s"):
            await pool.run(print)
        release.set()
        await first
        await pool.run(int)  # the place in the queue is free again

    pool = run(test, patience=0.05)
    assert (pool.rejected, pool.queued) == (1, 0)


def test_work_that_takes_too_long_is_given_up_and_its_thread_is_free_when_it_ends() -> None:
    async def test(pool: Pool, release: threading.Event) -> None:
        with pytest.raises(OverloadedError, match=r"not done after 0\.05 s"):
            await pool.run(release.wait)
        assert pool.running == 1  # it cannot be stopped
        release.set()
        await until(lambda: pool.running == 0)
        assert await pool.run(int) == 0

    assert run(test, timeout=0.05).timed_out == 1


def test_an_error_of_work_that_was_given_up_disturbs_nobody() -> None:
    def late(release: threading.Event) -> None:
        release.wait()
        raise ValueError("too late")

    async def test(pool: Pool, release: threading.Event) -> None:
        with pytest.raises(OverloadedError):
            await pool.run(late, release)
        release.set()
        await until(lambda: pool.running == 0)
        assert await pool.run(int) == 0

    run(test, timeout=0.05)
