"""Do metrics, intervals and p-values equal those of other libraries?

    pip install scikit-learn scipy torchmetrics pytrec-eval-terrier
    spq bench metric_agreement --cases 500

Each case ranks random codes for random queries, with many ties, for one label or several. The other libraries get the ranks
as scores, so that they see no ties. Their conventions are converted:

- scikit-learn: AP over the whole ranking, or of the top N alone (which is AP@N of deep hashing); precision and recall at N
  from the precision-recall curve.
- torchmetrics: AP, precision and recall with `top_k`; MAP@R is its AP with top_k = R, times its R-precision.
- pytrec_eval (trec_eval): `map`, `map_cut.R`, `P`, `recall`. It divides `map_cut.N` by all relevant pictures, so AP@N is that
  times all relevant, divided by those in the top N.

Intervals are compared with `scipy.stats.bootstrap` (BCa), p-values with `scipy.stats.permutation_test`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _entrance import entrance, parser_of
from _scoring import machine
from spq.evaluation.metrics import matching
from spq.evaluation.scorer import Scorer
from spq.evaluation.significance import bootstrap_interval, paired_p_value
from spq.pq.sums import rank

Scores = dict[str, float]  # of one query


def metric_case(seed: int) -> tuple[list[Scores], list[tuple[NDArray[np.bool_], int]], int, list[int]]:
    """Our scores of the queries of a random case, their ranked relevance with the total, N, and the ranks of P@n."""
    rng = np.random.default_rng(seed)
    N, Q, M = int(rng.integers(5, 400)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
    tables = rng.integers(0, 4, (Q, M, 16)).astype(np.float32)  # whole numbers: many sums are equal
    codes = rng.integers(0, 16, (N, M)).astype(np.uint8)
    classes = int(rng.integers(2, 12))
    if rng.random() < 0.5:
        labels = [rng.integers(0, classes, n) for n in (Q, N)]
    else:
        labels = [rng.random((n, classes)) < 0.15 for n in (Q, N)]
    at, ranks = int(rng.integers(1, N + 1)), sorted({int(n) for n in rng.integers(1, N + 1, 3)})
    _, rows = rank(tables, codes, N, threads=1)
    matches = matching(*labels)
    relevant, total = np.take_along_axis(matches, rows, 1), matches.sum(1)
    scorer = Scorer(at, N, N, ranks)
    scorer.add(relevant, total)
    values = scorer.scores()
    ours = [{name: float(column[query]) for name, column in values.items()} for query in range(Q)]
    return ours, [(relevant[query], int(total[query])) for query in range(Q)], at, ranks


def scikit_learn(truth: NDArray[np.bool_], total: int, at: int, ranks: list[int]) -> Scores:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    names = ["map", "map_all", "map_r", *(f"{name}@{n}" for n in ranks for name in ("precision", "recall"))]
    if not total:
        return dict.fromkeys(names, 0.0)
    scores = -np.arange(len(truth), dtype=float)

    def ap(k: int) -> float:
        return float(average_precision_score(truth[:k], scores[:k])) if truth[:k].any() else 0.0

    precision, recall, _ = precision_recall_curve(truth, scores)  # from the last rank to the first, and one more point
    values = [ap(at), ap(len(truth)), ap(total) * truth[:total].sum() / total]
    values += [float(part[-1 - n]) for n in ranks for part in (precision, recall)]
    return dict(zip(names, values, strict=True))


def torchmetrics(truth: NDArray[np.bool_], total: int, at: int, ranks: list[int]) -> Scores:
    import torch
    from torchmetrics.functional import retrieval as peer

    pair = torch.arange(len(truth), 0, -1, dtype=torch.float64), torch.from_numpy(truth)
    found = {
        "map": float(peer.retrieval_average_precision(*pair, at)),
        "map_all": float(peer.retrieval_average_precision(*pair)),
        "map_r": float(peer.retrieval_average_precision(*pair, max(total, 1)) * peer.retrieval_r_precision(*pair)),
    }
    for n in ranks:
        found[f"precision@{n}"] = float(peer.retrieval_precision(*pair, n))
        found[f"recall@{n}"] = float(peer.retrieval_recall(*pair, n))
    return found


def pytrec_eval(truth: NDArray[np.bool_], total: int, at: int, ranks: list[int]) -> Scores:
    import pytrec_eval as peer

    judged = {"q": {f"d{number}": int(yes) for number, yes in enumerate(truth)}}
    run = {"q": {f"d{number}": float(len(truth) - number) for number in range(len(truth))}}
    cuts = sorted({at, max(total, 1)})
    wanted = {
        "map",
        "map_cut." + ",".join(map(str, cuts)),
        *(f"{name}." + ",".join(map(str, ranks)) for name in ("P", "recall")),
    }
    values = peer.RelevanceEvaluator(judged, wanted).evaluate(run)["q"]
    inside = truth[:at].sum()
    found = {
        "map": values[f"map_cut_{at}"] * total / inside if inside else 0.0,
        "map_all": values["map"],
        "map_r": values[f"map_cut_{max(total, 1)}"],
    }
    return found | {
        f"{ours}@{n}": values[f"{name}_{n}"] for ours, name in (("precision", "P"), ("recall", "recall")) for n in ranks
    }


PEERS = {"sklearn": scikit_learn, "torchmetrics": torchmetrics, "pytrec_eval": pytrec_eval}


def metric_differences(seed: int) -> Iterator[tuple[str, str, float]]:
    """(library, metric, largest difference) of a case, for the libraries that are installed."""
    ours, rankings, at, ranks = metric_case(seed)
    for library, scores_of in PEERS.items():
        if find_spec(library) is None:
            continue
        for mine, (truth, total) in zip(ours, rankings, strict=True):
            for name, value in scores_of(truth, total, at, ranks).items():
                yield library, name.partition("@")[0], abs(mine[name] - value)


def curve_difference(seed: int) -> float:
    """Largest difference of our precision-recall curve to scikit-learn's, for one query with a relevant picture."""
    from sklearn.metrics import precision_recall_curve

    rng = np.random.default_rng(seed)
    truth = rng.random(int(rng.integers(2, 200))) < 0.3
    truth[rng.integers(len(truth))] = True
    scorer = Scorer(1, len(truth), len(truth))
    scorer.add(truth[None], truth.sum()[None])
    ours = scorer.curve()
    precision, recall, _ = precision_recall_curve(truth, -np.arange(len(truth), dtype=float))
    # theirs goes from the last rank to the first, and has one more point
    return max(
        float(np.abs(np.array(ours[name]) - other[-2::-1][: len(truth)]).max())
        for name, other in (("precision", precision), ("recall", recall))
    )


