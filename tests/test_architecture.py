"""The house: imports go down only, and the README's map knows every room."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "spq"
FLOORS = {
    "errors": 0, "system": 0, "config": 1, "data": 2, "model": 3, "learning": 4, "index": 4, "evaluation": 5, "api": 6, "app": 7,
}  # fmt: skip
ENTRANCES = {"__init__", "__main__"}  # of the package: they lead to the top, lazily
FORBIDDEN = {
    ("learning", "index"), ("learning", "evaluation"), ("index", "learning"), ("evaluation", "learning"),
}  # fmt: skip
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py" or path.parent == SOURCE)


def imports(tree: ast.AST) -> set[str]:
    """Dotted names below `spq` that a module imports, inside functions and for type checking too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("spq.") for name in found if name.startswith("spq.")}


def violations(module: str, tree: ast.AST) -> list[str]:
    """What a module at `module` (dotted, below spq) must not import."""
    room = module.split(".")[0]
    if room in ENTRANCES:
        return []
    bad = []
    for name in sorted(imports(tree)):
        other = name.split(".")[0]
        if other not in FLOORS:
            continue  # `from spq import __version__`
        up = FLOORS[other] > FLOORS[room]
        serving = (module == "app.server" or module.startswith("app.serving.")) and other in ("learning", "evaluation")
        if up or serving or (room, other) in FORBIDDEN:
            bad.append(f"spq.{module} imports spq.{name}")
    return bad


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def test_imports_go_down_only() -> None:
    bad = [line for path in MODULES for line in violations(dotted(path), ast.parse(path.read_text("utf-8")))]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("data.images", "from spq.model.artifact import Model"),
        ("learning.train", "def f():\n    import spq.evaluation.evaluate"),
        ("learning.train", "from spq.index import scan"),
        ("index.image_index", "def f():\n    from spq.learning.train import train"),
        ("evaluation.evaluate", "from spq import learning"),
        ("app.server", "from spq.learning.train import train"),
        ("app.serving.library", "def f():\n    from spq.evaluation import evaluate"),
        ("errors", "import spq.config"),
    ],
)
def test_an_import_that_goes_up_or_across_is_noticed(module: str, code: str) -> None:
    assert violations(module, ast.parse(code))


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("app.cli", "from spq.learning.train import train"),
        ("api", "from spq.learning.train import train"),
        ("index.image_index", "from spq.model.artifact import Model"),
        ("config", "from spq import __version__"),
    ],
)
def test_an_import_that_goes_down_is_fine(module: str, code: str) -> None:
    assert not violations(module, ast.parse(code))


def test_every_module_stands_on_a_floor() -> None:
    rooms = {dotted(path).split(".")[0] for path in MODULES}
    assert rooms - ENTRANCES <= set(FLOORS)


def test_the_file_map_of_the_readme_names_every_module_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    file_map = readme.split("## File map", 1)[1].split("```")[1]
    mapped, room = set(), ""
    for line in file_map.splitlines():
        words = line.split() or [""]
        if words[0].endswith("/") and line.startswith("  "):
            room = words.pop(0)
        elif not line.startswith("     "):
            room = ""
        if words[0].endswith(".py"):
            mapped.add(room + words[0])
    modules = {path.relative_to(SOURCE).as_posix() for path in MODULES if path.name != "__init__.py"}
    assert mapped == modules


def test_importing_spq_or_its_command_line_loads_nothing_heavy() -> None:
    code = "import sys, spq, spq.app.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "spq.app.cli" in loaded
    assert not {
        "torch",
        "numpy",
        "PIL",
        "faiss",
        "timm",
        "matplotlib",
        "pyarrow",
        "fastapi",
        "pydantic",
    } & set(loaded)
