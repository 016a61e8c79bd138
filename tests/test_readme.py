"""The README is a front page: short, in a fixed order, and its links lead somewhere. test_docs.py runs its commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if "_build" not in path.parts]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_the_readme_is_a_front_page() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README) <= 9000
    assert re.findall(r"^## (.*)", README, flags=re.MULTILINE) == [
        "Install",
        "Two commands to try it",
        "Your own folder",
        "Python",
        "Results",
        "Search page",
        "Documentation",
        "Limits",
        "Citation",
    ]


def test_the_first_commands_are_those_that_a_newcomer_needs() -> None:
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL))
    commands = [" ".join(line.split()[:2]) for line in shell.splitlines() if line.startswith(("make ", "spq "))]
    assert commands == ["make demo", "make test", "spq serve", "spq train", "spq index", "spq search"]


def test_the_map_of_folders_is_short_and_names_what_exists() -> None:
    (tree,) = re.findall(r"^```text\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(tree.splitlines()) <= 15
    root = ROOT
    for line in tree.splitlines():
        names = re.split(r"\s{2,}", line.strip())
        for name in names[:-1] if len(names) > 1 else names:
            folder = ROOT / "src" / "spq" if line.startswith("  ") else root
            assert (folder / name).exists() or (folder / f"{name}.py").exists(), name


def test_make_help_lists_every_target() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, flags=re.MULTILINE))
    assert {"help", "setup", "demo", "test", "check", "docs", "bench", "clean"} <= targets


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target
