"""What the replicas of a server tell each other: their counts, and how the sync of the first one goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from spq.common.files import Replacing
from spq.common.json_file import JsonError, read_json


class Peers:
    """A replica, and a folder where each replica writes what the others need.

    Args:
        number: of this replica.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number

    def write(self, metrics: str, sync: Mapping[str, Any]) -> None:
        """Note the counts of this replica, as text of Prometheus, and what it knows about syncs."""
        with suppress(OSError), Replacing(self._file(self.number)) as temporary:
            temporary.write_text(json.dumps({"metrics": metrics, "sync": dict(sync)}), "utf-8")

    def metrics(self, own: str) -> str:
        """The counts of all replicas. own: those of this one, as they are now."""
        texts = {self.number: own}
        for file in self.folder.glob("*.json"):
            if file.stem.isdecimal() and int(file.stem) != self.number and (found := _read(file)):
                texts[int(file.stem)] = str(found.get("metrics", ""))
        return merged({str(number): texts[number] for number in sorted(texts)})

    def sync(self) -> Mapping[str, Any] | None:
        """What the first replica knows about syncs."""
        found = _read(self._file(0)).get("sync")
        return found if isinstance(found, dict) else None

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.json"


def merged(texts: Mapping[str, str]) -> str:
    r"""Metrics of several replicas as one text, each sample with a label `replica`.

    >>> print(merged({"0": "# HELP a A.\n# TYPE a gauge\na 1\n", "1": '# HELP a A.\n# TYPE a gauge\na{b="c"} 2\n'}), end="")
    # HELP a A.
    # TYPE a gauge
    a{replica="0"} 1
    a{replica="1",b="c"} 2
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for replica, text in texts.items():
        name = ""
        for line in text.splitlines():
            if line.startswith("#"):
                name = line.split(" ", 3)[2]
                lines = heads.setdefault(name, [])
                if line not in lines:
                    lines.append(line)
            else:
                samples.setdefault(name, []).append(_labelled(line, replica))
    families = [[*heads[name], *samples.get(name, [])] for name in heads]
    return "\n".join(line for family in families for line in family) + "\n"


def _labelled(sample: str, replica: str) -> str:
    label = f'replica="{replica}"'
    name, brace, rest = sample.partition("{")
    if brace:
        return f"{name}{{{label},{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except (OSError, JsonError):
        return {}
    return found if isinstance(found, dict) else {}
