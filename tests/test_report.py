from __future__ import annotations

import json
from typing import Any

import pytest

import report

ROWS: list[dict[str, Any]] = json.loads(report.RESULTS.read_text("utf-8"))


def row(variant: str, seed: int, value: float, **more: Any) -> dict[str, Any]:
    facts = {"bits": 32, "code_bits": 32, "minutes": 5.0, "epochs": 0, "fingerprint": "f", "protocol": report.PROTOCOL}
    spent = {"minutes_spent": 5.0, "epochs_done": 2.5, "machine": "2 threads, X", "date": "2026-01-02"}
    return {"variant": variant, "seed": seed, "map": value, **facts, **spent, **more}


def test_the_readme_says_what_the_results_hold() -> None:
    readme = report.README.read_text("utf-8")
    assert report.inserted(readme, report.report(ROWS)) == readme, "run: spq bench report"


def test_every_result_names_protocol_seed_machine_and_budget() -> None:
    for result in ROWS:
        assert {"protocol", "seed", "machine", "date", "map_at", "queries", "distance"} <= set(result)
        assert result["minutes"] or result["epochs"]


def test_seeds_become_a_mean_with_its_range_and_lengths_become_columns() -> None:
    rows = [
        row("fast", 0, 0.30),
        row("fast", 1, 0.34),
        row("fast", 0, 0.4, bits=64),
        row("fast", 0, 0.9, protocol="other"),
    ]
    line = report.main_table(rows[:3]).splitlines()[-1]
    assert line == (
        "| spq, recipe `fast` |  | 0.320 (0.300-0.340) | 0.400 | 5 minutes (2.5 epochs) | 1-2 | 2 threads, X, 2026-01-02 |"
    )
    assert "0.9" not in report.report(rows).replace("0.900", "")


def test_other_recipes_budgets_and_machines_are_never_averaged() -> None:
    rows = [
        row("fast", 0, 0.3),
        row("fast", 0, 0.4, minutes=9.0),
        row("fast", 0, 0.5, machine="Y"),
        row("authors", 0, 0.2),
    ]
    assert len(report.main_table(rows).splitlines()) == 3 + 4


def test_one_training_for_several_lengths_is_a_line_of_its_own() -> None:
    nested = row("spq", 0, 0.5, bits=64, lengths={"16": 0.4, "32": 0.45})
    lines = report.main_table([nested, row("spq", 0, 0.42, bits=16)]).splitlines()[3:]
    assert lines[0].startswith("| spq, recipe `spq` | 0.420 |  |  |")
    assert lines[1].startswith("| spq, recipe `spq`, one training for 16, 32, 64 bits | 0.400 | 0.450 | 0.500 |")


def test_ablations_stand_beside_classic_codes_and_not_in_the_first_table() -> None:
    others = {"l2": 0.1, **dict.fromkeys(report.CLASSIC, 0.25)}
    text = report.report([row("fast", 0, 0.3, others=others), row("fast+hard", 0, 0.2, others=others)])
    first, second = text.split("\n\n", 1)
    assert "hard" not in first
    assert "recipe `fast`, hard quantization, straight-through | 32 | 0.200 | 0.250 |" in second


def test_a_readme_without_markers_is_not_overwritten() -> None:
    with pytest.raises(AssertionError, match="lacks the markers"):
        report.inserted("# spq", "text")
