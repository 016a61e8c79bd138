"""What spq is installed with: every distribution that `pip install spq-retrieval` brings, and its licence.

The facts are those of the environment that this runs in. `python docs/_ext/dependency_table.py` prints the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME = "spq-retrieval"
ONLY_NAMES = {"cuda-toolkit": "no files of its own"}  # packages that only name others


class Dependency(NamedTuple):
    """A distribution that is installed with spq."""

    name: str
    version: str
    licence: str
    needed_by: str
    is_optional: bool


def dependencies() -> list[Dependency]:
    """Every distribution that spq needs, directly or not, by name; those of extras too if they are installed."""
    found: dict[str, Dependency] = {}
    extras = set(distribution(NAME).metadata.get_all("Provides-Extra") or []) - {"dev", "docs", "bench"}
    for chosen in ("", *sorted(extras)):
        queue = [(requirement, "spq") for requirement in _requirements(distribution(NAME), {chosen})]
        while queue:
            requirement, parent = queue.pop(0)
            name = canonicalize_name(requirement.name)
            try:
                package = distribution(name)
            except PackageNotFoundError:
                continue  # of an extra that is not installed
            if name not in found:
                by = parent if not chosen or parent != "spq" else f"extra `{chosen}`"
                found[name] = Dependency(name, package.version, licence(package), by, bool(chosen))
                queue += [(needed, name) for needed in _requirements(package, {"", *requirement.extras})]
    return [found[name] for name in sorted(found)]


def licence(package: Distribution) -> str:
    """The licence of a distribution as its metadata has it, in short."""
    facts = package.metadata
    if expression := facts.get("License-Expression"):
        return str(expression)
    text = " ".join((facts.get("License") or "").split())
    if text and text not in ("UNKNOWN", "Dual License") and len(text) <= 40:  # else it is the whole text, or names none
        return text
    classifiers = [value for value in facts.get_all("Classifier") or [] if value.startswith("License :: ")]
    names = [value.rpartition(" :: ")[2] for value in classifiers if not value.endswith("OSI Approved")]
    return " or ".join(names) or ONLY_NAMES.get(facts["Name"]) or _first_line(package)


def _first_line(package: Distribution) -> str:
    """The first line of the licence's text, if the distribution has it."""
    files = [file for file in package.files or [] if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))]
    lines = files[0].read_text("utf-8").splitlines() if files else []
    return next((line.strip() for line in lines if line.strip()), "not stated")


def table() -> str:
    """The dependencies as a Markdown table."""
    lines = ["| Package | Version | Licence | Needed by |", "|---|---|---|---|"]
    lines += [f"| {d.name} | {d.version} | {d.licence} | {d.needed_by} |" for d in dependencies()]
    return "\n".join(lines) + "\n"


def _requirements(package: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in package.requires or []:
        requirement = Requirement(re.sub(r"\s+", " ", text))
        marker = requirement.marker
        if (marker is None and "" in extras) or (marker and any(marker.evaluate({"extra": extra}) for extra in extras)):
            yield requirement


if __name__ == "__main__":
    print(table())
