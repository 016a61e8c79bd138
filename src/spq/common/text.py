"""File names as text that can be printed, and as ids."""

from __future__ import annotations

import os


def printable(text: str) -> str:
    """Return `text` as one line that every encoding of a terminal, file or answer can hold.

    A byte that is not UTF-8 becomes `?`, a line break becomes a space.

    >>> printable("caf\\udce9.jpg"), printable("two\\nlines")
    ('caf?.jpg', 'two lines')
    """
    return " ".join(text.encode("utf-8", "replace").decode().splitlines())


def name_to_id(name: str) -> str:
    """Return a file's name as an id to print and to store: bytes that are not UTF-8 are spelled out, as in `caf\\xe9.jpg`.

    A backslash of the name itself is doubled, so that no other name has this id.

    >>> print(name_to_id("caf\\udce9.jpg"))
    caf\\xe9.jpg
    """
    name = name.replace("\\", "\\\\")
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
