"""Compare methods on the same queries: mean and spread over seeds, intervals over queries, and paired tests."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spq.errors import ConfigError, DataError
from spq.evaluation.curves import Curves, save_curves
from spq.evaluation.report import Report
from spq.evaluation.significance import RESAMPLES, Floats, Interval, bootstrap_interval, holm, paired_p_value

METRICS = ("map", "map_all", "map_r", "precision@1")
Reports = Mapping[str, Report | Sequence[Report]]


@dataclass(frozen=True)
class Method:
    """One method, trained with one or several seeds.

    Attributes:
        seeds: number of reports. values: the metric of each. mean, std: over the seeds; std has n - 1 below, None for one seed.
        interval: 95 % BCa bootstrap interval of the mean, over queries; each query's score is its mean over the seeds.
        others: mean over the seeds of the other metrics.
    """

    name: str
    bits: int
    distance: str
    seeds: int
    values: list[float]
    mean: float
    std: float | None
    interval: Interval
    others: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """A method minus the first one, on the same queries.

    Attributes:
        difference: of the means. interval: 95 % BCa bootstrap interval of it, over queries.
        p: two-sided, of the paired randomisation test. p_holm: adjusted for the number of differences.
    """

    name: str
    reference: str
    difference: float
    interval: Interval
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Methods, and the difference of each to the first.

    Attributes:
        metric: what is compared, as it is written: "mAP@1000". resamples, seed: of bootstrap and test.
        curves: precision-recall and P@N of each method, means over its seeds.
    """

    protocol: str
    split: str
    queries: int
    gallery: int
    metric: str
    ties: str
    resamples: int
    seed: int
    methods: list[Method]
    differences: list[Difference]
    curves: dict[str, Curves]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON types, without curves."""
        return {name: value for name, value in asdict(self).items() if name != "curves"}

    def save_plots(self, folder: str | Path) -> list[Path]:
        """Write `pr.png` and `precision.png` with a line for each method; returns their paths."""
        return save_curves(self.curves, f"{self.protocol}, {self.queries:,} queries", folder)


def compare(reports: Reports, *, metric: str = "map", resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare methods on the same queries; the others are compared with the first.

    Args:
        reports: by the name of a method: a report, or the reports of several seeds.
        metric: map (mAP@N), map_all, map_r or precision@1.
        resamples, seed: of the bootstrap and of the paired test.
    Raises:
        ConfigError: no report, or an unknown metric. DataError: reports of different queries, protocols or N; reports of one
            method that differ in bits or distance, or are of the same model; or a report without the metric of each query.
    """
    groups = {name: [each] if isinstance(each, Report) else list(each) for name, each in reports.items()}
    if metric not in METRICS:
        raise ConfigError(f"no `metric` {metric!r}; use one of {', '.join(METRICS)}")
    if not groups or not all(groups.values()):
        raise ConfigError("nothing to compare; give at least one report for each method")
    check_same_queries(groups)
    for name, group in groups.items():
        _check_seeds(name, group)
    scores = {name: _scores(name, group, metric) for name, group in groups.items()}
    first = next(iter(groups.values()))[0]
    sampling = {"resamples": resamples, "seed": seed}
    return Comparison(
        protocol=first.protocol, split=first.split, queries=first.queries, gallery=first.gallery,
        metric=title(metric, first.map_at), ties=first.ties,
        methods=[_method(name, group, scores[name], metric, sampling) for name, group in groups.items()],
        differences=_differences(scores, sampling),
        curves={name: _curves(group) for name, group in groups.items()},
        **sampling,
    )  # fmt: skip


def title(metric: str, map_at: int) -> str:
    """A metric as papers write it.

    >>> title("map", 1000), title("precision@1", 1000)
    ('mAP@1000', 'P@1')
    """
    names = {"map": f"mAP@{map_at}", "map_all": "mAP@all", "map_r": "MAP@R"}
    return names.get(metric, metric.replace("precision", "P"))


def check_same_queries(groups: Mapping[str, Sequence[Report]]) -> None:
    """Refuse reports that do not rank the same gallery for the same queries.

    Raises:
        DataError: it names two reports and what differs.
    """
    named = [(name, report) for name, group in groups.items() for report in group]
    first_name, first = named[0]
    for name, report in named[1:]:
        for what in ("protocol", "map_at", "queries", "gallery", "split_seed", "split", "ties"):
            one, other = getattr(first, what), getattr(report, what)
            if one != other:
                raise DataError(
                    f"{first_name} and {name} do not compare: {what} {one} and {other}; evaluate both under the same "
                    "protocol, with the same split"
                )


def _check_seeds(name: str, group: Sequence[Report]) -> None:
    for what in ("bits", "distance"):
        values = sorted({str(getattr(report, what)) for report in group})
        if len(values) > 1:
            raise DataError(f"the reports of {name} have {what} {' and '.join(values)}; give each its own name")
    models = [report.model for report in group]
    twice = next((model for model in models if models.count(model) > 1), None)
    if twice:
        raise DataError(f"two reports of {name} are of the same model, {twice}; give one report for each seed")


def _scores(name: str, group: Sequence[Report], metric: str) -> Floats:
    """(Q,) the metric of each query, as a mean over the seeds."""
    if any(len(report.per_query.get(metric, ())) != report.queries for report in group):
        raise DataError(
            f"a report of {name} has no {metric} of each query; compare another metric, or evaluate again with whole rankings"
        )
    return np.asarray(np.mean([report.per_query[metric] for report in group], axis=0))


def _method(name: str, group: Sequence[Report], scores: Floats, metric: str, sampling: dict[str, int]) -> Method:
    values = [float(report.per_query[metric].mean()) for report in group]
    others = {
        title(other, group[0].map_at): float(np.mean([report.per_query[other].mean() for report in group]))
        for other in METRICS
        if other != metric and all(other in report.per_query for report in group)
    }
    return Method(
        name, group[0].bits, group[0].distance, len(group), values, statistics.fmean(values),
        statistics.stdev(values) if len(values) > 1 else None, bootstrap_interval(scores, **sampling), others,
    )  # fmt: skip


def _differences(scores: Mapping[str, Floats], sampling: dict[str, int]) -> list[Difference]:
    (reference, first), *others = scores.items()
    apart = {name: values - first for name, values in others}
    p_values = [paired_p_value(values, **sampling) for values in apart.values()]
    return [
        Difference(name, reference, float(values.mean()), bootstrap_interval(values, **sampling), p, adjusted)
        for (name, values), p, adjusted in zip(apart.items(), p_values, holm(p_values), strict=True)
    ]


def _curves(group: Sequence[Report]) -> Curves:
    if len({tuple(report.pr_curve["ranks"]) for report in group}) > 1:
        raise DataError(
            "seeds of one method have curves of different lengths; compare reports alone, or rankings of one length alone"
        )
    recall, precision = (np.mean([report.pr_curve[key] for report in group], axis=0) for key in ("recall", "precision"))
    at = {n: statistics.fmean(report.precision[n] for report in group) for n in group[0].precision}
    return Curves(recall.tolist(), precision.tolist(), at)
