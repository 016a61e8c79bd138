"""Sphinx extension: writes the reference of commands, recipes, HTTP routes and dependencies as Markdown, at each build.

Pages in docs/reference/ include the files. `python docs/_ext/reference_pages.py FOLDER` writes them without Sphinx.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer.main

from dependency_table import table as dependencies
from spq.cli.main import app as command_line
from spq.config import Recipe, load_recipe, recipe_names

GENERATED = Path("_build") / "generated"


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / GENERATED))
    return {"parallel_read_safe": True}


def write(folder: Path) -> None:
    """Write commands.md, recipes.md, http.md and dependencies.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"commands": commands(), "recipes": recipes(), "http": http(openapi()), "dependencies": dependencies()}
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, "utf-8")


def commands() -> str:
    """Describe every command: usage, help text, examples, arguments and options."""
    group: Any = typer.main.get_command(command_line)
    return "\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    context = command.make_context(f"spq {name}", [], resilient_parsing=True)
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    examples = [part.removeprefix("Example: ") for part in paragraphs if part.startswith("Example: ")]
    lines = [f"## `spq {name}`", "", *(f"{part}\n" for part in paragraphs if not part.startswith("Example: "))]
    usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
    lines += ["```text", usage, "```", "", "For example:", "", "```sh", *examples, "```", ""]
    for title, kind in (("Argument", "argument"), ("Option", "option")):
        found = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
        if rows := [(f"`{record[0]}`", _cell(record[1])) for record in found if record]:
            lines += [*_table((title, "Meaning"), rows), ""]
    return "\n".join(lines)


def recipes() -> str:
    """Describe every key of a recipe: its default, its value in each recipe that comes with spq, its meaning."""
    known = {name: load_recipe(name) for name in recipe_names()}
    lines: list[str] = []
    for section in dataclasses.fields(Recipe):
        if section.name == "name":
            continue
        kind = type(getattr(Recipe(), section.name))
        lines += [f"## `[{section.name}]`", "", _markdown(kind.__doc__ or ""), ""]
        rows, meanings = [], _comments(inspect.getsource(kind))
        for key in dataclasses.fields(kind):
            default = getattr(kind(), key.name)
            values = {name: getattr(getattr(recipe, section.name), key.name) for name, recipe in known.items()}
            others = "; ".join(_grouped({name: value for name, value in values.items() if value != default}))
            allowed = str(key.metadata.get("range", ""))
            rows.append((f"`{key.name}`", _cell(meanings.get(key.name, "")), _value(default), allowed, others))
        lines += [*_table(("Key", "Meaning", "Default", "Allowed", "Other values"), rows), ""]
    return "\n".join(lines)


def _grouped(values: dict[str, object]) -> list[str]:
    """Each value once, with the recipes that have it."""
    return [f"{_value(v)} in {', '.join(n for n in values if values[n] == v)}" for v in dict.fromkeys(values.values())]


