from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spq.errors import ConfigError, DataError
from spq.evaluation.compare import compare
from spq.evaluation.comparison_tables import as_csv, as_latex, as_text
from spq.evaluation.report import Report
from spq.evaluation.scorer import Scorer
from spq.evaluation.significance import bootstrap_interval, paired_p_value

QUERIES, GALLERY = 80, 120
TRUTH = np.random.default_rng(0).random((QUERIES, GALLERY))


def report(model: str, quality: float, seed: int = 0, **facts: Any) -> Report:
    """Rankings in which relevant pictures come first the more often, the higher the quality."""
    rng = np.random.default_rng(seed)
    relevant = TRUTH < 0.2
    order = np.argsort(rng.random(TRUTH.shape) - quality * relevant * rng.random(TRUTH.shape), axis=1)
    scorer = Scorer(20, GALLERY, GALLERY)
    scorer.add(np.take_along_axis(relevant, order, 1), relevant.sum(1))
    given = {"protocol": "p", "split": "abc", "bits": 32, "distance": "l2", "seconds": 0.0, "unreadable": 0} | facts
    return Report.of(scorer, model=model, **given)


OURS = [report(f"ours-{seed}", 0.5, seed) for seed in range(3)]
THEIRS, CHANCE = report("theirs", 0.3, 7), report("chance", 0.0, 8)


def test_seeds_aggregate_to_mean_deviation_and_an_interval_over_queries() -> None:
    method = compare({"ours": OURS}, resamples=2000).methods[0]
    assert (method.seeds, method.values) == (3, [pytest.approx(each.map) for each in OURS])
    assert method.mean == pytest.approx(np.mean(method.values))
    assert method.std == pytest.approx(np.std(method.values, ddof=1))
    scores = np.mean([each.per_query["map"] for each in OURS], axis=0)
    assert method.interval == bootstrap_interval(scores, resamples=2000)
    assert method.others == {
        "mAP@all": pytest.approx(np.mean([each.map_all for each in OURS])),
        "MAP@R": pytest.approx(np.mean([each.map_r for each in OURS])),
        "P@1": pytest.approx(np.mean([each.precision[1] for each in OURS])),
    }
    assert compare({"theirs": THEIRS}, resamples=100).methods[0].std is None


@pytest.mark.parametrize("metric", ["map", "map_all", "map_r", "precision@1"])
def test_methods_are_compared_with_the_first_query_by_query(metric: str) -> None:
    comparison = compare({"theirs": THEIRS, "ours": OURS, "chance": [CHANCE]}, metric=metric, resamples=2000, seed=5)
    ours, chance = comparison.differences
    scores = np.mean([each.per_query[metric] for each in OURS], axis=0) - THEIRS.per_query[metric]
    assert (ours.name, ours.reference, ours.difference) == ("ours", "theirs", pytest.approx(scores.mean()))
    assert ours.interval == bootstrap_interval(scores, resamples=2000, seed=5)
    assert ours.p == paired_p_value(scores, resamples=2000, seed=5)
    assert ours.p_holm == pytest.approx(min(1, max(2 * min(ours.p, chance.p), max(ours.p, chance.p))), abs=ours.p)
    assert chance.difference < 0 < ours.difference
    assert chance.interval[1] < 0 < ours.interval[0]


def test_two_runs_of_the_same_method_do_not_differ() -> None:
    same = compare({"a": report("a", 0.4, 1), "b": report("b", 0.4, 2)}).differences[0]
    assert same.interval[0] < 0 < same.interval[1]
    assert same.p > 0.05


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            replace(THEIRS, protocol="q"),
            "a and b do not compare: protocol p and q; evaluate both under the same protocol",
        ),
        (replace(THEIRS, split="abd"), "split abc and abd"),
        (replace(THEIRS, split_seed=1), "split_seed None and 1"),
        (replace(THEIRS, map_at=21), "map_at 20 and 21"),
        (replace(THEIRS, queries=81), "queries 80 and 81"),
        (replace(THEIRS, gallery=121), "gallery 120 and 121"),
        (replace(THEIRS, ties="by path"), "ties answers at the same distance"),
        (replace(THEIRS, per_query={}), "a report of b has no map of each query; compare another metric"),
    ],
)
def test_other_queries_or_another_protocol_are_refused(other: Report, message: str) -> None:
    with pytest.raises(DataError) as error:
        compare({"a": OURS[0], "b": other})
    assert message in str(error.value)


