from __future__ import annotations

import pytest

from spq.data.source import Source


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("*.png", {"a/1.png", "b/c/2.png"}),
        ("c", {"b/c/2.png", "b/c/3.jpg"}),
        ("b/*", {"b/c/2.png", "b/c/3.jpg"}),
        ("b/c/", {"b/c/2.png", "b/c/3.jpg"}),
        ("c/3.jpg", set()),
        ("1", set()),
    ],
)
def test_a_pattern_matches_names_or_with_a_slash_paths(pattern: str, left_out: set[str]) -> None:
    paths = {"a/1.png", "b/c/2.png", "b/c/3.jpg"}
    source = Source(("photos",), (pattern,))
    assert {path for path in paths if source.excludes(path)} == left_out


def test_a_source_names_its_collections_and_its_patterns() -> None:
    assert str(Source(("a", "b"))) == "a, b"
    assert str(Source(("a",), ("x", "y"))) == "a (without x, y)"
