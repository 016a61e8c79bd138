"""The files of a model folder: `config.json` is read and checked, and one process at a time writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from spq import __version__
from spq.common.files import remove_stale, why_shut
from spq.common.json_file import read_json
from spq.common.locks import held
from spq.config import Recipe, from_dict
from spq.config.ranges import shown
from spq.data.decode import first_line
from spq.errors import ConfigError, ModelError

FORMAT = 1
FILES = ("model.safetensors", "README.md", "config.json")  # in the order of writing
SAVING_SECONDS = 60.0  # to wait for another process that saves into the same folder


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a model folder and check its format; the weights are not read.

    Raises:
        ModelError: there is no model, or it is damaged or of a newer format.
    """
    try:
        config = read_json(folder / "config.json")
    except FileNotFoundError:
        raise ModelError(f"no model at {folder}: it has no config.json; train one first") from None
    except NotADirectoryError:
        raise ModelError(f"no model at {folder}: it is a file; give the folder of a model") from None
    except (OSError, ValueError) as error:
        if shut := why_shut(error):
            raise ModelError(f"model {folder}: config.json {shut}") from None
        raise ModelError(f"model {folder}: config.json is unreadable ({first_line(error)}); copy it again") from None
    if not isinstance(config, dict) or "recipe" not in config or not isinstance(config.get("format"), int):
        raise ModelError(f"{folder}/config.json is not of an spq model; give a folder that spq has saved")
    if config["format"] != FORMAT:
        raise ModelError(
            f"model {folder} has format {shown(config['format'])}, this spq {__version__} reads {FORMAT}; use the spq "
            f"that made it ({shown(config.get('spq_version', 'unknown'))}) or train again"
        )
    return config


def read_recipe(folder: Path, config: dict[str, Any]) -> Recipe:
    """Return the recipe in the content of `config.json`, whose weights are not read yet."""
    where = f"{folder}/config.json"
    found = config.get("recipe_hash")  # models of before have none
    if found is not None and found != recipe_hash(config["recipe"]):
        raise ModelError(f"{where}: its recipe has changed since it was saved; copy the folder again")
    try:
        return from_dict(Recipe, config["recipe"], where=where)
    except ConfigError as error:
        raise ModelError(f"{error}; another version than spq {__version__} may have made the model") from None


def recipe_hash(recipe: Any) -> str:
    """Return 16 hex digits of a hash over the whole recipe: `Model.hash` covers the part that decides codes."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def check_no_index(folder: Path) -> None:
    """Refuse to write a model into the folder of an index.

    Raises:
        ModelError: names the folder.
    """
    if (folder / "items.sqlite").exists():
        raise ModelError(f"{folder} is an index; give another folder for the model")


@contextmanager
def one_saver(folder: Path) -> Iterator[None]:
    """Let one process at a time write the files of a model folder, and delete what a killed one has left."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / ".saving", SAVING_SECONDS, stays=False))
        except BlockingIOError:
            raise ModelError(
                f"another process saves a model in {folder}; wait for it, or give another folder"
            ) from None
        remove_stale(folder, *FILES)
        yield