def test_reports_that_are_no_seeds_of_one_method_are_refused() -> None:
    with pytest.raises(DataError, match="the reports of a have bits 16 and 32; give each its own name"):
        compare({"a": [OURS[0], report("x", 0.1, bits=16)]})
    with pytest.raises(DataError, match="two reports of a are of the same model, ours-0"):
        compare({"a": [OURS[0], OURS[0]]})
    with pytest.raises(ConfigError, match="no `metric` 'mAP'; use one of map, map_all"):
        compare({"a": OURS}, metric="mAP")
    for nothing in ({}, {"a": []}):
        with pytest.raises(ConfigError, match="nothing to compare"):
            compare(nothing)


def test_a_saved_report_compares_as_the_report_itself(tmp_path: Path) -> None:
    CHANCE.save(tmp_path / "chance.json")
    loaded = Report.load(tmp_path / "chance.json")
    assert loaded == CHANCE
    assert compare({"a": OURS, "b": loaded}) == compare({"a": OURS, "b": CHANCE})
    assert json.loads(json.dumps(compare({"a": OURS, "b": loaded}).to_dict()))["differences"][0]["name"] == "b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "is no report of spq of format 1"),
        ({"per_query": {"map": [0.5]}}, "is damaged"),
        ({"pr_curve": {}}, "is damaged"),
        ({"precision": {"one": 1}}, "is damaged"),
        ({"map": None}, "is damaged"),
        ({"per_query": [0.5]}, "is damaged"),
        ({"per_query": {"map": [1.5] * len(CHANCE.per_query["map"])}}, r"is damaged \(scores outside of 0 to 1\)"),
        ({"per_query": {"map": ["x"] * len(CHANCE.per_query["map"])}}, "is damaged"),
        ({"per_query": {"map": [10**400] * len(CHANCE.per_query["map"])}}, "is damaged"),
        ({"per_query": {"map": [True] * len(CHANCE.per_query["map"])}}, "is damaged"),
        ({"bits": -5}, r"is damaged \(bits has another type\)"),
        ({"gallery": "many"}, r"is damaged \(gallery has another type\)"),
        ({"rows": [1]}, r"is damaged \(rows has another type\)"),
        ({"notes": "one"}, "is damaged"),
        ({"split_seed": True}, "is damaged"),
        ({"recall": None}, "is damaged"),
        (
            {"pr_curve": {"ranks": [1], "precision": [1, 2], "recall": [1]}},
            r"is damaged \(a curve of several lengths\)",
        ),
    ],
)
def test_a_damaged_report_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    CHANCE.save(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps(content | change))
    with pytest.raises(DataError, match=message):
        Report.load(tmp_path / "r.json")
    with pytest.raises(DataError, match="no report at"):
        Report.load(tmp_path / "none.json")


def test_plots_have_a_line_for_each_method(tmp_path: Path) -> None:
    paths = compare({"ours $1": OURS, "theirs": THEIRS}, resamples=100).save_plots(tmp_path / "plots")
    assert [path.name for path in paths] == ["pr.png", "precision.png"]
    with Image.open(paths[0]) as image:
        colours = {colour[:3] for _, colour in image.convert("RGB").getcolors(10**6) or []}
    assert {(0, 114, 178), (213, 94, 0)} <= colours


def test_tables_mark_the_best_and_escape_names() -> None:
    comparison = compare({"theirs_1 & co": THEIRS, "50% #ours": OURS}, resamples=1000)
    latex = as_latex(comparison)
    assert r"theirs\_1 \& co & 32 & " in latex
    assert (
        rf"50\% \#ours & 32 & \textbf{{{comparison.methods[1].mean:.3f}}} $\pm$ {comparison.methods[1].std:.3f}"
        in latex
    )
    assert r"\textbf" not in next(row for row in latex.splitlines() if row.startswith("theirs"))
    rows = [row for row in latex.splitlines() if row.endswith(r"\\")]
    assert {row.replace(r"\&", "").count("&") for row in rows} == {8}
    assert all(mark in latex for mark in (r"\toprule", r"\midrule", r"\bottomrule"))
    header, *lines = as_csv(comparison).splitlines()
    assert len(lines) == 2
    row = dict(zip(header.split(","), lines[1].split(","), strict=True))
    assert (row["method"], row["seeds"], row["queries"]) == ("50% #ours", "3", "80")
    assert (float(row["mAP@20"]), float(row["p"])) == (comparison.methods[1].mean, comparison.differences[0].p)
    text = as_text(comparison)
    assert "minus theirs_1 & co" in text
    assert f"{comparison.differences[0].difference:+.4f}" in text
    assert "ties: answers at the same distance" in text
