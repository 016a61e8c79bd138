"""Paths of pictures for other programs: absolute, and with their real bytes."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterable

from spq.cli.output import show
from spq.common.files import absolute, expanded
from spq.common.text import encodable, printable
from spq.data.folder import file_of
from spq.data.open import open_images
from spq.data.several import prefixes_of
from spq.data.source import Source
from spq.errors import DataError


def file_fields(file: str) -> dict[str, str]:
    """An absolute path as fields of JSON and CSV; none for a picture inside a container.

    A name that is not UTF-8 has `?` for each odd byte, and all of its bytes in base64 in `file_bytes`. The encoding of the
    system does not count: LANG=C has another one, and the names on the disk are the same.

    >>> file_fields("/photos/a.jpg")
    {'file': '/photos/a.jpg'}
    >>> file_fields("/caf\\udce9.jpg")
    {'file': '/caf?.jpg', 'file_bytes': 'L2NhZukuanBn'}
    """
    data = os.fsencode(file)
    try:
        return {"file": data.decode()} if file else {}
    except UnicodeDecodeError:
        shown = encodable(data.decode("utf-8", "surrogateescape"))
        return {"file": shown, "file_bytes": base64.b64encode(data).decode()}


def print_paths(files: Iterable[str], with_nul: bool) -> None:
    """Write paths to stdout as the system knows them, byte by byte: one on a line, or each with a zero byte after it.

    A terminal gets names that cannot command it.
    """
    sys.stdout.flush()
    if sys.stdout.isatty():
        for file in files:
            show(printable(file))
        return
    for file in files:
        sys.stdout.buffer.write(os.fsencode(file) + (b"\0" if with_nul else b"\n"))
    sys.stdout.buffer.flush()


def file_finder(origin: Source) -> Callable[[str], str]:
    """Return a function from the id of a picture to its absolute path; empty inside a container, or if it is gone.

    A collection is listed only if a path cannot be told from the id.
    """
    beginnings = [f"{prefix}/" if prefix else "" for prefix in prefixes_of(origin)]
    roots = dict(
        sorted(zip(beginnings, (absolute(expanded(name)) for name in origin.names), strict=True), reverse=True)
    )  # "" fits all, so it is last
    listed: dict[str, str] = {}

    def find(id_: str) -> str:
        prefix = next((prefix for prefix in roots if id_.startswith(prefix)), None)
        found = None if prefix is None else file_of(roots[prefix], id_.removeprefix(prefix))
        if found:
            return os.fspath(found)
        if not listed:
            listed.update(_listed(origin))
        return listed.get(id_, "")

    return find


def _listed(origin: Source) -> dict[str, str]:
    """id -> absolute path of all pictures."""
    try:
        images = open_images(origin)
    except DataError:  # it is not mounted
        return {"": ""}
    paths = ((id_, images.path(position)) for position, id_ in enumerate(images.ids))
    return {"": "", **{id_: os.fspath(path) for id_, path in paths if path}}
