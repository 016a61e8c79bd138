"""Cache folders, temporary files, and paths with a tilde, for users with and without a home."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spq.common import files
from spq.common.files import (
    Replacing,
    cached_file,
    clear_place,
    expanded,
    lasting_cache,
    reserve,
    scratch_place,
    set_library_caches,
    user_cache,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user who has set nothing else."""
    for name in ("SPQ_CACHE", "XDG_CACHE_HOME", *files.LIBRARIES):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def no_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fails)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make folders read-only, also for root."""
    closed: list[Path] = []
    honest = os.access

    def access(path: Path, mode: int) -> bool:
        return honest(path, mode) and not (mode & os.W_OK and any(Path(path).is_relative_to(place) for place in closed))

    monkeypatch.setattr(os, "access", access)
    return closed.append


def test_the_cache_is_where_the_user_or_the_system_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_cache() == lasting_cache() == home / ".cache" / "spq"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache() == tmp_path / "xdg" / "spq"
    monkeypatch.setenv("SPQ_CACHE", "relative")
    assert user_cache() == Path("relative")


def test_a_user_without_a_home_has_a_cache_of_temporary_files(no_home: None) -> None:
    assert lasting_cache() is None
    assert user_cache() == Path(tempfile.gettempdir()) / f"spq-{os.getuid()}"


@pytest.mark.parametrize("value", ["", "cache", "./x/y"])
def test_a_relative_cache_folder_counts_as_none(home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert user_cache() == home / ".cache" / "spq"


def test_a_relative_home_counts_as_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "here")
    assert lasting_cache() is None


def test_a_cache_that_cannot_be_written_is_passed_over_but_still_read(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: Callable[[Path], None]
) -> None:
    weights = home / ".cache" / "spq" / "weights" / "w"
    weights.parent.mkdir(parents=True)
    weights.touch()
    read_only(home)
    assert lasting_cache() is None
    assert cached_file("weights/w") == weights
    assert cached_file("weights/other").is_relative_to(tempfile.gettempdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert lasting_cache() == tmp_path / "xdg" / "spq"
    read_only(tmp_path / "xdg")
    read_only(tmp_path)
    assert lasting_cache() is None


def test_a_temporary_folder_of_somebody_else_is_not_used(
    no_home: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert user_cache().parent == tmp_path
    user_cache().mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "spq-12345").mkdir()
    assert not user_cache().is_relative_to(tmp_path)
    with pytest.raises(OSError):  # noqa: PT011 (each system has its own)
        user_cache().mkdir(parents=True)


def test_without_any_folder_for_temporary_files_there_is_still_a_path(
    no_home: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert not user_cache().exists()
    with pytest.raises(OSError, match="no folder for temporary files can be written; set TMPDIR"):
        scratch_place(1)


def test_temporary_files_go_where_there_is_room(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10 if place == small else 1000))
    assert scratch_place(10) == small
    assert not (home / ".cache").exists()
    assert scratch_place(500) == scratch_place(5000) == home / ".cache" / "spq"


def test_other_libraries_keep_their_places_where_they_can(
    home: Path, monkeypatch: pytest.MonkeyPatch, read_only: Callable[[Path], None]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        set_library_caches()
        assert not set(files.LIBRARIES) & set(os.environ)
    (home / ".cache" / "huggingface").mkdir(parents=True)
    read_only(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ) | {"TORCH_HOME": "mine"})
        set_library_caches()
        assert "HF_HOME" not in os.environ  # its models can be read
        assert os.environ["TORCH_HOME"] == "mine"
        assert os.environ["MPLCONFIGDIR"] == str(user_cache() / "matplotlib")


def write(target: Path, text: str) -> None:
    with Replacing(target) as temporary:
        temporary.write_text(text)


def test_what_is_no_regular_file_is_written_to_and_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, "through the pipe")
    assert os.read(reader, 100) == b"through the pipe"
    assert pipe.is_fifo()
    os.close(reader)
    read, written = os.pipe()
    (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{written}")
    for stream in (tmp_path / "stdout", Path(f"/proc/self/fd/{written}")):
        write(stream, "text")
        assert os.read(read, 100) == b"text"
    assert (tmp_path / "stdout").is_symlink()
    if Path("/dev/full").is_char_device():
        with pytest.raises(OSError, match="No space left"):
            write(Path("/dev/full"), "text")
        assert Path("/dev/full").is_char_device()


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "real.csv").write_text("old")
    for name, target in {"link.csv": "a/real.csv", "new.csv": "a/new.csv"}.items():
        (tmp_path / name).symlink_to(target)
        write(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == "new"
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "link.csv", "half \udcff")
    assert (tmp_path / "a" / "real.csv").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["new.csv", "real.csv"]


def test_a_folder_that_is_called_like_a_home_is_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~pics", "~no such user/x"):
        Path(name).mkdir(parents=True)
        assert expanded(name) == Path(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/pics") == tmp_path / "pics"


UNSHARE = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]


def can_be_another_user() -> bool:
    found = shutil.which("unshare")
    return bool(found) and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_be_another_user(), reason="this system lets nobody be an unknown user (unshare --user)")
def test_a_container_of_an_unknown_user_indexes_searches_and_serves(
    index_folder: Path, photos: Path, model_folder: Path, tmp_path: Path
) -> None:
    cache = Path(tempfile.mkdtemp(prefix="spq-test-"))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(cache)}

    def started(*arguments: object) -> subprocess.Popen[str]:
        command = [*UNSHARE, sys.executable, "-m", "spq", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, text=True, stdout=-1, stderr=-1, cwd=tmp_path)

    def spq(*arguments: object) -> tuple[str, str]:
        with started(*arguments) as process:
            return process.communicate(timeout=120)

    def served(*arguments: object) -> str:
        """What a server says until it can be asked."""
        said = ""
        with started("serve", *arguments, "--port", 0) as process:
            assert process.stderr
            while "http://127.0.0.1:" not in said and (line := process.stderr.readline()):
                said += line
            process.kill()
        return said

    try:
        out, err = spq("index", photos, "--model", model_folder, "--out", tmp_path / "new", "--json")
        assert json.loads(out)["added"] == 60, err
        picture = next(photos.rglob("*.png"))
        out, err = spq("search", tmp_path / "new", picture, "--top", 1)
        assert picture.name in out, err
        remark = f"no cache folder of yours can be written, so thumbnails are in {cache}/spq-12345/thumbnails; --cache "
        said = served(tmp_path / "new")
        assert remark in said
        assert "60 pictures at http://127.0.0.1:" in said
        said = served(tmp_path / "new", "--cache", tmp_path / "thumbs")
        assert said.startswith("60 pictures at http://127.0.0.1:")
    finally:
        shutil.rmtree(cache)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("before")
    with (
        largest_file(4096),
        pytest.raises(OSError, match=f"File too large: '{target}'"),
        Replacing(target) as temporary,
    ):
        temporary.write_bytes(bytes(10_000))
    with pytest.raises(OSError, match=f"No such file or directory: '{target}'"), Replacing(target):
        pass  # nothing was written
    with pytest.raises(OSError, match="No such file or directory: 'other'"), Replacing(target) as temporary:
        temporary.write_bytes(Path("other").read_bytes())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
    with (
        largest_file(4096),
        pytest.raises(OSError, match=f"File too large: '{tmp_path}'"),
        tempfile.TemporaryFile() as file,
    ):
        reserve(file, 10_000, tmp_path)


def test_two_threads_that_replace_a_file_do_not_mix_their_content(tmp_path: Path) -> None:
    with Replacing(tmp_path / "a") as first, Replacing(tmp_path / "a") as second:
        assert first != second
        first.write_text("one")
        second.write_text("two")
    assert (tmp_path / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_cache_keeps_regular_files_in_their_place_and_deletes_links_and_pipes(tmp_path: Path) -> None:
    place = tmp_path / "a"
    clear_place(place)
    place.write_text("x")
    clear_place(place)
    assert place.read_text() == "x"
    (tmp_path / "link").symlink_to(place)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        clear_place(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="delete it"):
        clear_place(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


def test_what_a_killed_process_left_is_deleted_and_what_a_running_one_writes_is_not(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    for name in (f".table.csv.{dead.pid}", f".table.csv.{os.getppid()}", f".other.csv.{dead.pid}", ".table.csv.note"):
        (tmp_path / name).touch()
    with Replacing(target) as temporary:
        temporary.write_text("new")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"table.csv", f".table.csv.{os.getppid()}", f".other.csv.{dead.pid}", ".table.csv.note"}
