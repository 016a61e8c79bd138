"""spq index --to-shards and --to-database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import run_spq
from spq import ImageIndex
from spq.model.model import Model


@pytest.fixture
def folder(photos: Path, tiny_model: Model, tmp_path: Path) -> Path:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    return tmp_path / "i"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = run_spq(*words)
    out, err = capsys.readouterr()
    return status, out, err


def test_an_index_moves_into_shards_and_back_and_is_used_meanwhile(
    folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = ("search", folder, photos / "bag" / "001.jpg", "--top", 9, "--json")
    _, before, _ = run(capsys, *query)
    _, copies, _ = run(capsys, "dupes", folder)
    assert run(capsys, "index", folder, "--to-shards", "--shard-items", 25)[:2] == (
        0,
        f"{folder}: 60 pictures in 3 shards\n",
    )
    assert run(capsys, *query)[1] == before
    assert run(capsys, "index", folder, "--verify")[:2] == (0, f"{folder}: no fault found\n")
    status, out, _ = run(capsys, "info", folder, "--json")
    assert (status, json.loads(out)["health"]["pictures"], json.loads(out)["shards"]) == (0, 60, 3)
    status, out, _ = run(capsys, "index", folder, "--json")
    assert (status, json.loads(out)["unchanged"], json.loads(out)["shards"]) == (0, 60, 3)
    assert run(capsys, "dupes", folder)[1] == copies
    status, out, err = run(capsys, "index", folder, "--backup", photos.parent / "backup")
    assert (status, out) == (1, "")
    assert "has shards; --publish it to a folder instead" in err
    for form, name in (("codes", "x.parquet"), ("faiss", "x.faiss")):
        assert run(capsys, "export", folder, "--to", form, "--out", photos.parent / name)[0] == 0
    assert run(capsys, "index", folder, "--compact")[0] == 0
    assert run(capsys, "index", folder, "--to-database")[:2] == (0, f"{folder}: 60 pictures in 0 shards\n")
    assert run(capsys, *query)[1] == before
    assert run(capsys, "index", folder, "--verify")[0] == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--to-database"], "has no shards; nothing has to be moved"),
        (["--to-shards", "--to-database"], "contradict each other"),
        (["--to-shards", "--rehash"], "give --to-shards with an index alone"),
        (["--shard-items", "5"], "--shard-items is for --to-shards and --encoded"),
        (["--to-shards", "--shard-items", "0"], "--shard-items"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "index", folder, *words)
    assert status != 0
    assert out == ""
    assert why in err
    assert len(err.strip().splitlines()) == 1
