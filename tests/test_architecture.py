"""The house: imports go down only, files form no circle, and the map of the house knows every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "spq"
BELOW = {  # what a folder may import, beside `common`, `config` and `errors`
    "errors": set(),
    "common": set(),
    "config": set(),
    "data": set(),
    "pq": set(),
    "model": {"data"},
    "training": {"model", "data"},
    "index": {"model", "pq", "data"},
    "evaluation": {"model", "pq", "data"},
    "dupes": {"index", "model", "pq", "data"},
    "web": {"dupes", "index", "model", "pq", "data"},
    "api": {"training", "index", "evaluation", "model", "pq", "data"},
    "estimator": {"api"},
    "scale": {"api", "index", "evaluation", "model", "pq", "data"},
    "cli": {"scale", "api", "web", "dupes", "training", "index", "evaluation", "model", "pq", "data"},
}  # fmt: skip
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS = 400, 40, 6
MOST_COLUMNS = 120  # of the page; ruff checks Python
EVERYWHERE = {"common", "config", "errors"}
PQ_NEEDS = {"numpy", "faiss"}  # pq is a library of its own
ENTRANCES = {"__init__", "__main__"}  # of the package: they lead to the top, lazily
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
    folder = module.split(".")[0]
    if folder in ENTRANCES:
        return []
    bad = []
    for name in sorted(imports(tree)):
        other = name.split(".")[0]
        if other == "__version__":
            continue
        within = other == folder and not _across(module, name)
        base = other == "errors" or (other in EVERYWHERE and folder not in EVERYWHERE)
        if not (within or other in BELOW[folder] or (base and folder not in ("errors", "common"))):
            bad.append(f"spq.{module} imports spq.{name}")
    return bad


def _across(module: str, name: str) -> bool:
    """Server and site import what they share from `web.view` and `web.thumbnail`, and nothing of each other."""
    sides = {"web.server": "web.site", "web.site": "web.server"}
    return any(module.startswith(f"{side}.") and name.startswith(other) for side, other in sides.items())


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """A circle of imports for each module that is on one, as the way round it."""
    found = []
    for start in graph:
        ways, seen = [[start]], set[str]()
        while ways:
            way = ways.pop()
            for other in graph[way[-1]]:
                if other == start:
                    found.append([*way, start])
                    ways.clear()
                    break
                if other not in seen:
                    seen.add(other)
                    ways.append([*way, other])
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def test_imports_go_down_only() -> None:
    bad = [line for path in MODULES for line in violations(dotted(path), ast.parse(path.read_text("utf-8")))]
    assert not bad, "\n".join(bad)


def test_no_files_import_each_other_in_a_circle() -> None:
    names = {dotted(path) for path in MODULES if path.parent != SOURCE}
    graph = {dotted(p): imports(ast.parse(p.read_text("utf-8"))) & names for p in MODULES if p.parent != SOURCE}
    assert not circles(graph)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"], ["c", "b", "c"]]


def test_pq_needs_numpy_and_faiss_alone() -> None:
    for path in (SOURCE / "pq").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            outside = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"spq"}
            assert outside <= PQ_NEEDS, path


def test_no_folder_holds_most_of_the_lines() -> None:
    lines: dict[str, int] = {}
    for path in MODULES:
        folder = dotted(path).split(".")[0]
        lines[folder] = lines.get(folder, 0) + len(path.read_text("utf-8").splitlines())
    assert max(lines.values()) < 0.3 * sum(lines.values()), lines


def test_no_file_has_more_than_400_lines() -> None:
    lines = {
        path.relative_to(SOURCE).as_posix(): len(path.read_text("utf-8").splitlines()) for path in SOURCE.rglob("*.py")
    }
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


def too_large(tree: ast.AST) -> list[str]:
    """Functions with more than 40 lines, or more than six parameters beside `self` and `cls`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            parameters = len([name for name in names if name not in ("self", "cls")])
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION or parameters > MOST_PARAMETERS:
                found.append(f"{node.name}: {lines} lines, {parameters} parameters")
    return found


def test_functions_of_training_are_short_and_take_few_parameters() -> None:
    found = {
        dotted(path): too_large(ast.parse(path.read_text("utf-8"))) for path in (SOURCE / "training").rglob("*.py")
    }
    assert not {name: functions for name, functions in found.items() if functions}


def test_a_function_that_is_too_large_is_noticed() -> None:
    seven = "class A:\n    def __init__(self, a, b, c, d, *, e, f, g): pass"
    assert too_large(ast.parse(seven)) == ["__init__: 1 lines, 7 parameters"]
    assert not too_large(ast.parse(seven.replace(", g", "")))
    body = "async def f():\n" + 40 * "    x = 1\n"
    assert too_large(ast.parse(body)) == ["f: 41 lines, 0 parameters"]
    assert not too_large(ast.parse(body.replace("    x = 1\n", "", 1)))


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("data.decode", "from spq.model.model import Model"),
        ("pq.tables", "from spq.index.store import Manifest"),
        ("training.train", "def f():\n    import spq.evaluation.evaluate"),
        ("training.train", "from spq.pq import scan"),
        ("index.image_index", "def f():\n    from spq.training.train import train"),
        ("evaluation.evaluate", "from spq import training"),
        ("web.server.app", "from spq.training.train import train"),
        ("web.server.library", "def f():\n    from spq.evaluation import evaluate"),
        ("web.site.content", "def f():\n    from spq.web.server.library import Library"),
        ("common.files", "from spq.errors import SPQError"),
        ("errors", "import spq.config"),
        ("index.encode", "from spq.scale.job import Job"),
        ("web.server.app", "from spq.scale import urls"),
    ],
)
def test_an_import_that_goes_up_or_across_is_noticed(module: str, code: str) -> None:
    assert violations(module, ast.parse(code))


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("cli.main", "from spq.training.train import train"),
        ("api", "from spq.training.train import train"),
        ("index.image_index", "from spq.model.model import Model"),
        ("web.site.content", "from spq.web import view"),
        ("web.server.routes", "from spq.web.thumbnail import thumbnail_name"),
        ("config", "from spq import __version__"),
    ],
)
def test_an_import_that_goes_down_is_fine(module: str, code: str) -> None:
    assert not violations(module, ast.parse(code))


