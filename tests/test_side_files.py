from __future__ import annotations

import os
from pathlib import Path

import pytest

from spq.errors import StoreError
from spq.index.side_files import clear_odd, odd_side_files, side_files, why_blocked


def test_side_files_are_beside_what_the_database_links_to(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "items.sqlite").touch()
    (tmp_path / "items.sqlite").symlink_to(tmp_path / "disk" / "items.sqlite")
    assert {file.parent.name for file in side_files(tmp_path)} == {"disk"}


def test_regular_side_files_block_nothing(tmp_path: Path) -> None:
    for file in side_files(tmp_path):
        file.write_bytes(b"x")
    assert (odd_side_files(tmp_path), why_blocked(tmp_path)) == ([], "")
    assert not any(clear_odd(file) for file in side_files(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_may_not_be_written_is_named_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "items.sqlite-wal"
    log.touch()
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)  # tests may run as root
    assert why_blocked(tmp_path) == ""
    assert why_blocked(tmp_path, os.W_OK) == (f"{log} cannot be written: Permission denied; give yourself permission")


def test_clearing_removes_a_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert clear_odd(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert not clear_odd(tmp_path / "none")


def test_a_folder_with_files_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(StoreError, match="move it away"):
        clear_odd(tmp_path / "folder")
    assert (tmp_path / "folder" / "mine").exists()
