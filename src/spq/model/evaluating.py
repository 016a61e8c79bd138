"""Evaluation mode of a network, for as long as it is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class Evaluating:
    """Keeps a network in evaluation mode as long as a thread needs it, and restores the mode of each module then."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._learning: list[nn.Module] = []

    @contextmanager
    def of(self, network: nn.Module) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._learning = [module for module in network.modules() if module.training]
                for module in self._learning:
                    module.training = False
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    for module in self._learning:
                        module.training = True

    def __reduce__(self) -> tuple[type[Evaluating], tuple[()]]:
        return Evaluating, ()  # a lock cannot be copied
