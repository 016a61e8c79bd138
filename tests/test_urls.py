from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from spq.errors import ConfigError, StoreError
from spq.scale import urls
from spq.scale.urls import Place, filesystem, reaching, remove_parts


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(str(tmp_path / "job") if request.param == "local" else f"memory://{tmp_path.name}")


def test_a_file_is_written_once(place: Place) -> None:
    assert place.list("items") == {}
    assert place.put("items/a", b"first")
    assert not place.put("items/a", b"second")
    assert place.read("items/a") == b"first"
    assert place.put("items/b", b"")
    assert place.list("items").keys() == {"a", "b"}
    with pytest.raises(FileNotFoundError):
        place.read("items/c")


def test_a_large_file_takes_the_place_of_one_that_was_cut(place: Place, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"whole")
    place.put("files/a", b"who")
    place.put_file("files/a", tmp_path / "source")
    assert place.read("files/a") == b"whole"
    assert place.read_range("files/a", 1, 3) == b"ho"
    assert place.entries().keys() == {"files"}
    assert place.list("files").keys() == {"a"}
    with pytest.raises(FileNotFoundError):
        place.put_file("files/b", tmp_path / "none")
    place.delete("files/a")
    place.delete("files/a")
    assert place.entries("files") == {}


def test_two_processes_at_once_write_a_file_once(tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        from spq.scale.urls import Place
        place = Place({str(tmp_path)!r})
        print(sum(place.put(f"items/{{n}}", sys.argv[1].encode() * 1000) for n in range(100)))"""
    both = [subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True) for name in "ab"]
    assert sum(int(process.communicate(timeout=60)[0]) for process in both) == 100
    contents = {(tmp_path / "items" / str(n)).read_bytes() for n in range(100)}
    assert contents <= {b"a" * 1000, b"b" * 1000}
    assert len(list((tmp_path / "items").iterdir())) == 100  # no parts


def test_a_file_system_without_links_still_shows_whole_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    place = Place(str(tmp_path))
    assert place.put("a", b"first")
    assert not place.put("a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_parts_of_killed_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    host = socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = [f".a.{host}.{os.getpid()}", f".a.other-{host}.{ended.pid}", ".hidden", "a.parquet"]
    for name in (*kept, f".00012-ab.parquet.{host}.{ended.pid}"):
        (tmp_path / name).write_bytes(b"part")
    remove_parts(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)
    remove_parts(tmp_path / "missing")


def test_an_unknown_protocol_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Protocol not known: s5; give a path, or a URL such as"):
        filesystem("s5://bucket")
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"gs://bucket: gs:// needs the package gcsfs; run pip install gcsfs"):
        filesystem("gs://bucket")


def test_errors_of_other_machines_are_one_line_and_those_of_disks_stay() -> None:
    with pytest.raises(StoreError, match="s3://a cannot be reached: no route; check"), reaching("s3://a"):
        raise RuntimeError("no route\nmore")
    with pytest.raises(PermissionError), reaching("/photos"):
        raise PermissionError("no")
    with pytest.raises(FileNotFoundError), reaching("s3://a"):
        raise FileNotFoundError("gone")


def test_a_service_that_names_the_reason_in_another_way_counts_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("memory://odd")
    place.put("a", b"first")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(22, "PreconditionFailed")

    monkeypatch.setattr(place.fs, "pipe_file", refuse)
    assert not place.put("a", b"second")
    with pytest.raises(StoreError, match="memory://odd cannot be reached: PreconditionFailed"):
        place.put("b", b"new")


def test_which_places_other_processes_see(tmp_path: Path) -> None:
    assert Place(str(tmp_path)).is_shared
    assert not Place("memory://a").is_shared
    assert urls.is_url("memory://a")
