"""What `gpu_cifar10.py` tells: its results file, lines on stderr and the summary."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from spq.system import Replacing


class Results:
    """OUT/results.json, rewritten at each change."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        known = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.content: dict[str, Any] = known | facts

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with Replacing(self.path) as temporary:
            temporary.write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")

    def start_leg(self, seconds: float) -> dict[str, Any]:
        """A new leg from a checkpoint; what a killed leg wrote after that checkpoint will be done again."""
        self.content["legs"] = [row for row in self.content["legs"] if row["from_seconds"] < seconds]
        self.content["curve"] = [row for row in self.content["curve"] if row["seconds"] <= seconds]
        leg = {"from_seconds": seconds, "rates": [], "notes": [], "device": device_name(), "torch": torch.__version__}
        self.content["legs"].append(leg)
        self.save()
        return leg


def summary(content: dict[str, Any]) -> str:
    """The curve, the throughput and the final table as text."""
    rates: dict[str, list[float]] = {}
    for leg in content["legs"]:
        for side, rate in leg["rates"]:
            rates.setdefault(side, []).append(rate)
    lines = [f"{side} views: median {statistics.median(values):,.0f} a second" for side, values in rates.items()]
    lines += [
        f"minute {row['seconds'] / 60:5.1f}, epoch {row['epoch']:4d}  mAP {row['map']:.4f}  training pictures ask"
        for row in content["curve"]
    ]
    for bits, report in content["final"].items():
        lines.append(f"{bits:>3s} bits  mAP@{report['map_at']} {report['map']:.4f}  {report['protocol']}, test queries")
    return "\n".join(lines)


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
