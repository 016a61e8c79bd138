"""Recipes by name or from a TOML file (`spq/recipes/*.toml`), and changes of single values."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spq.config.ranges import shown
from spq.config.sections import Recipe
from spq.config.strict import from_dict, to_dict
from spq.errors import ConfigError

MOST_BYTES = 16_000  # of a recipe file: the time for one key of many parts grows with the square of their number
Overrides = Mapping[str, Any] | Sequence[str]
DEFAULT = "spq"  # the recipe where none is given, and none is chosen by the collection


def recipe_names() -> list[str]:
    """Names of the recipes that spq contains."""
    folder = importlib.resources.files("spq") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_file: str | Path) -> Recipe:
    """Load a recipe by its name, or from a TOML file; changes of single values may follow after a colon.

    Raises:
        ConfigError: no such recipe, not TOML, an unknown key, a value of the wrong type.

    >>> load_recipe("fast:train.epochs=7,train.minutes=0").train.epochs
    7
    """
    text, changes = split_recipe(str(name_or_file))
    if text in recipe_names():
        source = (importlib.resources.files("spq") / "recipes" / f"{text}.toml").read_text("utf-8")
    elif text.endswith(".toml"):
        try:
            source = _read(Path(text))
        except UnicodeDecodeError:
            raise ConfigError(f"recipe {text} is not TOML: it is not text in UTF-8; save it as UTF-8") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read recipe {text}: {_reason(error)}; check the path") from None
    else:
        raise ConfigError(f"no recipe {text!r}; use one of {', '.join(recipe_names())}, or a .toml file")
    try:
        table = tomllib.loads(source)
    except (ValueError, RecursionError) as error:  # also a number of too many digits, and too many brackets
        raise ConfigError(f"recipe {text} is not TOML: {error}") from None
    return with_overrides(from_dict(Recipe, {"name": Path(text).stem, **table}, where=f"recipe {text}"), changes)


def split_recipe(text: str) -> tuple[str, list[str]]:
    """Split a recipe and its changes.

    >>> split_recipe("fast:backbone.blocks=[1, 2],train.lr=1e-3")
    ('fast', ['backbone.blocks=[1, 2]', 'train.lr=1e-3'])
    """
    name, _, changes = text.partition(":")
    if name not in recipe_names():  # a file, whose path may have colons of its own
        found = re.search(r":(?=\s*\w+\.\w+\s*=)", text)
        name, changes = (text[: found.start()], text[found.end() :]) if found else (text, "")
    parts, depth = [""], 0
    for character in changes:
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return name, [part for part in parts if part.strip()]


def with_overrides(recipe: Recipe, overrides: Overrides) -> Recipe:
    """Return the recipe with some values changed. The later of two changes of the same key counts.

    Args:
        overrides: values by `section.key`, such as `{"train.lr": 1e-3}`; or a list of texts `section.key=value` with the value
            in TOML, such as `train.optimizer="muon"`.
    Raises:
        ConfigError: an unknown section or key, a value that is not TOML, of the wrong type or out of range; or `overrides` are
            of another type.

    >>> with_overrides(load_recipe("fast"), ["train.epochs=7"]) == with_overrides(load_recipe("fast"), {"train.epochs": 7})
    True
    """
    if not overrides:
        return recipe
    if isinstance(overrides, str) or not isinstance(overrides, Mapping | Sequence):
        raise ConfigError(
            f'`overrides` must be a table such as {{"train.lr": 1e-3}}, or a list of texts, got {shown(overrides)}'
        )
    pairs = list(overrides.items()) if isinstance(overrides, Mapping) else [_parse_override(text) for text in overrides]
    table = to_dict(recipe)
    for name, value in pairs:
        section, key = _known_key(name)
        table[section][key] = value
    changes = ", ".join(f"{name} = {shown(value)}" for name, value in pairs)
    return from_dict(Recipe, table, where=f"recipe {recipe.name} with {changes}")


def _parse_override(text: str) -> tuple[str, Any]:
    """Name and value of `section.key=value`."""
    where, (name, equals, source) = f"override {text!r}", text.partition("=")
    if not (equals and "." in name):
        raise ConfigError(f"{where} is not section.key=value; for example train.lr=1e-3")
    try:
        (value,) = tomllib.loads(f"value = {source}").values()
    except (ValueError, RecursionError):
        raise ConfigError(f'{where}: {shown(source)} is not a TOML value; write 1e-3, true, [1, 2] or "text"') from None
    return name.strip(), value


def _known_key(name: str) -> tuple[str, str]:
    """Section and key of `section.key`.

    Raises:
        ConfigError: there is no such key; names the nearest one.
    """
    sections = {section: hint for section, hint in typing.get_type_hints(Recipe).items() if hint is not str}
    keys = {section: list(typing.get_type_hints(hint)) for section, hint in sections.items()}
    section, _, key = name.partition(".")
    if key in keys.get(section, ()):
        return section, key
    known = [f"{each}.{key}" for each, names in keys.items() for key in names]
    same = [full for full in known if full.endswith(f".{key}")]  # the key of another section
    close = [f"{section}.{near}" for near in difflib.get_close_matches(key, keys.get(section, ()), 1)]
    nearest = (same or close or difflib.get_close_matches(name, known, 1, 0.7) or [""])[0]
    hint = f"did you mean {nearest}? " if nearest else ""
    what, names = ("key", keys[section]) if section in keys else ("section", list(keys))
    wrong = key if section in keys else section
    raise ConfigError(f"override {name!r}: unknown {what} {wrong!r}; {hint}use one of {', '.join(names)}")


def _read(path: Path) -> str:
    if path.exists() and not path.is_file():  # a pipe could wait for ever
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    return data.decode("utf-8-sig")  # editors of Windows begin a file with a mark


def _reason(error: Exception) -> str:
    """The reason that the operating system gives, without the path."""
    return getattr(error, "strerror", None) or str(error)
