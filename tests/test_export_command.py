"""`spq export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import assert_refused, run_spq
from spq.common.locks import held


def test_export_says_what_it_wrote_and_that_faiss_ranks_by_squares(
    index_folder: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    for path, to, name in (
        (index_folder, "faiss", "x"),
        (index_folder, "codes", "x.npz"),
        (model_folder, "onnx", "m"),
        (index_folder, "onnx", "n"),
    ):
        assert run_spq("export", path, "--to", to, "--out", tmp_path / "out" / name) == 0
        out, err = capsys.readouterr()
        assert (len(out.splitlines()), err) == (1, "")
        assert ("FAISS sums squares; the index itself ranks by l2" in out) == (to == "faiss")
        assert run_spq("export", path, "--to", to, "--out", tmp_path / "out" / name, "--json") == 0
        assert {"out", "model", "distance", "bits"} <= set(json.loads(capsys.readouterr().out))
    assert (tmp_path / "out" / "m").read_bytes() == (tmp_path / "out" / "n").read_bytes()


WRONG = [
    ("export {i} --to nonsense --out {t}/new", 2, "'nonsense' is not one of"),
    ("export {i} --out {t}/new", 2, "--to"),
    ("export {i} --to codes --out {t}/new.txt", 2, "end it in .npz or .parquet"),
    ("export {i} --to faiss --out {p}", 2, "is a folder"),
    ("export {m} --to faiss --out {t}/new", 2, "is a model and has no codes"),
    ("export {m} --to codes --out {t}/new.npz", 2, "is a model and has no codes"),
    ("export {t}/nowhere --to onnx --out {t}/new", 1, "nothing at"),
    ("export {p} --to faiss --out {t}/new", 1, "no index at"),
    ("export {p} --to onnx --out {t}/new", 1, "no model at"),
    ("export {t}/damaged --to onnx --out {t}/new", 1, "damaged"),
]


def test_export_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)


def test_one_process_at_a_time_writes_an_export(
    index_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".x.npz.77-0").write_text("of a killed process")
    with held(out / ".x.npz.lock"):
        assert run_spq("export", index_folder, "--to", "codes", "--out", out / "x.npz") == 1
    assert "another process exports to" in capsys.readouterr().err
    assert not (out / "x.npz").exists()
    assert run_spq("export", index_folder, "--to", "codes", "--out", out / "x.npz") == 0
    assert [path.name for path in out.iterdir()] == ["x.npz"]
