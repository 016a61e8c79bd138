from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spq.index.image_index import ImageIndex
from spq.web.server.report_file import ReportFile, collection_name, state_of

REPORT = {"pictures": 2, "groups": [{"key": "00", "items": [{"path": "a\udce9.jpg", "distance": 0.25}]}]}


def test_a_report_is_kept_and_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    file = ReportFile(tmp_path / "cache" / "reports", "name")
    assert file.read() is None
    file.write("state", REPORT)
    assert ReportFile(file.folder, "name").read() == ("state", REPORT)
    file.path.write_bytes(file.path.read_bytes().replace(b"0.25", b"0.26"))
    assert file.read() is None
    file.write("state", REPORT)
    assert file.read() == ("state", REPORT)


def test_one_process_makes_the_report(tmp_path: Path) -> None:
    file, other = ReportFile(tmp_path, "name"), ReportFile(tmp_path, "name")
    with file.making() as is_mine:
        assert is_mine
        with other.making() as is_others:
            assert not is_others
    with other.making() as is_mine:
        assert is_mine
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_the_report_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    file = ReportFile(tmp_path / "file", "name")
    file.write("state", REPORT)
    assert len(caplog.messages) == 1
    assert file.read() is None
    with file.making() as is_mine:
        assert is_mine


def test_the_state_is_that_of_the_pictures(index: ImageIndex) -> None:
    before = state_of(index.store)
    assert state_of(index.store) == before
    index.remove([next(index.store.items()).path])
    assert state_of(index.store) != before
    manifest = index.store.manifest
    assert collection_name(manifest) == collection_name(replace(manifest))
    assert collection_name(manifest) != collection_name(replace(manifest, model="other"))