def test_every_folder_has_a_rule() -> None:
    folders = {dotted(path).split(".")[0] for path in MODULES}
    assert folders - ENTRANCES == set(BELOW)


def test_the_map_of_the_house_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    mapped, folder = set(), ""
    for line in text.split("## Every file", 1)[1].splitlines():
        if line.startswith("### "):
            folder = "" if "`src/spq/`" in line else line.split("`")[1]
        elif line.startswith("| `"):
            mapped.add(folder + line.split("`")[1])
    assert mapped == {path.relative_to(SOURCE).as_posix() for path in MODULES if path.name != "__init__.py"}


SAME_NAME = {  # file names that several folders use, each with its reason
    "__init__.py": "Python needs it",
}


def test_each_module_and_script_has_a_name_of_its_own() -> None:
    folders: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*")):
        if path.suffix in (".py", ".js", ".html", ".css"):
            folders.setdefault(path.name, []).append(path.parent.relative_to(SOURCE).as_posix())
    repeated = {name: places for name, places in folders.items() if len(places) > 1}
    assert set(repeated) == set(SAME_NAME), repeated


def test_files_of_the_page_are_short_and_their_lines_too() -> None:
    files = [path for path in (SOURCE / "web").rglob("*") if path.suffix in (".js", ".ts", ".css", ".html")]
    assert len(files) > 40
    for path in files:
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) <= MOST_LINES or path.name.startswith("words_"), path  # a list of texts
        assert not [n for n, line in enumerate(lines, 1) if len(line) > MOST_COLUMNS], path


def test_importing_spq_or_its_command_line_loads_nothing_heavy() -> None:
    code = "import sys, spq, spq.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "spq.cli.main" in loaded
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
        "fsspec",
        "ray",
    } & set(loaded)


TESTED_IN = {  # modules without a test file of their name: parts that users reach through another name
    "errors": "main",
    "cli.backing_up": "backup",
    "cli.options": "readme",
    "cli.output": "main",
    "cli.reports.dupes_report": "dupes_command",
    "cli.serve_command": "serve",
    "common.timeout": "hub",
    "config.quantizer_config": "quantizer",
    "config.recipe_files": "config",
    "config.sections": "config",
    "config.strict": "config",
    "data.fit": "work",
    "data.folder": "open",
    "data.image_set": "open",
    "data.multilabel": "protocols",
    "data.named": "open",
    "data.parquet": "pages",
    "data.thrift": "pages",
    "dupes.facts": "find",
    "evaluation.comparison_tables": "compare",
    "evaluation.curves": "compare",
    "web.server.review_export": "review",
    "web.server.review_routes": "review",
    "web.server.review_schemas": "review",
    "index.arrow_columns": "export_vectors",
    "index.committed": "mend",
    "index.connection": "store",
    "index.described": "export_vectors",
    "index.replacing": "recode",
    "index.codebooks": "model_copy",
    "index.open_tables": "store",
    "index.filter_tree": "filter",
    "index.originals": "server_search",
    "index.shards.holding": "placement",
    "index.shards.live": "sharding",
    "index.shards.open_store": "sharding",
    "index.shards.shard": "sharding",
    "index.shards.shard_facts": "sharding",
    "index.shards.shard_filter": "sharding",
    "index.shards.shard_order": "server_shards",
    "index.shards.shard_writer": "from_tables",
    "index.shards.verify_shards": "sharding",
    "index.table_reader": "store",
    "index.workplace": "backup",
    "model.model_card": "model",
    "model.on_class": "evaluating",
    "model.onnx": "export",
    "pq.questions": "spread",
    "scale.download": "published",
    "scale.generation": "published",
    "scale.inputs": "plan",
    "training.callbacks": "train",
    "training.context": "train",
    "training.fresh_features": "own_views",
    "training.log": "run",
    "training.stages.self_training": "train_clusters",
    "training.stages.train_network": "train",
    "training.trained": "train",
    "web.server.app": "serve",
    "web.server.asking": "server_errors",
    "web.server.background": "watch",
    "web.server.band_routes": "calibration",
    "web.server.authority": "guard",
    "web.server.chosen": "zip_stream",
    "web.server.clients": "guard",
    "web.server.derived": "explore",
    "web.server.explore_routes": "explore",
    "web.server.library": "server_search",
    "web.server.nearness": "calibration",
    "web.server.problems": "server_errors",
    "web.server.prometheus": "server_items",
    "web.server.routes": "openapi",
    "web.server.schemas": "openapi",
    "web.server.service": "server_errors",
    "web.server.settings": "serve",
    "web.server.values": "facets",
    "web.site.columns": "site_scripts",
    "web.site.content": "web_site",
    "web.site.runtime": "web_site",
    "web.site.site": "web_site",
    "web.site.site_folder": "web_site",
    "web.site.site_page": "web_site",
    "web.site.thumbnail_files": "web_site",
    "web.view": "server_items",
    "web.inline": "proxy",
    "web.server.refusal_page": "proxy",
}


def test_each_module_has_a_test_file_of_its_name_or_is_listed() -> None:
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    without = {dotted(path) for path in MODULES if not path.stem.startswith("__") and path.stem not in tests}
    assert without == set(TESTED_IN)
    assert set(TESTED_IN.values()) <= tests
