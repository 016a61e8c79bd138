"""The decisions about copies as a table, and as a script that moves the dropped pictures to a trash folder."""

from __future__ import annotations

import base64
import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spq.common.files import absolute, expanded
from spq.common.text import cell, encodable
from spq.data.several import prefixes_of
from spq.data.source import Source
from spq.dupes.decisions import APART, KEEP
from spq.dupes.groups import LINK
from spq.dupes.trash_script import Move, trash_script
from spq.web.server.review_state import Judged, ReviewState

CSV_NAME, SCRIPT_NAME = "copies.csv", "move-copies.sh"
COLUMNS = (
    "group", "kind", "decision", "path", "file", "file_bytes", "kept", "reason", "bytes", "width", "height", "modified",
)  # fmt: skip
FileOf = Callable[[str], Path | None]  # the file of a picture, given its path in the collection


def decisions_csv(state: ReviewState, file_of: FileOf) -> bytes:
    """One row for each picture of each group, then one for each picture of decisions that are outdated."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, restval="")
    writer.writeheader()
    rows = [row for number, each in enumerate(state.groups, 1) for row in _rows(each, number, file_of)]
    for decision in state.left.values():
        rows += [
            {"decision": "outdated", "path": picture.path, "reason": "the group is not in the report any more"}
            for picture in decision.pictures
        ]
    writer.writerows({name: cell(_text(value)) for name, value in row.items()} for row in rows)
    return buffer.getvalue().encode()


def _rows(each: Judged, number: int, file_of: FileOf) -> list[dict[str, Any]]:
    group, dropped, why = each.group, set(each.dropped), each.group["why"]
    kept = next((group["items"][n]["path"] for n in sorted(each.kept)), "")
    rows = []
    for n, item in enumerate(group["items"]):
        decision = _decision(each, n)
        file = file_of(item["path"])
        rows.append(
            {
                "group": number,
                "kind": group["kind"],
                "decision": decision,
                "path": item["path"],
                **_file_fields(file),
                "kept": kept if n in dropped else "",
                "reason": "kept in another group"
                if n in each.stays
                else item["note"] or (why and f"suggested to keep: {why}"),
                "bytes": item["size"],
                "width": item["width"],
                "height": item["height"],
                "modified": item["time"],
            }
        )
    return rows


def _decision(each: Judged, n: int) -> str:
    if each.choice == APART:
        return "no duplicate"
    if each.choice != KEEP:
        return "outdated" if each.is_outdated else "open"
    return "drop" if n not in each.kept and n not in each.stays else "keep"


def decisions_script(state: ReviewState, file_of: FileOf, origin: Source) -> bytes:
    """The script for all dropped pictures that are files."""
    roots = [os.fspath(absolute(expanded(name))) for name in origin.names]
    prefixes = prefixes_of(origin)
    moves: dict[str, Move] = {}
    left_out = 0
    for each in state.groups:
        if not (dropped := each.dropped):
            continue
        items = each.group["items"]
        able = sorted(each.kept, key=lambda n: (items[n]["keep"] == LINK, n))
        keeper = next(((items[n], file) for n in able if (file := file_of(items[n]["path"]))), None)
        for n in dropped:
            file = file_of(items[n]["path"])
            if file is None or keeper is None:
                left_out += 1
                continue
            place = _place(os.fspath(file), items[n]["path"], roots, prefixes)
            is_same = each.group["hashes"][n] == each.group["hashes"][items.index(keeper[0])]
            move = Move(
                items[n]["path"], os.fspath(file), items[n]["size"], os.fspath(keeper[1]), keeper[0]["size"], place, is_same
            )  # fmt: skip
            moves.setdefault(move.file, move)
    trash = f"{roots[0].rstrip('/')}.trash" if roots else "spq.trash"
    return trash_script(moves.values(), trash, SCRIPT_NAME, left_out)


def _place(file: str, path: str, roots: Sequence[str], prefixes: Sequence[str]) -> str:
    """Where a file goes in the trash folder: as in its collection, with its real name."""
    for root, prefix in zip(roots, prefixes, strict=True):
        below = file.removeprefix(root.rstrip("/") + "/")
        if below != file and (not prefix or path.startswith(f"{prefix}/")):
            return f"{prefix}/{below}" if prefix else below
    return file.lstrip("/")


def _file_fields(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    data = os.fsencode(file)
    try:
        return {"file": data.decode()}
    except UnicodeDecodeError:
        shown = encodable(data.decode("utf-8", "surrogateescape"))
        return {"file": shown, "file_bytes": base64.b64encode(data).decode()}


def _text(value: object) -> object:
    return encodable(value) if isinstance(value, str) else value
