"""The script is run, by the smallest shell that is there, on names that are hard to quote."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from spq.dupes.trash_script import Move, trash_script

SHELL = shutil.which("dash") or shutil.which("sh")
pytestmark = pytest.mark.skipif(SHELL is None or os.name == "nt", reason="needs a POSIX shell")
NAMES = (
    "plain.jpg", "two words.jpg", "it's.jpg", '"quoted".jpg', "$HOME `id`.jpg", "-n.jpg", "a\nb.jpg", "back\\slash.jpg",
    "caf\udce9.jpg", "é.jpg", "*?[a].jpg", "#;&|<>!.jpg", "end \n", " ", "--", "%s%n\t.jpg",
)  # fmt: skip


class Photos:
    """A folder with a kept and a dropped file for each of some names."""

    def __init__(self, root: Path) -> None:
        self.root, self.script, self.trash = root / "ph'otos", root / "move.sh", root / "tra sh"

    def add(self, name: str, data: bytes = b"picture", kept: bytes = b"picture", is_same: bool = True) -> Move:
        folders = [self.root / "-keep it" / "x\n", self.root / "drop\n"]
        for folder, content in zip(folders, (kept, data), strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_bytes(content)
        file = os.fspath(folders[1] / name)
        return Move(f"drop/{name}", file, len(data), os.fspath(folders[0] / name), len(kept), f"drop\n/{name}", is_same)

    def run(self, moves: list[Move], *options: str, left_out: int = 0) -> subprocess.CompletedProcess[str]:
        self.script.write_bytes(trash_script(moves, os.fspath(self.trash), "move.sh", left_out))
        command = [str(SHELL), os.fspath(self.script), *options]
        return subprocess.run(
            command, cwd=self.root.parent, capture_output=True, text=True, errors="replace", check=False
        )


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    return Photos(tmp_path)


def test_files_of_any_name_are_moved_and_the_kept_ones_stay(photos: Photos) -> None:
    moves = [photos.add(name, name.encode("utf-8", "surrogateescape"), b"kept", is_same=False) for name in NAMES]
    tried = photos.run(moves)
    assert (tried.returncode, tried.stderr) == (0, "")
    assert f"{len(NAMES)} would be moved" in tried.stdout
    assert not photos.trash.exists()
    assert all(Path(move.file).exists() for move in moves)
    done = photos.run(moves, "--go")
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(os.path.lexists(move.file) for move in moves)
    for move, name in zip(moves, NAMES, strict=True):
        assert Path(move.kept).read_bytes() == b"kept"
        assert Path(photos.trash, move.place).read_bytes() == name.encode("utf-8", "surrogateescape")


def test_what_has_changed_stays_and_nothing_is_overwritten(photos: Photos) -> None:
    changed, kept_changed, kept_gone, other_bytes, taken, link, kept_link, fine = (
        photos.add(f"{name}.jpg") for name in ("a", "b", "c", "d", "e", "f", "g", "h")
    )
    Path(changed.file).write_bytes(b"longer than before")
    Path(kept_changed.kept).write_bytes(b"")
    Path(kept_gone.kept).unlink()
    Path(other_bytes.file).write_bytes(b"PICTURE")
    target = photos.trash / taken.place
    target.parent.mkdir(parents=True)
    target.write_bytes(b"was there")
    for path, to in ((link.file, fine.kept), (kept_link.kept, kept_link.file)):
        Path(path).unlink()
        Path(path).symlink_to(to)
    moves = [changed, kept_changed, kept_gone, other_bytes, taken, link, kept_link, fine]
    done = photos.run(moves, "--go", left_out=2)
    assert done.returncode == 1
    assert done.stderr.count("stays: ") == 7
    assert "9 stay where they are" in done.stderr
    assert done.stdout.startswith("1 moved to ")
    assert [Path(move.file).exists() for move in moves] == [True] * 7 + [False]
    assert target.read_bytes() == b"was there"
    assert photos.run([fine], "--go").returncode == 1  # it is gone


def test_one_file_under_two_paths_stays(photos: Photos) -> None:
    move = photos.add("a.jpg")
    Path(move.file).unlink()
    os.link(move.kept, move.file)
    assert "one file" in photos.run([move], "--go").stderr
    assert Path(move.file).exists()


def test_another_trash_folder_can_be_given(photos: Photos) -> None:
    move = photos.add("a.jpg")
    assert photos.run([move], "--go", "--trash", "-my trash").returncode == 0
    assert (photos.root.parent / "-my trash" / move.place).exists()
    wrong = photos.run([move], "--gone")
    assert (wrong.returncode, wrong.stderr) == (2, "unknown option: --gone; use --go and --trash DIR\n")
