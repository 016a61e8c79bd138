"""Plots of one or several evaluations: precision-recall, and P@N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spq.common.files import Replacing

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curves:
    """What is drawn of a method: recall and precision at the same ranks, and P@N by N."""

    recall: Sequence[float]
    precision: Sequence[float]
    precision_at: Mapping[int, float]


def save_curves(curves: Mapping[str, Curves], title: str, folder: str | Path) -> list[Path]:
    """Write `pr.png` and `precision.png` with one line for each method; a name "" gets no legend.

    Returns:
        the paths.
    """
    from matplotlib.figure import Figure  # pyplot would need global state and a display

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "pr.png": ("recall", "precision", {name: (c.recall, c.precision) for name, c in curves.items()}),
        "precision.png": ("N", "P@N", {name: _points(c.precision_at) for name, c in curves.items()}),
    }
    for file, (x_label, y_label, lines) in figures.items():
        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, (x, y)) in enumerate(lines.items()):
            style = STYLES[number // len(COLOURS) % len(STYLES)]
            colour, marker = COLOURS[number % len(COLOURS)], "o" if len(x) < 20 else None
            axes.plot(x, y, color=colour, linestyle=style, marker=marker, label=name.replace("$", r"\$") or None)
        axes.set(xlabel=x_label, ylabel=y_label, title=title.replace("$", r"\$"), ylim=(0, 1))
        axes.set_xscale("log" if x_label == "N" else "linear")
        axes.grid(alpha=0.3)
        if any(lines):
            axes.legend()
        with Replacing(folder / file) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    return [folder / file for file in figures]


def _points(precision_at: Mapping[int, float]) -> tuple[Sequence[float], Sequence[float]]:
    return list(precision_at), list(precision_at.values())
