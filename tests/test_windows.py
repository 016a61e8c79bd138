"""What Windows needs, as far as another system can tell: no modules of POSIX alone, and its rules of paths."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

import spq
from spq.data.folder import file_of, leads_below
from spq.data.open import open_images
from spq.errors import DataError

BLOCKED = """
import importlib.abc, os, signal, sys

class NoPosix(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog"}:
            raise ImportError(name + " is of POSIX alone")

for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, NoPosix())
"""
# these look at the real system, so they are loaded first
LIBRARIES = (
    "import faiss, numpy, PIL.Image, pyarrow.parquet, torch, timm, fastapi, uvicorn, matplotlib.figure, typer, filelock"
)
# what os and signal lack on Windows, without what filelock needs here
LACKING = """
for name in ("fork", "getuid", "getgid", "sched_getaffinity", "posix_fallocate", "setpriority", "getpriority", "uname",
             "mkfifo", "chown", "lchown", "killpg", "statvfs"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGQUIT", "SIGALRM", "SIGPIPE", "alarm", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
"""


COMMANDS = """
import json
from spq.cli.main import run
for arguments in json.loads(sys.argv[1]):
    print("status", run(arguments))
"""


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def modules() -> list[str]:
    root = Path(spq.__file__).parent
    paths = (path.relative_to(root.parent).with_suffix("") for path in sorted(root.rglob("*.py")))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths if path.stem != "__main__"]


def test_no_module_needs_what_posix_alone_has() -> None:
    assert len(modules()) > 150
    code = f"{BLOCKED}\nimport importlib\nfor name in {modules()!r}:\n    importlib.import_module(name)\nprint('all')"
    done = run(code)
    assert done.stdout == "all\n", done.stderr


def test_an_index_is_built_updated_and_searched_without_posix(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.rglob("*.png"))[:3]:
        path.rename(few / path.name)
    (few / "metadata.csv").write_text("file_name,n\n.\\" + path.name + ",7\n")
    code = f"{LIBRARIES}\n{BLOCKED}{LACKING}\n{COMMANDS}"  # in one process, because the libraries take seconds
    out = tmp_path / "new"
    commands = [
        ["index", few, "--model", model_folder, "--out", out],
        ["index", out],
        ["search", out, few / path.name, "--where", "n = 7"],
        ["--help"],
    ]
    done = run(code, json.dumps(commands, default=str))
    made, updated, found, shown = done.stdout.split("status 0\n")[:-1]
    assert "3 pictures at" in made, done.stderr
    assert "3 unchanged" in updated, done.stderr
    assert found.split()[2:] == [path.name], done.stderr
    assert "Usage: spq" in shown, done.stderr


@pytest.mark.parametrize("source", [r"C:\photos", "C:/photos", r"d:\a\b.parquet", r"\\server\share", "Z:"])
def test_a_drive_is_no_kind_of_collection(source: str) -> None:
    assert PureWindowsPath(source).drive
    with pytest.raises(DataError, match="no such folder or file"):
        open_images(source)


OUTSIDE = [r"..\a.png", r"sub\a.png", "C:a.png", "C:/a.png", "sub/c:/a.png", "sub/../a.png", "//server/a.png", "/a.png"]
STRANGE = ["a.png:x.png", "sub/a:b.png", "nul.png", "sub/Aux .png", "com1/a.png", "LPT9.tar.png", "con"]


@pytest.mark.parametrize("id_", [*OUTSIDE, *STRANGE])
def test_no_id_leads_out_of_its_folder_or_to_a_device(tmp_path: Path, id_: str) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/a.png"):
        (tmp_path / name).touch()
    assert file_of(tmp_path, "sub/a.png") == tmp_path / "sub" / "a.png"
    assert file_of(tmp_path, id_) is None
    parts = id_.split("/")
    assert "\\" in id_ or not all(parts) or ".." in parts or not leads_below(PureWindowsPath(r"D:\photos"), parts)


@pytest.mark.parametrize("id_", ["a.png", "sub/deep/a b.png", "console.png", "nul1/com10.png", "été/ü.jpg"])
def test_ordinary_names_are_below_their_folder(id_: str) -> None:
    for root in (
        PureWindowsPath(r"D:\photos"),
        PureWindowsPath(r"\\server\share\x"),
        PurePosixPath("/p"),
        PurePosixPath("p"),
    ):
        assert leads_below(root, id_.split("/"))


def test_ids_have_slashes_on_every_system(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.png").touch()
    assert open_images(tmp_path).ids == ["a/b/c.png"]
    assert PureWindowsPath(r"a\b\c.png").as_posix() == "a/b/c.png"


def test_a_folder_is_not_opened_to_sync_it_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spq.common.files import sync_folder

    sync_folder(tmp_path)
    monkeypatch.setattr(os, "name", "nt")
    sync_folder(tmp_path / "nowhere")  # nothing is opened
