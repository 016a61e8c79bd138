"""Patterns of names and paths."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from spq.common.patterns import pattern, settled


@pytest.mark.parametrize(
    ("text", "fits", "fits_not"),
    [
        ("Raw", {"raw", "RAW"}, {"raws", "a/raw"}),
        ("*.JPG", {"a.jpg", "b.JPG"}, {"a.jpeg"}),
        ("**/raw", {"raw", "a/raw", "a/b/raw"}, {"a/raw/b", "draw"}),
        ("2024/**/raw", {"2024/raw", "2024/a/b/raw"}, {"2024/draw", "a/2024/raw"}),
        ("raw/**", {"raw", "raw/a", "raw/a/b"}, {"rawa", "a/raw"}),
        ("best [of]", {"best [of]", "best o", "best f"}, {"best of"}),
        ("[2023] sea/*", {"[2023] sea/a.jpg", "2 sea/a.jpg"}, {"2023 sea/a.jpg"}),
        ("p[^0-2]", {"p3", "pa"}, {"p0", "p2"}),
        ("p[!0-2]", {"p3", "pa"}, {"p0", "p2"}),
        ("a.b", {"a.b"}, {"axb"}),
        ("caf\u00e9", {"caf\u00e9", "cafe\u0301", "CAF\u00c9"}, {"cafe"}),
        ("*", {"a", ".b", "a/b"}, set()),
    ],
)
def test_what_patterns_match(text: str, fits: set[str], fits_not: set[str]) -> None:
    for spelled in (text, unicodedata.normalize("NFD", text)):
        wanted = pattern(spelled)
        assert {name for name in fits | fits_not if wanted.fits(name)} == fits


@pytest.mark.parametrize("text", ["a/raw", "a//raw/", "a/./raw", "./a/raw", "/a/raw/", ".//a/raw"])
def test_a_path_may_be_spelled_in_several_ways(text: str) -> None:
    assert pattern(text).fits("a/raw")
    assert pattern(text).has_folders
    assert pattern(text).is_rooted == (text[0] in "./")


def test_a_slash_at_the_end_makes_no_path() -> None:
    assert not pattern("raw/").has_folders
    assert pattern("raw/").fits("raw")


def test_patterns_of_the_working_directory_are_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    monkeypatch.setenv("HOME", "/home/me")
    assert settled("../photos/raw") == (tmp_path / "photos" / "raw").as_posix()
    assert settled("x/../../photos") == (tmp_path / "photos").as_posix()
    assert settled("/a/../b") == Path(os.path.abspath("/b")).as_posix()  # noqa: PTH100
    assert [settled(text) for text in ("a/../b", "a..b", "*.jpg", "~me", "./a")] == ["b", "a..b", "*.jpg", "~me", "./a"]
    if os.name != "nt":
        assert settled("~/photos/raw") == "/home/me/photos/raw"


@pytest.mark.parametrize(
    ("text", "parts", "others"),
    [
        ("raw", {"raw/a.jpg", "b/RAW/c/a.jpg", "b/raw"}, {"raws/a.jpg", "b/draw/a.jpg", "raw.jpg"}),
        ("a/raw", {"a/raw/1.jpg", "x/a/raw/1.jpg"}, {"b/raw/1.jpg", "xa/raw/1.jpg", "a/x/raw/1.jpg"}),
        ("/a", {"a/1.jpg", "a"}, {"b/a/1.jpg", "ab/1.jpg"}),
        ("*.png", {"x/1.PNG", "x.png/1.jpg"}, {"x/1.pngs"}),
        ("a/**/c", {"a/c/1.jpg", "x/a/b/b/c"}, {"a/b/d", "ac"}),
    ],
)
def test_a_pattern_of_a_part_matches_whole_names_that_follow_each_other(
    text: str, parts: set[str], others: set[str]
) -> None:
    assert {path for path in parts | others if pattern(text).fits_part(path)} == parts
