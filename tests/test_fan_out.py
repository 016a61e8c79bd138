"""The simulated wait for the slowest of n shards."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import fan_out

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
RESULTS = Path(fan_out.__file__).parent / "results" / "fan_out.json"


def test_percentiles_and_partial_answers_are_those_of_many_drawn_queries() -> None:
    rng = np.random.default_rng(0)
    latencies = rng.lognormal(0, 0.5, 20_000)
    for row in fan_out.simulated(latencies, [1, 4, 64], [3.0]):
        slowest = rng.choice(latencies, (20_000, row["shards"])).max(axis=1)
        waited = np.minimum(slowest, row["deadline_ms"] or np.inf)
        drawn = np.quantile(waited, [0.5, 0.99])
        np.testing.assert_allclose([row["p50"], row["p99"]], drawn, rtol=0.05)
        if row["deadline_ms"]:
            assert row["partial"] == pytest.approx(np.mean(slowest > 3.0), abs=0.02)


def test_the_line_of_the_page_runs_and_says_what_it_cannot_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"^python benchmarks/fan_out\.py (.*)$", PAGE.read_text("utf-8"), flags=re.M)
    Path("times.json").write_text(json.dumps({"latencies": list(range(1, 101))}))
    fan_out.main([*shlex.split(line), "--json", "out.json"])
    out = capsys.readouterr().out
    assert out.startswith("simulated from 100 measured times of one shard (times.json)")
    assert "| 256 | >= 100.0 | >= 100.0 | >= 100.0 | 100.0% |" in out
    assert json.loads(Path("out.json").read_text())["kind"] == "simulated"
    assert Path("fan-out.png").read_bytes().startswith(b"\x89PNG")
    Path("times.json").write_text("[1, -2]")
    with pytest.raises(SystemExit, match="no list of positive milliseconds"):
        fan_out.main([*shlex.split(line)])


def test_a_real_search_is_timed() -> None:
    latencies = fan_out.measured_latencies(codes=2000, queries=5, seed=0)
    assert len(latencies) == 5
    assert (latencies > 0).all()


def test_the_page_has_the_table_of_the_results_and_calls_it_simulated() -> None:
    results = json.loads(RESULTS.read_text("utf-8"))
    assert fan_out.table(results["rows"]) in PAGE.read_text("utf-8")
    assert results["kind"] == "simulated"
    assert "**Simulated**: no cluster was measured" in PAGE.read_text("utf-8")
