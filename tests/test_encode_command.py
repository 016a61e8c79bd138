"""`spq encode`: its options, its lines and its errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import assert_refused, run_spq
from spq.data.decode import pixel_limit, set_max_pixels
from spq.index.item_table import items_of
from spq.scale.finished import finished_tables


def test_a_collection_is_encoded_in_parts_and_its_status_shown(
    photos: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bag" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    out = tmp_path / "job"
    begin = ("encode", photos, "--model", model_folder, "--out", out, "--shard-size", 20, "--workers", 1)
    assert run_spq(*begin, "--part", "1/2") == 0
    done = "40 pictures in 2 input shards encoded, 1 unreadable; 2 of 4 input shards are finished"
    assert capsys.readouterr().out == f"{out}: {done}\n"
    assert run_spq("encode", "--out", out, "--status", "--json") == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["done"], state["shards"], state["total"]) == (2, 4, 61)
    assert run_spq("encode", "--out", out, "--workers", 1, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["encoded"], report["done"], report["shards"]) == (2, 4, 4)
    assert run_spq("encode", "--out", out, "--status") == 0
    out_text, err = capsys.readouterr()
    assert out_text == f"{out}: 4 of 4 input shards, 61 of 61 pictures, 1 unreadable\n"
    assert err.startswith("unreadable: bag/broken.jpg: ")
    items = [item for table in finished_tables(str(out)) for item in items_of(table)]
    assert len({item.path for item in items}) == 61


@pytest.fixture
def _same_limit() -> Iterator[None]:
    """Leave the limit of pixels as it is by default, after an option has set it."""
    before = pixel_limit()
    yield
    set_max_pixels(before)


@pytest.mark.usefixtures("_same_limit")
def test_wrong_calls_are_one_line_and_write_nothing(places: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    run_spq("encode", places["p"], "--model", places["m"], "--out", places["t"] / "job", "--workers", 1)
    capfd.readouterr()
    begun = "encode {p} --model {m} --out {t}/job"
    wrong = [
        ("encode {p} --model {m}", 2, "give --out, the folder or URL of the job"),
        ("encode --out {t}/nothing", 1, "it has no job.json; check the address, or give the pictures and a model"),
        ("encode {p} --out {t}/nothing", 2, "give a --model to begin one"),
        ("encode {p} --model {m} --out {i}", 2, "holds other files (items.sqlite); give a new folder"),
        ("encode {p} --model {m} --out {t}/no/job", 2, "is in a folder that does not exist"),
        ("encode {t}/nothing --model {m} --out {t}/new", 1, "no such folder or file"),
        (f"{begun} --part 3/2", 2, "--part 3/2 is none; give 1/2 to 2/2"),
        (f"{begun} --part half", 2, "--part half is no part; give for example 1/8"),
        (f"{begun} --precision fp16", 2, "--precision fp16 is unknown; give auto, fp32 or bf16"),
        (f"{begun} --precision bf16", 2, "encodes with --precision fp32, not bf16"),
        (f"{begun} --shard-size 7", 2, "has 1 input shards, and"),
        ("encode --out {t}/job --shard-size 7", 2, "has input shards of 2,048 pictures; omit --shard-size"),
        (
            "encode --out {t}/job --max-pixels 7000000",
            2,
            "reads pictures of up to 178,956,970 pixels; omit --max-pixels",
        ),
        ("encode {p} --model {t}/other --out {t}/job", 1, "give that model, or another --out"),
        ("encode --model {t}/other --out {t}/job", 1, "give that model, or another --out"),
        ("encode {p}/bag --model {m} --out {t}/job", 2, "is of other pictures"),
        ("encode {p} --model {m} --out s5://bucket/job", 2, "Protocol not known: s5"),
        ("encode {p} s5://bucket --model {m} --out {t}/new", 2, "give all as URLs"),
        ("encode --out {t}/nothing --status", 1, "no encoding job at"),
    ]
    assert_refused(places, wrong, capfd)


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_signal_ends_it_with_a_line_that_says_how_to_continue(
    photos: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "job"
    assert (
        run_spq(
            "encode",
            photos,
            "--model",
            model_folder,
            "--out",
            out,
            "--shard-size",
            1,
            "--part",
            "60/60",
            "--workers",
            1,
        )
        == 0
    )
    code = """if True:
        import sys, time
        from spq.cli import main as cli
        from spq.scale import run_job
        run_job.finish_shard = lambda *given: print("begun", flush=True) or time.sleep(600)
        sys.exit(cli.run_stoppable(sys.argv[1:]))"""
    command = [sys.executable, "-c", code, "encode", "--out", str(out), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err == f"spq: stopped; finished input shards are kept, go on with: spq encode --out {out}\n"
