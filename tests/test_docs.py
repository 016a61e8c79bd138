"""README and the pages of the site: every command and every code block runs here, page by page and in order.

`shortened` makes trainings small. `NOT_RUN` lists the commands that cannot run in a test; the real parser still reads them.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import typer.main
from starlette.testclient import TestClient

from spq import SPQ, ImageIndex
from spq.cli.main import app, run
from spq.config import load_recipe
from spq.web.server.app import Settings, create_app

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(SITE.rglob("*.md"))]
PAGES = [path for path in PAGES if path != SITE / "log.md" and SITE / "_build" not in path.parents]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
RUN = {"sh", "python", "py"}
SHOWN = {"text", "yaml", "bibtex", "{toctree}", "{include}", "{eval-rst}"}  # no commands of a user, no code

NOT_RUN = [  # pattern of a command, and why no test runs it
    (r"make \w+", "runs all of this; the target must be in the Makefile"),
    (r"python3 -m venv .*|\.venv/bin/pip .*|\. \.venv/bin/activate|\.venv/bin/pre-commit .*", "installs"),
    (r"spq encode .* --ray .*", "needs an object store and a cluster"),
    (r"spq serve .*|python3 -m http\.server .*", "never ends"),
    (r"(docker|kubectl|sbatch) .*|export PHOTOS=.*", "needs Docker, Kubernetes or Slurm; see test_deploy.py"),
    (r"npm pack .*|spq export .* --onnxruntime-web .*", "needs the network"),
    (r"spq (train|eval) .*\bcifar10.*|spq bench quality .*", "needs CIFAR-10"),
    (r"spq bench all .*", "makes every table, in hours"),
    (r"export PYTHONPATH=src|python benchmarks/\w+\.py .*", "needs a GPU"),
]
TINY = """
[input]
size = 16
[backbone]
blocks = [1]
width = 8
stem_stride = 2
[quantizer]
num_codebooks = 16
codeword_dim = 2
distance = "sqeuclidean"
[train]
batch_size = 16
epochs = 1
"""
TINY_HEAD = """
[head]
hidden = 0
norm = 1.0
start = "pq"
[train]
frozen = true
cached_views = 1
neighbours = 5
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each fenced block of a page."""
    return re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def lines(text: str) -> list[str]:
    """Commands of a shell block; `a && b` are two."""
    commands = (part for line in text.replace("\\\n", " ").splitlines() for part in line.split("&&"))
    return [command.strip() for command in commands if shlex.split(command, comments=True)]


def reason(command: str) -> str | None:
    return next((why for pattern, why in NOT_RUN if re.fullmatch(pattern, command.partition("  #")[0].strip())), None)


def shortened(words: list[str]) -> list[str]:
    """Train a tiny network for a moment, evaluate on few pictures. Later options win, so a user's line stays as it is."""
    if words[0] == "eval":
        return [*words, "--gallery", "photos/"]
    if words[0] != "train" or "--resume" in words:
        return words
    more = ["--recipe", "tiny-head.toml" if "head" in words else "tiny.toml"]
    more += ["--minutes", "0.01"] if "--minutes" in words else ["--epochs", "1"]
    if "--backbone" in words:
        more += ["--backbone", "timm/test_resnet", "--weights", "FILE.safetensors", "--image-size", "32"]
    return [*words, *more]


