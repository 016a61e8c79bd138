from __future__ import annotations

import json
from typing import Any

import pytest

import report

ROWS: list[dict[str, Any]] = json.loads(report.RESULTS.read_text("utf-8"))


def row(variant: str, seed: int, value: float, **more: Any) -> dict[str, Any]:
    facts = {"bits": 32, "code_bits": 32, "minutes": 5.0, "epochs": 0, "fingerprint": "f", "protocol": report.PROTOCOL}
    spent = {"views": 250_000, "epochs_done": 2.5, "machine": "2 threads, X", "date": "2026-01-02"}
    return {"variant": variant, "seed": seed, "map": value, **facts, **spent, **more}


def test_the_results_page_is_up_to_date() -> None:
    page = report.PAGE.read_text("utf-8")
    assert report.inserted(page, report.report(ROWS)) == page, "run: spq bench report"


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
        "| spq, recipe `fast` |  | 0.320 (0.300-0.340) | 0.400 | 5 minutes (2.5 epochs, 0.25 M views) "
        "| 1-2 | 2 threads, X, 2026-01-02 |"
    )
    assert "0.900" not in report.report(rows)


def test_other_recipes_budgets_and_machines_are_never_averaged() -> None:
    rows = [
        row("fast", 0, 0.3),
        row("fast", 0, 0.4, minutes=9.0),
        row("fast", 0, 0.5, machine="Y"),
        row("authors", 0, 0.2),
    ]
    assert len(report.main_table(rows).splitlines()) == 3 + 4


def test_lengths_of_one_recipe_share_a_line() -> None:
    rows = [row("spq", 0, 0.4, bits=bits, fingerprint=str(bits), commit="abc") for bits in (16, 64)]
    assert report.main_table(rows).splitlines()[3:] == [
        "| spq, recipe `spq` | 0.400 |  | 0.400 | 5 minutes (2.5 epochs, 0.25 M views) | 1 | 2 threads, X, 2026-01-02 |"
    ]


def test_nested_trainings_of_several_lengths_are_lines_of_their_own() -> None:
    rows = [row("spq", 0, 0.5, bits=32, fingerprint="a", lengths={"16": 0.4})]
    rows += [row("spq", seed, 0.6, bits=64, fingerprint="b", lengths={"16": 0.3, "32": 0.5}) for seed in (0, 1)]
    lines = report.main_table(rows).splitlines()[3:]
    assert [line.split("|")[2:5] for line in lines] == [
        [" 0.400 ", " 0.500 ", "  "],
        [" 0.300 (0.300-0.300) ", " 0.500 (0.500-0.500) ", " 0.600 (0.600-0.600) "],
    ]


def test_newer_rows_replace_older_rows_of_the_same_runs() -> None:
    rows = [row("fast", 0, 0.3), row("fast", 1, 0.3)]
    more = [row("fast", 1, 0.4), row("fast", 2, 0.4)]
    assert [(r["seed"], r["map"]) for r in report.added(rows, more)] == [(0, 0.3), (1, 0.4), (2, 0.4)]


def test_one_training_for_several_lengths_is_a_line_of_its_own() -> None:
    nested = row("spq", 0, 0.5, bits=64, lengths={"16": 0.4, "32": 0.45})
    lines = report.main_table([nested, row("spq", 0, 0.42, bits=16)]).splitlines()[3:]
    assert lines[0].startswith("| spq, recipe `spq` | 0.420 |  |  |")
    assert lines[1].startswith("| spq, recipe `spq`, one training for 16, 32, 64 bits | 0.400 | 0.450 | 0.500 |")


def test_ablations_are_below_their_recipe_with_the_difference_for_the_same_seeds() -> None:
    more = {"others": {"l2": 0.1, **dict.fromkeys(report.CLASSIC, 0.25)}, "precision": {"1": 0.5}}
    rows = [
        row("fast", 0, 0.30, **more),
        row("fast", 1, 0.34, **more),
        row("fast+hard", 0, 0.20, **more),
        row("fast+hard", 1, 0.26, **more),
        row("fast+vq", 1, 0.10, **more, code_bits=8),
    ]
    first, second, third = report.report(rows).split("\n\n", 2)
    assert "hard" not in first + second
    assert third.startswith("| training |")
    lines = third.split("Effect of each part: ")[1].splitlines()
    assert lines[0] == "spq, recipe `fast`, 5 minutes, with one part changed (2 threads, X, 2026-01-02):"
    assert lines[4:7] == [
        "| the whole recipe | 32 | 0.320 (0.300-0.340) |  "
        "| 0.500 (0.500-0.500) | 0.250 (0.250-0.250) | 0.250 (0.250-0.250) | 2 |",
        "| hard quantization, straight-through | 32 | 0.230 (0.200-0.260) | -0.090 (-0.100 to -0.080) "
        "| 0.500 (0.500-0.500) | 0.250 (0.250-0.250) | 0.250 (0.250-0.250) | 2 |",
        "| plain VQ: 256 codewords, 8 bits | 8 | 0.100 |  | 0.500 | 0.250 | 0.250 | 1 |",
    ]


def test_an_ablation_of_another_budget_is_compared_with_nothing() -> None:
    more = {"others": dict.fromkeys(report.CLASSIC, 0.25), "precision": {"1": 0.5}}
    rows = [row("fast", 0, 0.3, **more), row("fast+hard", 0, 0.2, **more, minutes=9.0)]
    assert "hard" not in report.report(rows)
    changed = [row(f"{name}:train.lr=1e-3", 0, 0.3, **more) for name in ("fast", "fast+hard")]
    assert "recipe `fast`, `train.lr=1e-3`, 5 minutes, with" in report.report(changed)


def test_a_readme_without_markers_is_not_overwritten() -> None:
    with pytest.raises(AssertionError, match="lacks the markers"):
        report.inserted("# spq", "text")
