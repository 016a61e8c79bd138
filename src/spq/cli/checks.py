"""Checks that a command makes before it writes anything."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spq.config import Recipe
from spq.data.formats import kind_of
from spq.errors import ConfigError

MODEL_FILES = {"config.json", "model.safetensors"}
INDEX_FILES = {"manifest.json", "items.sqlite"}
TRAINING_FILES = {*MODEL_FILES, "README.md", "checkpoints", "log.jsonl", "clusters.jsonl", "tensorboard"}


def check_model_out(out: Path, resume: bool) -> None:
    """Refuse a folder whose content training would overwrite, and `--resume` without a checkpoint.

    Raises:
        ConfigError: `out` holds other files, or a training, or no training.
    """
    check_folder("--out", out)
    entries = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    content = {name for name in entries if not name.startswith(".")}  # for example .DS_Store, or a part of a file
    foreign, finished = content - TRAINING_FILES, "config.json" in content
    can_resume = resume and (finished or (out / "checkpoints" / "last.pt").exists())
    if foreign and not can_resume:
        raise ConfigError(f"--out {out} holds other files ({min(foreign)}); give a new folder")
    has_checkpoint = (out / "checkpoints" / "last.pt").exists()
    if finished and not has_checkpoint:
        raise ConfigError(
            f"--out {out} holds a finished model; give a new folder, for example {out.with_stem(out.stem + '-2')}"
        )
    if not resume and content & {"config.json", "checkpoints"}:
        raise ConfigError(f"--out {out} already holds a training; add --resume to continue it, or give a new folder")
    if resume and not content:
        raise ConfigError(f"nothing to resume in {out}; omit --resume, or check the path")


def what_resume_ignores(out: Path, start: Path | None, config: Recipe, options: dict[str, Any]) -> str:
    """A line about options that a resumed training does not use, because it keeps the recipe that it started with."""
    from spq.api import OF_START, ignored_by_resume

    other = ignored_by_resume(out, config, options, OF_START if start else ())
    if not other:
        return ""
    named = ", ".join({"overrides": "--set"}.get(name, "--" + name.replace("_", "-")) for name in other)
    return f"the training in {out} continues with its own recipe and ignores {named}; to use other options, give a new --out"


def check_start(start: Path | None, **shapes: object) -> None:
    """Refuse options that `--start` sets, because the network of that model is used."""
    given = [name for name, value in shapes.items() if value is not None]
    if start and given:
        option = "--" + given[0].replace("_", "-")
        raise ConfigError(f"--start {start} decides {option}; omit {option}, or omit --start")


def parse_lengths(text: str | None) -> tuple[int, ...] | None:
    """The lengths of `--bits 64` or `--bits 16,32,64`.

    Raises:
        ConfigError: not whole numbers.

    >>> parse_lengths("16,32,64")
    (16, 32, 64)
    """
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--bits {text!r} is not a length of a code; give 64, or 16,32,64 for all three") from None


def check_folder(option: str, path: Path | None) -> None:
    """Refuse a path that must be a folder but is a file, or that cannot be written."""
    if path and path.exists() and not path.is_dir():
        raise ConfigError(f"{option} {path} is a file; give a folder")
    if path:
        check_writable(option, path)


def check_writable(option: str, path: Path) -> None:
    """Refuse a path that cannot be made or written, before any work is done for it.

    A folder above it is never made: its name may be a typing error.
    """
    missing, there = path.absolute(), path.absolute()
    while not there.exists() and there.parent != there:
        missing, there = there, there.parent
    if not os.access(there.resolve().parent if there.is_file() else there, os.W_OK):
        raise ConfigError(f"{option} {path} cannot be written, as {there} is read-only; give another place")
    if there != path.absolute() and not there.is_dir():
        raise ConfigError(f"{option} {path} cannot be written, as {there} is a file; give another place")
    if missing not in (path.absolute(), there):
        raise ConfigError(f"{option} {path} is in a folder that does not exist: {missing}; make it, or check the path")


def check_file(option: str, path: Path | None) -> None:
    """Refuse to overwrite a folder, a picture, or a file of an index or a model."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; give a file")
    check_writable(option, path)
    file = path.resolve()  # a link is followed
    if file.exists() and (kind_of(path.name) or kind_of(file.name)):
        raise ConfigError(f"{option} {path} is a picture and would be overwritten; give another name")
    for parts in (INDEX_FILES, MODEL_FILES):
        if file.name in parts and all((file.parent / part).exists() for part in parts):
            raise ConfigError(f"{option} {path} is a part of {file.parent} and would be overwritten; give another path")


def check_tensorboard() -> None:
    """Refuse `--tensorboard` without the package."""
    if find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard needs tensorboard; run pip install 'spq-retrieval[tensorboard]'")


def check_serve(host: str, token: str, no_token: bool) -> None:
    """Refuse to serve pictures to the network without a token, unless the user asks for that."""
    from spq.web.server.settings import is_loopback

    if token and no_token:
        raise ConfigError("--token and --no-token contradict each other; give one")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError("--token has characters that an HTTP header cannot hold; use ASCII letters, digits and signs")
    if not (is_loopback(host) or token or no_token):
        raise ConfigError(
            f"--host {host} makes your pictures visible on the network; add --token SECRET, or --no-token"
        )
