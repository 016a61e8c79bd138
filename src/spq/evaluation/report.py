"""The report of an evaluation: numbers and text, saved as JSON and loaded again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from spq.common.files import Replacing
from spq.common.json_file import read_json
from spq.data.decode import first_line
from spq.errors import ConfigError, DataError
from spq.evaluation.collect import TIES
from spq.evaluation.metrics import query_chunks, relevance, relevant_in_gallery
from spq.evaluation.rankings import Rankings
from spq.evaluation.scorer import Scorer

FORMAT = 1
LARGEST = 1e15  # of a number in a report
CURVE = ("ranks", "precision", "recall")
APART = ("per_query", "rankings", "baselines")  # not in the report as JSON types
PER_QUERY = ("map", "map_all", "map_r", "precision@1")  # what a saved report keeps of each query


@dataclass
class Report:
    """The result of an evaluation.

    Attributes:
        map: mAP@`map_at` of the codes; map_at is at most the number of readable gallery pictures.
        seconds: time of decoding, encoding, ranking, and of the baselines.
        model: hash of the model.
        precision, recall: P@N and recall@N by N.
        pr_curve: `ranks`, and `precision` and `recall` at them, from rank 1 to the whole gallery.
        rows: mAP@`map_at` by method; empty without baselines.
        notes: remarks on how the methods compare.
        map_all: mAP over the whole ranking. map_r: MAP@R (Musgrave et al., ECCV 2020). None where a stored ranking is too short.
        without_relevant: queries without a relevant picture in the gallery; they score 0 in each metric.
        split: hash of the queries and the gallery of the protocol, ids and labels. split_seed: of a split that is drawn.
        ties: how answers at the same distance are ranked.
        per_query: (Q,) by metric, in the order of the queries: `map` is AP@`map_at`; also `map_all`, `map_r`, `precision@N`,
            `recall@N`, and `relevant`, the number of relevant pictures in the gallery.
        rankings: the answers of each query, if they were asked for.
        baselines: a report of each method of `rows` but the model's own, down to rank `map_at`, to `compare` with; the codes of
            floats count 32 bits a number.
    """

    protocol: str
    bits: int
    map: float
    map_at: int
    queries: int
    gallery: int
    distance: str
    seconds: float
    model: str
    unreadable: int
    precision: dict[int, float] = field(default_factory=dict)
    pr_curve: dict[str, list[float]] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    recall: dict[int, float] = field(default_factory=dict)
    map_all: float | None = None
    map_r: float | None = None
    without_relevant: int = 0
    split: str = ""
    split_seed: int | None = None
    ties: str = TIES
    per_query: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)
    rankings: Rankings | None = field(default=None, repr=False, compare=False)
    baselines: dict[str, Report] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, scorer: Scorer, **facts: Any) -> Self:
        """The report of scored rankings; `facts` are the other attributes."""
        scores = scorer.scores()
        mean = {name: float(values.mean()) for name, values in scores.items()}
        return cls(
            map=mean.get("map", 0.0),
            map_at=scorer.at,
            map_all=mean.get("map_all"),
            map_r=mean.get("map_r"),
            precision={n: mean.get(f"precision@{n}", 0.0) for n in scorer.ranks},
            recall={n: mean.get(f"recall@{n}", 0.0) for n in scorer.ranks},
            pr_curve=scorer.curve(),
            queries=len(scores.get("map", ())),
            gallery=scorer.gallery,
            without_relevant=int((scores["relevant"] == 0).sum()) if scores else 0,
            per_query=scores,
            **facts,
        )

    @classmethod
    def from_rankings(cls, rankings: Rankings, at: int | None = None) -> Self:
        """Score stored rankings. Where they are not of the whole gallery, `map_all` is None, and the curve ends where they do.

        Args:
            at: the N of mAP@N, by default that of the evaluation; at most the length of the rankings.
        Raises:
            ConfigError: `at` is below 1 or above the length of the rankings.
        """
        top, labels = rankings.rows.shape[1], rankings.gallery_labels
        at = min(rankings.facts["map_at"], top) if at is None else at
        if not 1 <= at <= top:
            raise ConfigError(f"`at` must be between 1 and {top}, the answers that are stored for each query; got {at}")
        scorer, total = Scorer(at, top, len(labels)), relevant_in_gallery(rankings.query_labels, labels)
        for part in query_chunks(*rankings.rows.shape):
            scorer.add(relevance(rankings.query_labels[part], labels, rankings.rows[part]), total[part])
        facts = {name: value for name, value in rankings.facts.items() if name != "map_at"}
        return cls.of(scorer, **facts, seconds=0.0)

    def to_dict(self, per_query: bool = False) -> dict[str, Any]:
        """The report as JSON types.

        Args:
            per_query: also the scores of each query, in `per_query`.
        """
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in APART}
        if per_query:
            content["per_query"] = {name: self.per_query[name].tolist() for name in PER_QUERY if name in self.per_query}
        return content

    def save(self, path: str | Path) -> None:
        """Write the report with the scores of each query as JSON; `load` reads it again."""
        with Replacing(Path(path)) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, **self.to_dict(per_query=True)}) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a report that `save` wrote.

        Raises:
            DataError: there is none, it is damaged, or it has another format.
        """
        try:
            content = read_json(Path(path))
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                raise DataError(f"{path} is no report of spq of format {FORMAT}; write it with this spq again")
            return cls(**_checked(content))
        except FileNotFoundError:
            raise DataError(f"no report at {path}; write one with `Report.save`") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
            raise DataError(f"report {path} is damaged ({first_line(error)}); evaluate again") from None

    def table(self) -> str:
        """The report as aligned text."""
        lines = [
            f"{self.protocol}: {self.queries:,} queries, {self.gallery:,} in the gallery, {self.bits} bits, "
            f"{self.distance}",
            f"{f'mAP@{self.map_at}':9s} {self.map:.4f}",
        ]
        others = {"mAP@all": self.map_all, "MAP@R": self.map_r}
        lines += [f"{name:9s} {value:.4f}" for name, value in others.items() if value is not None]
        width = max([len(f"recall@{n}") for n in self.recall], default=0)
        for n, value in self.precision.items():
            recall = f"   {f'recall@{n}':{width}s} {self.recall[n]:.4f}" if n in self.recall else ""
            lines.append(f"{f'P@{n}':9s} {value:.4f}{recall}")
        if self.without_relevant:
            lines.append(f"{self.without_relevant:,} queries have no relevant picture in the gallery and score 0")
        lines.append(f"ties: {self.ties}")
        if self.rows:
            width = max(map(len, self.rows))
            lines += ["", f"mAP@{self.map_at} of others, {self.bits} bits where they are codes:"]
            lines += [f"  {name:{width}s}  {value:.4f}" for name, value in self.rows.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def save_plots(self, folder: str | Path) -> list[Path]:
        """Write the precision-recall curve (`pr.png`), and P@N (`precision.png`); returns their paths."""
        from spq.evaluation.curves import Curves, save_curves

        curve = Curves(self.pr_curve["recall"], self.pr_curve["precision"], self.precision)
        return save_curves({"": curve}, f"{self.protocol}, {self.bits} bits, {self.queries:,} queries", folder)


def _checked(content: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Report` in the content of a file.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it lacks something, or has another type.
    """
    hints = {name: hint for name, hint in get_type_hints(Report).items() if name not in APART}
    facts = {name: value for name, value in content.items() if name in hints}
    for name in ("precision", "recall"):
        facts[name] = {int(n): value for n, value in content[name].items()}
    for name, value in facts.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{name} has another type")
    if not _fits(content["per_query"], dict[str, list[float]]):
        raise ValueError("per_query has another type")
    facts["per_query"] = {name: np.array(values, np.float64) for name, values in content["per_query"].items()}
    curve = facts["pr_curve"]
    if len({len(curve[name]) for name in CURVE}) > 1:
        raise ValueError("a curve of several lengths")
    if any(values.shape != (facts["queries"],) for values in facts["per_query"].values()):
        raise ValueError("scores of other queries than it counts")
    if not all(((values >= 0) & (values <= 1)).all() for values in facts["per_query"].values()):
        raise ValueError("scores outside of 0 to 1")
    return facts


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a type that an attribute of `Report` has."""
    args = get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, each) for each in args)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in value.items())
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(each, args[0]) for each in value)
    if isinstance(value, bool) or (isinstance(value, int | float) and not 0 <= value < LARGEST):
        return False
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)