class Shortened(ast.NodeTransformer):
    """The same for `SPQ.train(...)` in Python. A recipe that is not given as text stays."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if ast.unparse(node.func) == "SPQ.train":
            given = {str(keyword.arg): keyword.value for keyword in node.keywords}
            recipe = given.get("recipe", ast.Constant("spq"))  # never the automatic choice: this machine decides that
            if isinstance(recipe, ast.Constant):
                given["recipe"] = ast.Constant("tiny-head.toml" if recipe.value == "head" else "tiny.toml")
            budget = "minutes" if "minutes" in given else "epochs"
            given[budget] = ast.Constant(0.01 if budget == "minutes" else 1)
            node.keywords = [ast.keyword(name, value) for name, value in given.items()]
        return node


def run_python(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(ast.fix_missing_locations(Shortened().visit(ast.parse(code))), "page", "exec"), names)
    return names


def run_command(command: str) -> None:
    words = shlex.split(command, comments=True)
    assert words[0] in ("spq", "curl"), f"{command}: run it here, or add it to NOT_RUN with a reason"
    if words[0] == "curl":
        return run_curl(words[1:])
    assert run(shortened(words[1:])) == 0
    for option, value in itertools.pairwise(words):
        if option in ("--out", "--html", "--csv"):
            assert Path(value).exists()
    return None


def run_curl(words: list[str]) -> None:
    """Send the request to a server of `photos.index`."""
    (url,) = (word for word in words if word.startswith("http"))
    fields = [word.partition("=")[::2] for flag, word in itertools.pairwise(words) if flag == "-F"]
    options: dict[str, Any] = {
        "files": [(name, Path(value[1:]).read_bytes()) for name, value in fields if value.startswith("@")],
        "data": {name: value for name, value in fields if not value.startswith("@")},
    }
    if "--json" in words:
        options = {"content": words[words.index("--json") + 1], "headers": {"content-type": "application/json"}}
    with ImageIndex.open("photos.index") as index:
        server = create_app(index, Settings(cache=Path("cache")))
        with TestClient(server, base_url=url.partition("/api")[0]) as client:
            answer = client.post(url, **options)
    assert answer.status_code == 200, answer.text
    assert answer.json()["hits"]


def parse_only(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse options, arguments and targets that do not exist."""
    words = shlex.split(command, comments=True)
    monkeypatch.setenv("SPQ_DATA", os.environ.get("SPQ_DATA", ""))  # one of the parsers sets it
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:.*## ", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    elif words[:2] == ["spq", "bench"]:
        benchmark(words[2]).parse(words[3:])
    elif words[0] == "spq":
        COMMANDS[words[1]].make_context(words[1], words[2:]).close()
    elif words[:2] == ["python", "benchmarks/gpu_cifar10.py"]:
        benchmark("gpu_cifar10").parse(words[2:])
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()


