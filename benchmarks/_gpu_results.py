"""Output of `gpu_cifar10.py`: its results file, lines on stderr, and a table."""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from spq.common.files import Replacing


class Results:
    """A results file, written again at each change."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        known = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.content: dict[str, Any] = known | facts

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with Replacing(self.path) as temporary:
            temporary.write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")


class Diary:
    """Results of one call: scores, and the seconds from `started` to each step."""

    def __init__(self, path: Path, started: float, facts: dict[str, Any]) -> None:
        path.unlink(missing_ok=True)  # of an earlier call
        facts = {"device": device_name(), "torch": torch.__version__, **facts}
        self.results = Results(path, facts | {"seconds": {}, "rates": [], "curve": [], "scores": {}, "notes": []})
        self.content, self.started = self.results.content, started

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)

    def mark(self, name: str) -> None:
        self.content["seconds"][name] = self.seconds
        say(f"{self.seconds:6.1f} s: {name}")
        self.results.save()

    def score(self, name: str, scores: dict[str, Any]) -> None:
        self.content["scores"][name] = scores
        say(f"        {row(name, scores)}")

    def note(self, text: str) -> None:
        self.content["notes"].append(text)
        say(text)

    def table(self) -> str:
        """Times and scores as text."""
        content = self.content
        lines = [f"{content['device']}, recipe {content['recipe']}, torch {content['torch']}"]
        lines += [f"{seconds:7.1f} s  {name}" for name, seconds in content["seconds"].items()]
        return "\n".join(lines + [row(name, scores) for name, scores in content["scores"].items()])


def row(name: str, scores: dict[str, Any]) -> str:
    return f"{name:30s} " + "  ".join(f"{bits}: {s['map']:.4f} (P@1 {s['p1']:.3f})" for bits, s in scores.items())


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
