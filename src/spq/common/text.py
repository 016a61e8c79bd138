"""File names as text that can be printed, as ids, and as cells of a table."""

from __future__ import annotations

import os
import unicodedata

_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
    "\t",
    "\r",
    "\n",
)  # a spreadsheet runs such cells
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def encodable(text: str) -> str:
    """Return `text` so that every encoding of a file or an answer can hold it: a byte that is not UTF-8 becomes `?`.

    >>> encodable("caf\\udce9.jpg")
    'caf?.jpg'
    """
    return text.encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """Return `text` as one line for a terminal: characters that command it, or reorder what it shows, are spelled out.

    >>> print(printable("\\x1b[2J"), printable("a\\u202egpj.exe"), printable("two\\nlines"))
    \\x1b[2J a\\u202egpj.exe two\\x0alines
    """
    line = encodable(text)
    if line.isascii() and line.isprintable():
        return line
    return "".join(_spelled(character) if _is_command(character) else character for character in line)


def cell(value: object) -> object:
    """Return a value for a table that a spreadsheet opens: text that it would run as a formula begins with an apostrophe.

    >>> cell("=1+1"), cell("a=b"), cell(-5)
    ("'=1+1", 'a=b', -5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _is_command(character: str) -> bool:
    return character in _REORDERING or unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _spelled(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def composed(text: str) -> str:
    """Return text with each letter and its accents as one character, so that two spellings of a name are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def lowered(text: str) -> str:
    """Return text as a search for words compares it: without upper case, and with accents composed."""
    return composed(text).lower()


def name_to_id(name: str) -> str:
    """Return a file's name as an id to print and to store: bytes that are not UTF-8 are spelled out, as in `caf\\xe9.jpg`.

    A backslash of the name itself is doubled, so that no other name has this id.

    >>> print(name_to_id("caf\\udce9.jpg"))
    caf\\xe9.jpg
    """
    name = name.replace("\\", "\\\\")
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
