"""Counts of a server in the text format of Prometheus. They change only on the event loop, so they need no lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
Value = float | Mapping[Labels, float]  # one value, or one for each set of labels


class Metrics:
    """Requests by route and status, and how long they took."""

    def __init__(self) -> None:
        self._requests: Counter[Labels] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered. route: the pattern of its path, never the path itself."""
        self._requests[(("route", route), ("method", method), ("status", str(status)))] += 1
        buckets = self._buckets.setdefault(route, [0] * (len(BOUNDS) + 1))
        buckets[next((n for n, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]

    def text(self, gauges: Mapping[str, tuple[str, Value]]) -> str:
        """Return all counts as text.

        Args:
            gauges: name -> (help, current value). Names that end in `_total` are counters.
        """
        return "\n".join([*self._lines(), *_gauges(gauges)]) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("spq_http_requests_total", "Requests answered.", "counter")
        for labels, count in sorted(self._requests.items()):
            yield f"spq_http_requests_total{_label_text(labels)} {count}"
        yield from _head(
            "spq_http_request_seconds", "Time to the answer, including the wait for a thread.", "histogram"
        )
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip([*map(str, BOUNDS), "+Inf"], buckets, strict=True):
                total += count
                yield f"spq_http_request_seconds_bucket{_label_text((('route', route), ('le', bound)))} {total}"
            yield f"spq_http_request_seconds_sum{_label_text((('route', route),))} {self._seconds[route]:.6f}"
            yield f"spq_http_request_seconds_count{_label_text((('route', route),))} {total}"


def _gauges(gauges: Mapping[str, tuple[str, Value]]) -> Iterator[str]:
    for name, (description, values) in gauges.items():
        yield from _head(name, description, "counter" if name.endswith("_total") else "gauge")
        for labels, value in values.items() if isinstance(values, Mapping) else [((), values)]:
            number = f"{value:.6f}" if name.endswith("seconds_total") else f"{value:g}"
            yield f"{name}{_label_text(labels) if labels else ''} {number if value != int(value) else int(value)}"


def _head(name: str, description: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {description}"
    yield f"# TYPE {name} {kind}"


def _label_text(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