def interval_difference(seed: int, resamples: int) -> float:
    """Largest difference of an end of our interval to SciPy's, as a share of the length of SciPy's."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(seed)
    values = rng.beta(*rng.uniform(0.3, 3, 2), int(rng.integers(30, 200)))  # skewed in [0, 1], as AP is
    ours = bootstrap_interval(values, resamples=resamples, seed=seed)
    theirs = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed + 1),
        vectorized=True,
        batch=2000,
    ).confidence_interval
    return float(max(abs(ours[0] - theirs.low), abs(ours[1] - theirs.high)) / (theirs.high - theirs.low))


def p_difference(seed: int, resamples: int) -> float:
    """Difference of our p-value to SciPy's, which is exact for up to 12 queries and sampled for more."""
    from scipy.stats import permutation_test

    rng = np.random.default_rng(seed)
    first = rng.random(int(rng.integers(6, 13)) if seed % 2 else 60)
    second = first + rng.normal(0.05 * rng.random(), 0.1, len(first))
    theirs = permutation_test(
        (first, second), lambda a, b, axis: (a - b).mean(axis=axis), permutation_type="samples", n_resamples=resamples,
        rng=np.random.default_rng(seed), vectorized=True, batch=2000,
    )  # fmt: skip
    return abs(paired_p_value(first - second, resamples, seed) - float(theirs.pvalue))


def main() -> None:
    parser = parser_of("metric_agreement", __doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--intervals", type=int, default=100, help="cases of intervals and p-values")
    parser.add_argument("--resamples", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    worst: dict[str, dict[str, float]] = {}
    for seed in range(a.cases):
        for library, metric, difference in metric_differences(seed):
            metrics = worst.setdefault(library, {})
            metrics[metric] = max(metrics.get(metric, 0.0), difference)
    for library, metrics in worst.items():
        print(f"{library:13s}" + "  ".join(f"{name} {value:.1e}" for name, value in metrics.items()))
    for library in PEERS.keys() - worst.keys():
        print(f"{library}: not installed")
    if "sklearn" in worst:
        worst["sklearn"]["curve"] = max(map(curve_difference, range(a.cases)))
        print(f"precision-recall curve, scikit-learn: {worst['sklearn']['curve']:.1e}")
    ends = [interval_difference(seed, a.resamples) for seed in range(a.intervals)]
    p_values = [p_difference(seed, a.resamples) for seed in range(a.intervals)]
    print(f"ends of intervals, SciPy: at most {max(ends):.2%} of the length, {np.mean(ends):.2%} on average")
    print(f"p-values, SciPy: at most {max(p_values):.4f} apart")
    largest = max((value for metrics in worst.values() for value in metrics.values()), default=0.0)
    agrees = largest < 1e-6 and max(ends) < 0.02
    print(f"{a.cases} cases: {'agreement' if agrees else 'DISAGREEMENT'}")
    if a.json:
        facts: dict[str, Any] = {"cases": a.cases, "resamples": a.resamples, "machine": machine(), "metrics": worst}
        a.json.write_text(json.dumps({**facts, "interval": max(ends), "p": max(p_values)}) + "\n", "utf-8")
    if not agrees:
        raise SystemExit(1)


if __name__ == "__main__":
    entrance("metric_agreement", main)
