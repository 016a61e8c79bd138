"""What README and guides tell people to type exists."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer.main

import spq
from spq.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {
    path: path.read_text("utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if path.stem != "log"
}
GUIDES = {"usage", "results"}  # pages whose commands are checked, beside the README
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(language: str) -> list[str]:
    text = "\n".join(page for path, page in PAGES.items() if path.stem in {"README", *GUIDES})
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def shell_lines() -> list[list[str]]:
    """Every command of the shell blocks as words; `a && b` are two."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    parts = (part for line in lines for part in line.split("&&"))
    return [words for part in parts if (words := shlex.split(part, comments=True))]


SPQ_LINES = [words for words in shell_lines() if Path(words[0]).name == "spq"]


@pytest.mark.parametrize("words", SPQ_LINES, ids=" ".join)
def test_every_spq_line_parses(words: list[str]) -> None:
    command = COMMANDS[words[1]]
    command.make_context(words[1], words[2:]).close()  # refuses unknown options, missing and surplus arguments


def test_the_commands_that_a_newcomer_needs_are_there() -> None:
    assert {"train", "index", "search"} <= {words[1] for words in SPQ_LINES}
    assert ["make", "demo"] in shell_lines()
    assert ["make", "test"] in shell_lines()


def test_every_make_target_exists_and_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, flags=re.MULTILINE))
    assert {"help", "setup", "demo", "test", "check", "bench"} <= targets
    assert {words[1] for words in shell_lines() if words[0] == "make"} <= targets


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_compile_and_name_what_exists(code: str) -> None:
    tree = ast.parse(code)
    known: dict[str, object] = {}  # name in the block -> class of spq
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "spq":
            known |= {alias.name: getattr(spq, alias.name) for alias in node.names}
    assert known
    checked = 0
    for statement in tree.body:
        for call in [node for node in ast.walk(statement) if isinstance(node, ast.Call)]:
            function = call.func
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                owner = known.get(function.value.id)
                if owner is not None:
                    check_call(getattr(owner, function.attr), call)
                    checked += 1
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            maker = statement.value.func
            made_by = maker.value.id if isinstance(maker, ast.Attribute) and isinstance(maker.value, ast.Name) else ""
            if made_by in ("SPQ", "ImageIndex") and isinstance(statement.targets[0], ast.Name):
                known[statement.targets[0].id] = known[made_by]
    assert checked


def check_call(function: object, call: ast.Call) -> None:
    """Keywords and the number of arguments fit the signature."""
    assert callable(function)
    signature = inspect.signature(function)
    arguments: list[object] = [None] * len(call.args)
    if "self" in signature.parameters:
        arguments.append(None)
    signature.bind(*arguments, **{str(keyword.arg): None for keyword in call.keywords})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGES[path]):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


def test_the_readme_is_a_front_page() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README) <= 9000


def test_recipes_that_the_readme_names_exist() -> None:
    for words in SPQ_LINES:
        if "--recipe" in words:
            name = words[words.index("--recipe") + 1]
            assert name.endswith(".toml") or (ROOT / "src" / "spq" / "recipes" / f"{name}.toml").exists()
