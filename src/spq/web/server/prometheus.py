"""Counts of a server in Prometheus's text format. All are kept on the event loop, so none needs a lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Requests by route and status, and how long they took."""

    def __init__(self) -> None:
        self._requests: Counter[Labels] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self.events: Counter[str] = Counter()  # name of a further counter -> count

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request that was answered. route: its pattern, never the path that was asked for."""
        self._requests[(("route", route), ("method", method), ("status", str(status)))] += 1
        buckets = self._buckets.setdefault(route, [0] * (len(BOUNDS) + 1))
        buckets[next((n for n, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Everything. gauges: name -> (help, value), of the moment; counters are those that end in `_total`."""
        return "\n".join([*self._lines(), *_gauges(gauges)]) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("spq_http_requests_total", "Requests answered.", "counter")
        for labels, count in sorted(self._requests.items()):
            yield f"spq_http_requests_total{_labelled(labels)} {count}"
        yield from _head("spq_http_request_seconds", "Time to the answer, waiting included.", "histogram")
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip([*map(str, BOUNDS), "+Inf"], buckets, strict=True):
                total += count
                yield f"spq_http_request_seconds_bucket{_labelled((('route', route), ('le', bound)))} {total}"
            yield f"spq_http_request_seconds_sum{_labelled((('route', route),))} {self._seconds[route]:.6f}"
            yield f"spq_http_request_seconds_count{_labelled((('route', route),))} {total}"


def _gauges(gauges: Mapping[str, tuple[str, float]]) -> Iterator[str]:
    for name, (told, value) in gauges.items():
        yield from _head(name, told, "counter" if name.endswith("_total") else "gauge")
        yield f"{name} {value:g}" if value != int(value) else f"{name} {int(value)}"


def _head(name: str, told: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"


def _labelled(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
