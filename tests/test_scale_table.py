"""The table of docs/scale.md is computed from constants that name their command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import scale_table
from scale_table import CONSTANTS, SIZES, constants_table, predicted, table

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scale.md"


def test_the_page_has_the_tables_that_the_script_computes(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    assert table(list(SIZES)) in text
    assert constants_table() in text
    (tmp_path / "page.md").write_text(re.sub(r"^\|.*\n", "", text, flags=re.M))
    scale_table.main(["--write", str(tmp_path / "page.md")])
    written = (tmp_path / "page.md").read_text()
    assert table(list(SIZES)) in written
    assert constants_table() in written


def test_every_measured_constant_names_a_command_and_a_date() -> None:
    for name, constant in CONSTANTS.items():
        assert constant.command, name
        assert constant.value is None or constant.date or constant.command.startswith("by definition"), name


def test_lines_follow_from_their_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    N = 10**8
    assert predicted("code_bytes", N) == 8e8
    assert predicted("encode_hours", N) == pytest.approx(1e8 / (693 / 2) / 16 / 3600)
    assert predicted("code_machines", 10**10) == 3  # 80 GB, 32 GB on each
    monkeypatch.setitem(CONSTANTS, "scan_ms", replace(CONSTANTS["scan_ms"], value=None))
    assert predicted("search_ms", N) is None
    assert "| exact search, one thread | not measured |" in table([N])
    monkeypatch.setitem(CONSTANTS, "scan_ms", replace(CONSTANTS["scan_ms"], value=0.5))
    assert predicted("search_ms", N) == 50
    assert "| exact search, one thread | 50 ms |" in table([N])


def test_a_prediction_that_is_more_than_a_fifth_away_fails(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = "code_bytes=9e8", "encode_hours=4"
    scale_table.main(["--check", good, "--pictures", "100000000"])
    assert "predicted 8e+08, measured 9e8, +12%" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        scale_table.main(["--check", good, bad, "--pictures", "100000000"])
    assert ended.value.code == 1
    with pytest.raises(SystemExit, match="nonsense is no line"):
        scale_table.main(["--check", "nonsense=1"])


def test_json_holds_lines_constants_and_assumptions(tmp_path: Path) -> None:
    scale_table.main(["--pictures", "1000", "--json", str(tmp_path / "x.json")])
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["kind"] == "computed"
    assert found["lines"]["code_bytes"] == {"1000": 8000}
    assert found["assumed"]["cores"] == 16
