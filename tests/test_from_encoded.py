"""spq index --encoded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import run_spq
from spq.index.shards.open_store import open_store


def test_a_finished_job_becomes_an_index_that_answers_as_one_of_pictures(
    photos: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, made, plain = tmp_path / "job", tmp_path / "made", tmp_path / "plain"
    (photos / "bag" / "001.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert run_spq("encode", photos, "--model", model_folder, "--out", job, "--shard-size", 25) == 0
    assert run_spq("index", photos, "--model", model_folder, "--out", plain) == 0
    capsys.readouterr()
    assert run_spq("index", "--encoded", job, "--out", made, "--shard-items", 40, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["shards"], len(facts["failed"])) == (59, 2, 1)
    query = min((photos / "coat").iterdir())
    answers = []
    for index in (made, plain):
        assert run_spq("search", index, query, "--top", 20, "--json") == 0
        answers.append([{**json.loads(line), "id": 0} for line in capsys.readouterr().out.splitlines()])
    assert answers[0] == answers[1]
    assert run_spq("index", made, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unchanged"] == 59
    with open_store(made) as store, open_store(plain) as other:
        assert [(i.path, i.code.tolist()) for i in store.items()] == [(i.path, i.code.tolist()) for i in other.items()]


def test_an_unfinished_job_and_other_options_are_refused(
    tmp_path: Path, photo_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("index", "--encoded", tmp_path / "none", "--out", tmp_path / "i") == 1
    assert "none" in capsys.readouterr().err
    assert not (tmp_path / "i").exists()
    assert run_spq("index", "--encoded", tmp_path / "none") == 2
    assert "give --encoded URL with --out INDEX" in capsys.readouterr().err
