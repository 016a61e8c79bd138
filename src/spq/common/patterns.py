"""Patterns of names and paths, as in a shell. Upper and lower case are the same, and so are the two spellings of an accent."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from functools import lru_cache

from spq.common.text import composed

_ANY_FOLDERS = {
    "**/": "(?:.*/)?",
    "/**/": "/(?:.*/)?",
    "/**": "(?:/.*)?",
}  # `**` stands for any number of folders, also none
_FLAGS = re.IGNORECASE | re.DOTALL
_TOKENS = re.compile(r"(^\*\*/|/\*\*/|/\*\*$)")


class Pattern:
    """A pattern of a name, or with a `/` of a path.

    Besides `*`, `?` and `[abc]` it may have `**` for any number of folders. Brackets also stand for themselves, so that a
    folder `best [of]` can be named as it is.

    Attributes:
        has_folders: whether it has a `/`, so it is one of paths. is_rooted: whether it begins with `/` or `./`.
    """

    def __init__(self, text: str) -> None:
        clean = re.sub(r"/(\./|/)+", "/", f"/{text}" if text.startswith("./") else text)
        self.is_rooted = clean.startswith("/")
        self.text = composed(clean.strip("/"))
        self.has_folders = self.is_rooted or "/" in self.text
        both = _regex(self.text)
        self._match = re.compile(both, _FLAGS).fullmatch
        start = "^" if self.is_rooted else "(?:^|(?<=/))"
        self._search = re.compile(f"{start}(?:{both})(?=/|$)", _FLAGS).search

    def fits(self, text: str) -> bool:
        """Whether the pattern matches a name or a path, which begins with no `/`."""
        return bool(self._match(composed(text)))

    def fits_part(self, path: str) -> bool:
        """Whether the pattern matches a folder or the file of a path, or several of them that follow each other."""
        return bool(self._search(composed(path)))


@lru_cache(10_000)
def pattern(text: str) -> Pattern:
    """Return the pattern of a text.

    >>> [pattern(text).fits("2024/raw/A.JPG") for text in ("2024/*", "**/raw/**", "2024/**/a.jpg", "raw")]
    [True, True, True, False]
    >>> [pattern(text).fits("b.jpg") for text in ("[!a]*", "[^a]*", "[^b]*", "b[.]jpg")]
    [True, True, False, True]
    """
    return Pattern(text)


def settled(text: str) -> str:
    """Return a pattern that means the same in any working directory: `~` and `..` are what they are now.

    >>> settled("2024/raw"), settled("a/../b"), settled("/tmp/../photos") == os.path.abspath("/photos").replace(os.sep, "/")
    ('2024/raw', 'b', True)
    """
    text = text.replace("\\", "/") if os.sep == "\\" else text
    if text.startswith("~/"):
        text = os.path.expanduser(text)  # noqa: PTH111 (a Path fails without a home)
    if ".." not in text.split("/"):
        return text
    plain = posixpath.normpath(text)
    return os.path.abspath(plain).replace(os.sep, "/") if plain.startswith(("..", "/")) else plain  # noqa: PTH100


def _regex(text: str) -> str:
    usual = text.replace("[^", "[!")  # `[^a]` is what regular expressions and bash have for `[!a]`
    return "|".join(dict.fromkeys(map(_translated, (usual, text.replace("[", "[[]")))))


def _translated(text: str) -> str:
    # fnmatch puts `(?s:` before what it translates, and three characters behind
    return "".join(_ANY_FOLDERS.get(part) or fnmatch.translate(part)[4:-3] for part in _TOKENS.split(text))
