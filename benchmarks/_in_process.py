"""A holder of shards inside this process, for tests and figures: what holders do, without a library that sends messages."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from spq.index.shards.holding import Holding, State, Wanted
from spq.pq.questions import Question, Reply


class InProcessHolder:
    """A holder that can be killed and started again, as the process of a real one.

    Attributes:
        hanging: while it is set, questions are not answered, but probes are.
    """

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, list[Question]()
        self.hanging = threading.Event()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix=name)
        self._going_on = threading.Event()
        self.holding: Holding | None = Holding()

    def ask(self, question: Question) -> Future[Reply]:
        self.asked.append(question)
        return self._pool.submit(self._answer, question)

    def hold(self, wanted: Wanted) -> Future[State]:
        return self._pool.submit(lambda: self._alive().hold(wanted))

    def kill(self) -> None:
        if self.holding:
            self.holding.close()
        self.holding = None

    def start(self) -> None:
        self.holding = Holding()

    def close(self) -> None:
        self._going_on.set()
        self.kill()
        self._pool.shutdown(cancel_futures=True)

    def _answer(self, question: Question) -> Reply:
        if self.hanging.is_set():
            self._going_on.wait()
        return self._alive().search(question)

    def _alive(self) -> Holding:
        if self.holding is None:
            raise ConnectionError("its process was killed")
        return self.holding
