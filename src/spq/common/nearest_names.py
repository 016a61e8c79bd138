"""The known names that are nearest to one that a user wrote."""

from __future__ import annotations

from collections.abc import Iterable


def nearest_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the names that differ from `name` in few letters or only in case, the nearest first.

    A third of the letters may be wrong, missing, added, or exchanged with their neighbour, but at least one.

    >>> nearest_names("widht", ["path", "width", "height"])
    ['width']
    >>> nearest_names("Label", ["label", "shop"])
    ['label']
    """
    most = max(1, len(name) // 3)
    distances = {other: _changes(name.lower(), other.lower()) for other in known}
    return sorted((other for other in distances if distances[other] <= most), key=lambda other: distances[other])


def _changes(a: str, b: str) -> int:
    """How many letters to change, add, drop or exchange with their neighbour to make `b` of `a`."""
    before, last = list[int](), list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            least = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and other == a[i - 2]:
                least = min(least, before[j - 2] + 1)
            row.append(least)
        before, last = last, row
    return last[-1]