def _comments(source: str) -> dict[str, str]:
    """Field of a dataclass -> its comment: the lines above it and the one behind it."""
    lines, found = source.splitlines(), {}
    (kind,) = ast.parse(source).body
    assert isinstance(kind, ast.ClassDef)
    for field in (part for part in kind.body if isinstance(part, ast.AnnAssign)):
        assert isinstance(field.target, ast.Name)
        first = field.lineno - 1
        while lines[first - 1].strip().startswith("#"):
            first -= 1
        comments = [line.partition("# ")[2] for line in lines[first : field.end_lineno]]
        found[field.target.id] = " ".join(comment for comment in comments if comment)
    return found


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the server. It needs an open index: one of 16 sample pictures and an untrained network."""
    from spq.data.image_set import subset
    from spq.data.open import open_images
    from spq.index.image_index import ImageIndex
    from spq.model.model import Model
    from spq.model.network import Network
    from spq.web.server.app import create_app

    recipe = load_recipe("fast")
    images = subset(open_images("sample:test"), range(16))
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex.build(Path(folder) / "index", Model(Network(recipe), recipe), images) as index,
    ):
        document: dict[str, Any] = create_app(index).openapi()
    return document


def http(document: dict[str, Any]) -> str:
    """Describe every route and every object of an OpenAPI document."""
    lines = ["## Routes", ""]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            lines += [f"### `{method.upper()} {path}`", "", _markdown(route.get("description", "")), ""]
            lines += _parameters(route)
            lines += _bodies(route)
            lines += [*_answers(route), ""]
    errors = {status: "; ".join(texts) for status, texts in sorted(_errors(document).items())}
    lines += ["## Errors", "", f"The body of an error is `application/problem+json`: {_link('Problem')}.", ""]
    lines += [*_table(("Status", "Meaning"), [(status, _cell(text)) for status, text in errors.items()]), ""]
    lines += ["## Objects", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"### {name}", "", _markdown(schema.get("description", "")), "", *_fields(schema), ""]
    return "\n".join(lines)


def _parameters(route: dict[str, Any]) -> list[str]:
    rows = [
        (f"`{p['name']}`", p["in"], _kind(p["schema"]), _default(p["schema"]), _cell(p.get("description", "")))
        for p in route.get("parameters", [])
    ]
    return [*_table(("Parameter", "In", "Type", "Default", "Meaning"), rows), ""] if rows else []


def _bodies(route: dict[str, Any]) -> list[str]:
    lines = []
    for media, content in route.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        fields = _fields(schema) if "properties" in schema else []
        lines += [f"Body `{media}`: {_kind(schema)}." if not fields else f"Body `{media}`:", "", *fields, ""]
    return lines


def _answers(route: dict[str, Any]) -> list[str]:
    """A line for each answer that is no error, and one that names the errors."""
    lines, errors = [], []
    for status, answer in route["responses"].items():
        if int(status) >= 400:
            errors.append(status)
            continue
        kinds = [f"`{media}`: {_kind(body.get('schema', {}))}" for media, body in answer.get("content", {}).items()]
        lines.append(f"- Answer {status}: {'; '.join(kinds) or _cell(answer['description'])}")
    return [*lines, *([f"- Errors: {', '.join(errors)}"] if errors else [])]


def _errors(document: dict[str, Any]) -> dict[str, list[str]]:
    """Status of each error -> its meanings, each once."""
    found: dict[str, list[str]] = {}
    for route in (route for methods in document["paths"].values() for route in methods.values()):
        for status, answer in route["responses"].items():
            if int(status) >= 400 and answer["description"] not in found.setdefault(status, []):
                found[status].append(answer["description"])
    return found


def _fields(schema: dict[str, Any]) -> list[str]:
    rows = [
        (f"`{name}`", _kind(field), _default(field), _cell(field.get("description", "")))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("Field", "Type", "Default", "Meaning"), rows) if rows else []


def _kind(schema: dict[str, Any]) -> str:
    """A type in words: `list of integer`, or a link to the object."""
    if "$ref" in schema:
        return _link(schema["$ref"].rsplit("/", 1)[1])
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("format") == "binary":
        return "file"
    return str(schema.get("type", "any"))


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _default(schema: dict[str, Any]) -> str:
    return f"`{schema['default']}`" if schema.get("default") is not None else ""


def _value(value: object) -> str:
    """A value as TOML writes it, numbers with five digits at most."""
    if isinstance(value, tuple):
        return f"`[{', '.join(_value(item).strip('`') for item in value)}]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:.5g}`" if isinstance(value, float) else f"`{value}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    return _markdown(" ".join(text.split()))


def _markdown(text: str) -> str:
    """Plain text whose stars, underscores, brackets and angle brackets are not markup; `code` stays code."""
    parts = inspect.cleandoc(text).split("`")
    marks = {mark: f"\\{mark}" for mark in "*_[]<>$"}
    plain = ["".join(marks.get(letter, letter) for letter in part) for part in parts[::2]]
    parts[::2] = plain
    return "`".join(parts)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
