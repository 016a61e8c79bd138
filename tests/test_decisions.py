from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from spq.dupes.decisions import (
    APART,
    KEEP,
    OPEN,
    Decision,
    DecisionFile,
    Decisions,
    Picture,
    decided,
    group_key,
    undone,
)
from spq.errors import DataError

PICTURES = (Picture("0a", "a/1.jpg", True), Picture("0b", "b/caf\udce9.jpg", False))


def put(file: DecisionFile, key: str, choice: str = KEEP) -> Decisions:
    return file.change(lambda before: {key: decided(before.groups.get(key), choice, PICTURES)})


def test_decisions_are_read_again_by_another_process_and_have_a_revision(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "new")
    assert file.read() == Decisions(0, {})
    put(file, "k1")
    put(file, "k2", APART)
    again = DecisionFile(tmp_path / "new").read()
    assert again == file.read()
    assert (again.revision, again.groups["k1"].revision, again.groups["k2"].revision) == (2, 1, 2)
    assert again.groups["k1"].pictures == PICTURES
    assert again.groups["k1"].time.endswith("Z")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["decisions.json"]
    assert file.change(lambda _: {}).revision == 2


def test_steps_are_undone_one_by_one_unless_somebody_decided_again(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path)
    first, second = put(file, "k").revision, put(file, "k", APART).revision
    put(file, "other")
    now = file.change(lambda before: undone(before, second))
    assert now.groups["k"].choice == KEEP
    now = file.change(lambda before: undone(before, first))
    assert (now.groups["k"].choice, now.groups["other"].choice) == (OPEN, KEEP)
    assert file.change(lambda before: undone(before, second)).revision == now.revision


def test_a_long_history_is_cut(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path)
    for _ in range(40):
        put(file, "k")
    assert file.path.stat().st_size < 3000


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data.replace(b"keep", b"kepp"), lambda _: b"[]"]
)
def test_a_damaged_file_is_kept_aside_and_named_in_one_line(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    file = DecisionFile(tmp_path)
    put(file, "k")
    broken = damage(file.path.read_bytes())  # type: ignore[operator]
    file.path.write_bytes(broken)
    with caplog.at_level(logging.WARNING, "spq.serve"):
        assert put(file, "k2").groups.keys() == {"k2"}
    assert (tmp_path / "decisions.damaged-1.json").read_bytes() == broken
    assert len(caplog.messages) == 1
    assert "kept as decisions.damaged-1.json" in caplog.messages[0]
    assert "decisions.damaged-1.json" in DecisionFile(tmp_path).remark()
    file.path.write_bytes(broken)
    assert DecisionFile(tmp_path).read() == Decisions(0, {})
    assert (tmp_path / "decisions.damaged-2.json").exists()


def test_a_file_of_a_newer_spq_is_refused_and_stays(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path)
    put(file, "k")
    newer = file.path.read_bytes().replace(b'"format":1', b'"format":2')
    file.path.write_bytes(newer)
    for ask in (file.read, lambda: put(file, "k2")):
        with pytest.raises(DataError, match="update spq"):
            ask()
    assert file.path.read_bytes() == newer


def test_what_cannot_be_written_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be kept in .*file"):
        put(DecisionFile(tmp_path / "file"), "k")


def _put_many(folder: str, name: str) -> None:
    file = DecisionFile(Path(folder))
    for number in range(20):
        put(file, f"{name}{number}")


def test_no_decision_of_two_processes_and_two_threads_is_lost(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=_put_many, args=(tmp_path, name)) for name in "ab"]
    threads = [threading.Thread(target=_put_many, args=(tmp_path, name)) for name in "cd"]
    for each in (*processes, *threads):
        each.start()
    for each in (*processes, *threads):
        each.join()
    now = DecisionFile(tmp_path).read()
    assert (len(now.groups), now.revision) == (80, 80)
    assert len({decision.revision for decision in now.groups.values()}) == 80


def test_a_group_is_known_by_its_pictures_alone() -> None:
    assert group_key(["0b", "0a"]) == group_key(["0a", "0b"])
    assert len({group_key(["0a"]), group_key(["0a", "0a"]), group_key(["0a", "0b"])}) == 3
    assert decided(Decision(APART, revision=7), KEEP, []).before == Decision(APART, revision=7)
    assert os.sep not in group_key(["0a"])
