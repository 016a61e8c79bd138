"""`spq compare`; its tables are tested in test_compare.py, and a whole run in test_eval_command.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import run_spq
from spq.cli.compare_command import grouped
from spq.errors import ConfigError
from test_compare import CHANCE, OURS, THEIRS


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, report in {
        "chance": CHANCE,
        "theirs": THEIRS,
        **{f"ours-{n}": each for n, each in enumerate(OURS)},
    }.items():
        report.save(f"{name}.json")
    return tmp_path


def test_a_name_joins_seeds_also_by_a_pattern(reports: Path) -> None:
    files = [Path(f"ours-{number}.json") for number in range(3)]
    assert grouped(["a=ours-*.json", "theirs.json", "a=more.json"]) == {
        "a": [*files, Path("more.json")],
        "theirs": [Path("theirs.json")],
    }
    Path("x=1.json").touch()
    assert grouped(["x=1.json"]) == {"x=1": [Path("x=1.json")]}
    with pytest.raises(
        ConfigError, match=r"two methods named theirs; name them, for example theirs-2=sub/theirs\.json"
    ):
        grouped(["theirs.json", "sub/theirs.json"])


def test_methods_are_printed_in_the_order_given_and_written_as_tables(
    reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", "theirs.json", "ours=ours-?.json", "chance.json", "--metric", "map_r")
    assert run_spq(*command, "--out", "tables") == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["theirs", "ours", "chance"]
    assert "MAP@R" in out.splitlines()[1]
    assert len(err.splitlines()) == 5
    assert "theirs & 32 &" in (reports / "tables" / "comparison.tex").read_text()
    assert run_spq(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((reports / "tables" / "comparison.json").read_text())


def test_one_report_is_printed_as_it_was(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("compare", "theirs.json") == 0
    assert capsys.readouterr().out == THEIRS.table() + "\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none.json"], 1, "no report at none.json"),
        (["none.npz"], 1, "no rankings at none.npz"),
        (["a=none-*.json"], 1, "no report at none-*.json"),
        (["theirs.json", "--at", "5"], 2, "--at 5 needs rankings, and theirs.json is a report"),
        (["theirs.json", "chance.json", "--metric", "recall"], 2, "--metric"),
        (["theirs.json", "chance.json", "--out", "theirs.json"], 2, "--out theirs.json is a file"),
        (["theirs.json", "broken.json"], 1, "report broken.json is damaged"),
        (["folder"], 2, "folder is a folder; name its reports, for example 'NAME=folder/*.json'"),
        (["theirs.json", "other.json"], 1, "theirs and other do not compare: protocol p and q"),
    ],
)
def test_compare_refuses_in_one_line(
    reports: Path, arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (reports / "broken.json").write_text("{")
    (reports / "folder").mkdir()
    content = json.loads((reports / "chance.json").read_text())
    (reports / "other.json").write_text(json.dumps({**content, "protocol": "q"}))
    assert run_spq("compare", *arguments) == status
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
