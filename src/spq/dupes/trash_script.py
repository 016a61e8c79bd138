r"""A POSIX shell script that moves pictures to a trash folder. spq itself moves and deletes nothing.

Names are quoted byte by byte, so every name that a disk can hold is safe in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from spq.common.text import printable

HEAD = """#!/bin/sh
# Moves pictures that you chose to drop into a trash folder. Nothing is deleted, and no file is overwritten.
#
#     sh {name}                  only print what would be moved
#     sh {name} --go             move them
#     sh {name} --go --trash DIR move them to another folder
#
# A picture stays where it is if it or the kept picture has changed, or if the kept picture is gone.
set -u
LC_ALL=C
export LC_ALL
trash={trash}
go=
while [ $# -gt 0 ]; do
  case $1 in
    --go) go=1 ;;
    --trash) [ $# -gt 1 ] || {{ echo "--trash needs a folder" >&2; exit 2; }}; shift; trash=$1 ;;
    *) echo "unknown option: $1; use --go and --trash DIR" >&2; exit 2 ;;
  esac
  shift
done
case $trash in
  /*) ;;
  *) trash=$PWD/$trash ;;
esac
moved=0
bytes=0
stay=0

stays() {{
  stay=$((stay + 1))
  printf 'stays: %s: %s\\n' "$1" "$2" >&2
}}

has_size() {{
  [ "$(($(wc -c < "$1")))" -eq "$2" ]
}}

# name to show, file, its size, kept file, its size, place in the trash, "same" if both have the same bytes
move() {{
  to=$trash/$6
  if [ -L "$2" ] || [ ! -f "$2" ]; then stays "$1" "it is gone, or a link"
  elif [ -L "$4" ] || [ ! -f "$4" ]; then stays "$1" "the kept picture is gone, or a link"
  elif [ "$2" -ef "$4" ]; then stays "$1" "it and the kept picture are one file"
  elif ! has_size "$2" "$3"; then stays "$1" "its size has changed since it was compared"
  elif ! has_size "$4" "$5"; then stays "$1" "the size of the kept picture has changed"
  elif [ "$7" = same ] && ! cmp -s -- "$2" "$4"; then stays "$1" "it is no longer the same as the kept picture"
  elif [ -e "$to" ] || [ -L "$to" ]; then stays "$1" "the trash folder has a file of this name"
  elif [ -z "$go" ]; then
    printf 'would move: %s\\n' "$1"
    moved=$((moved + 1)) bytes=$((bytes + $3))
  elif mkdir -p -- "${{to%/*}}" && mv -n -- "$2" "$to" && [ ! -e "$2" ]; then
    moved=$((moved + 1)) bytes=$((bytes + $3))
  else stays "$1" "it could not be moved"
  fi
}}

"""
FOOT = """
if [ -n "$go" ]; then printf '%s moved to %s: %s bytes\\n' "$moved" "$trash" "$bytes"
else printf '%s would be moved: %s bytes. Nothing was moved; add --go.\\n' "$moved" "$bytes"
fi
if [ "$stay" -gt 0 ]; then
  printf '%s stay where they are; see above\\n' "$stay" >&2
  exit 1
fi
"""


@dataclass(frozen=True)
class Move:
    """A picture to move, and the one that is kept.

    Attributes:
        path: to show. file, kept: absolute paths as the system knows them. size, kept_size: in bytes.
        place: relative path in the trash folder. is_same: whether both have the same bytes.
    """

    path: str
    file: str
    size: int
    kept: str
    kept_size: int
    place: str
    is_same: bool


def trash_script(moves: Iterable[Move], trash: str, name: str, left_out: int = 0) -> bytes:
    """Return the script.

    Args:
        trash: folder that it moves to by default, absolute. name: of the script. left_out: pictures that it cannot move.
    """
    parts = [HEAD.format(name=name, trash="@").encode().replace(b"trash=@", b"trash=" + quoted(trash), 1)]
    for each in moves:
        words = [quoted(printable(each.path)), quoted(each.file), b"%d" % each.size, quoted(each.kept)]
        words += [b"%d" % each.kept_size, quoted(each.place), b"same" if each.is_same else b"like"]
        parts.append(b"move " + b" ".join(words) + b"\n")
    if left_out:
        parts.append(f"stay=$((stay + {left_out}))\necho '{left_out} pictures are in archives' >&2\n".encode())
    return b"".join([*parts, FOOT.encode()])


def quoted(text: str) -> bytes:
    r"""A word of the shell.

    >>> quoted("a b"), quoted("it's"), quoted("caf\udce9")
    (b"'a b'", b"'it'\\''s'", b"'caf\xe9'")
    """
    return b"'" + os.fsencode(text).replace(b"'", b"'\\''") + b"'"
