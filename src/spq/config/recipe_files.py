"""Recipes by name or from a TOML file (`spq/recipes/*.toml`), and changes of single values."""

from __future__ import annotations

import importlib.resources
import tomllib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spq.config.ranges import shown
from spq.config.sections import Recipe
from spq.config.strict import from_dict, to_dict
from spq.errors import ConfigError

MOST_BYTES = 16_000  # of a recipe file: the time for one key of many parts grows with the square of their number
DEFAULT = "spq"  # the recipe where none is given, and none is chosen by the collection


def recipe_names() -> list[str]:
    """Names of the recipes that spq contains."""
    folder = importlib.resources.files("spq") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_file: str | Path) -> Recipe:
    """Load a recipe by its name, or from a TOML file.

    Raises:
        ConfigError: no such recipe, not TOML, an unknown key, a value of the wrong type.
    """
    text = str(name_or_file)
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
    return from_dict(Recipe, {"name": Path(text).stem, **table}, where=f"recipe {text}")


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with some values changed. The later of two changes of the same key counts.

    Args:
        overrides: each `section.key=value`, with the value in TOML: `train.lr=1e-3`, `train.optimizer="muon"`.
    Raises:
        ConfigError: an unknown section or key, a value that is not TOML, of the wrong type or out of range.

    >>> with_overrides(load_recipe("fast"), ["train.epochs=7"]).train.epochs
    7
    """
    table = to_dict(recipe)
    for text in overrides:
        section, key, value = _parse_override(text)
        table[section][key] = value
    return from_dict(Recipe, table, where="recipe with " + ", ".join(overrides)) if overrides else recipe


def _parse_override(text: str) -> tuple[str, str, Any]:
    """Section, key and value of `section.key=value`."""
    where, (name, equals, source) = f"override {text!r}", text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (dot and equals):
        raise ConfigError(f"{where} is not section.key=value; for example train.lr=1e-3")
    sections = {name: hint for name, hint in typing.get_type_hints(Recipe).items() if hint is not str}
    if section not in sections:
        raise ConfigError(f"{where}: unknown section {section!r}; use one of {', '.join(sections)}")
    keys = typing.get_type_hints(sections[section])
    if key not in keys:
        raise ConfigError(f"{where}: unknown key {key!r}; use one of {', '.join(keys)}")
    try:
        (value,) = tomllib.loads(f"value = {source}").values()
    except (ValueError, RecursionError):
        raise ConfigError(f'{where}: {shown(source)} is not a TOML value; write 1e-3, true, [1, 2] or "text"') from None
    return section, key, value


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
