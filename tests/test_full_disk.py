"""Commands on real disks without room. `tests/faults/full_disk.py` does this for all commands and many sizes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(1, str(Path(__file__).parent / "faults"))

from full_disk import Disk, can_mount

from conftest import run_spq
from spq.index.verify import faults

COMMANDS = [
    "index {p} --model {m} --out {d}/x",
    "index {i} --backup {d}/b",
    "train {p} --recipe {r} --out {d}/t",
    "export {i} --to web --out {d}/site",
    "export {i} --to faiss --out {d}/a.faiss",
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not can_mount(tmp_path / "probe"):
        pytest.skip("this user may not mount disks")
    mounted = Disk(tmp_path / "disk")
    yield mounted
    mounted.unmount()


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_names_the_file_without_room_and_succeeds_when_there_is_some(
    line: str, disk: Disk, photos: Path, model_folder: Path, photo_index: Path, recipe_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    names = {"p": photos, "m": model_folder, "i": photo_index, "r": recipe_file, "d": disk.place}
    for kilobytes in (0, 48):
        disk.mount(kilobytes * 1024)
        status, err = run_spq(*line.format(**names).split()), capsys.readouterr().err
        lines = [text for text in err.splitlines() if text.startswith("spq: ")]
        if status or kilobytes < 8:
            assert (status, len(lines)) == (1, 1), (kilobytes, err)
            assert "full" in lines[0] or "MB are free" in lines[0], (kilobytes, err)
            assert str(disk.place) in lines[0]
            assert "free some space" in lines[0]
            disk.resize(1 << 26)
            resumed = ["--resume"] * (disk.place / "t" / "checkpoints").exists()
            assert run_spq(*line.format(**names).split(), *resumed) == 0, capsys.readouterr().err
            if (disk.place / "x").exists():
                assert list(faults(disk.place / "x")) == []
        disk.unmount()
