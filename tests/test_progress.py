from __future__ import annotations

import re

import pytest

from spq.cli import progress


def test_without_a_terminal_progress_is_a_line_from_time_to_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.counting("encoding") as update:
        update(10, 1000, 0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.counting("encoding") as update:
        update(500, 1000, 0)
        update(1000, 1000, 3)
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"500 of 1,000  [\d,]+ images/s, 0\.0 minutes left", first)
    assert re.fullmatch(r"1,000 of 1,000  [\d,]+ images/s, 3 unreadable, 0\.0 minutes left", last)


def test_on_a_terminal_a_bar_shows_images_per_second_and_unreadable_pictures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes it for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with progress.counting("encoding") as update:
        update(500, 1000, 3)
    shown = capsys.readouterr().err
    assert "50 %" in shown
    assert "images/s, 3 unreadable" in shown
    assert "minutes left" not in shown
