"""Where and with what a model was trained, for `config.json`: versions, commit, device, precision, threads.

On one machine, the same seed gives the same model if all of these are the same, the number of threads included.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import spq

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "faiss-cpu")
GIT_SECONDS = 5.0  # for an answer of git


def environment(device: torch.device, bf16: bool, processes: int = 1) -> dict[str, Any]:
    """Return plain facts of this process.

    Args:
        device: that learned. bf16: whether it computed in bfloat16. processes: that trained together.
    """
    name = f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
    return {
        "spq": spq.__version__,
        "commit": commit(Path(spq.__file__).parents[2]),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": name,
        "precision": "bf16" if bf16 else "fp32",
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def commit(checkout: Path) -> str:
    """Return the commit of spq, with "+" if files of `src` were changed since; empty for a release.

    It is that of the checkout, or the one that pip recorded when it installed spq from a repository.
    """
    if (checkout / ".git").exists():
        found, changed = _git(checkout, "rev-parse", "HEAD"), _git(checkout, "status", "--porcelain", "--", "src")
        return found + ("+" if found and changed else "")
    with suppress(importlib.metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        recorded = importlib.metadata.distribution("spq-retrieval").read_text("direct_url.json")
        return str(json.loads(recorded or "{}")["vcs_info"]["commit_id"])
    return ""


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(checkout), *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of a hook, for example
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True, env=own)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""  # no git here, or the checkout belongs to somebody else


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