def benchmark(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def artefacts(photo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take as given: pictures, a model and an index of them, weights."""
    root = tmp_path_factory.mktemp("artefacts")
    shutil.copytree(photo_index.parent / "photos", root / "photos")
    pictures = sorted((root / "photos").rglob("*.jpg"))
    for name, picture in zip(("query", "a", "b", "c"), pictures, strict=False):
        shutil.copy(picture, root / f"{name}.jpg")
    (root / "new-photos").mkdir()
    for name, picture in zip(("one", "two"), pictures, strict=False):
        shutil.copy(picture, root / "new-photos" / f"{name}.jpg")
    (root / "tiny.toml").write_text(TINY)
    (root / "tiny-head.toml").write_text(TINY.replace("[train]\n", TINY_HEAD.lstrip()))
    weights = timm.create_model("test_resnet", num_classes=0).state_dict()
    safetensors.torch.save_file(weights, root / "FILE.safetensors")
    model = SPQ.train(root / "photos", recipe=root / "tiny.toml", out=root / "photos.spq")
    ImageIndex.build(root / "photos.index", model, root / "photos").close()
    return root


@pytest.fixture
def in_folder(artefacts: Path, lite0_at_hand: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(artefacts, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_code_block_of_a_page_runs(
    page: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos.spq", "photos.index"):  # a page that makes it needs none before
        if re.search(rf"spq (train|index) .*--out {name}|out=\"{name}\"", page.read_text("utf-8")):
            shutil.rmtree(name)
    for language, text in blocks(page):
        assert language in RUN | SHOWN, f"a block without a known language: {text}"
        if language == "sh":
            for command in lines(text):
                if reason(command):
                    parse_only(command, monkeypatch)
                else:
                    run_command(command)
        elif "cifar10" in text:
            compile(text, str(page), "exec")
        elif language in ("python", "py"):
            run_python(text)


def test_every_reason_in_the_table_is_needed() -> None:
    commands = [
        command for page in PAGES for language, text in blocks(page) if language == "sh" for command in lines(text)
    ]
    used = {reason(command) for command in commands}
    assert {why for _, why in NOT_RUN} <= used


def test_the_reader_of_an_index_ranks_as_spq_does(in_folder: Path) -> None:
    (code,) = [text for language, text in blocks(SITE / "reference" / "files.md") if language == "python"]
    reader = run_python(code)
    x = SPQ.load("photos.spq").embed(["query.jpg"])[0]
    with ImageIndex.open("photos.index") as index:
        hits = index.search(x, top=len(index))
    found = reader["distances"](x)
    assert len(found) == len(hits) == 60
    rows = [reader["ids"].index(hit.id) for hit in hits]
    assert [reader["paths"][row] for row in rows] == [hit.path for hit in hits]
    np.testing.assert_allclose(found[rows], [hit.distance for hit in hits], rtol=1e-4)
    assert len(code.splitlines()) <= 25


@pytest.fixture(scope="module")
def generators() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", SITE / "_ext" / "reference_pages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_commands_has_every_option_and_its_examples_parse(generators: ModuleType) -> None:
    text = generators.commands()
    for name, command in COMMANDS.items():
        part = text.split(f"## `spq {name}`\n")[1].split("\n## ")[0]
        for parameter in command.params:
            option = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
            assert f"`{option}".replace("|", "\\|") in part  # a cell of a table
        examples = re.findall(r"```sh\n(.*?)```", part, flags=re.DOTALL)
        assert len(examples) == 1
        for words in map(shlex.split, examples[0].splitlines()):
            assert words[:2] == ["spq", name]
            command.make_context(name, words[2:]).close()


def test_the_reference_of_recipes_shows_values_that_differ_from_the_default(generators: ModuleType) -> None:
    text = generators.recipes()
    row = next(line for line in text.split("## `[quantizer]`")[1].splitlines() if line.startswith("| `num_codebooks`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["`num_codebooks`", "M", "`8`", "from 1 to 1024"]
    assert re.search(rf"`{load_recipe('spq').quantizer.num_codebooks}` in .*\bspq\b", cells[4])
    assert "paper" not in cells[3]  # it has the default
    (hidden,) = (line for line in text.splitlines() if line.startswith("| `hidden`"))
    assert "`0` in finetune, pq; `1536` in head" in hidden
    assert all(f"## `[{section}]`" in text for section in ("input", "backbone", "views", "train", "finish", "cluster"))


def test_the_reference_of_http_has_every_route_and_links_to_every_object(generators: ModuleType) -> None:
    document = generators.openapi()
    text = generators.http(document)
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"### `{method.upper()} {path}`" in text
    linked = set(re.findall(r"\]\(#(\w+)\)", text))
    assert linked <= {name.lower() for name in document["components"]["schemas"]}
    assert {"hits", "problem"} <= linked
    search = text.split("### `POST /api/search`")[1].split("\n### ")[0]
    assert "- Answer 200: `application/json`: [Hits](#hits)" in search
    (errors,) = re.findall(r"- Errors: (.*)", search)
    for status in errors.split(", "):
        assert f"\n| {status} | " in text.split("## Errors")[1]


def test_every_page_is_in_the_table_of_contents_of_the_site() -> None:
    listed = re.findall(
        r"^[\w/-]+$",
        "\n".join(text for kind, text in blocks(SITE / "index.md") if kind == "{toctree}"),
        flags=re.MULTILINE,
    )
    pages = {page.relative_to(SITE).with_suffix("").as_posix() for page in PAGES if SITE in page.parents}
    assert set(listed) == (pages | {"log"}) - {"index"}
