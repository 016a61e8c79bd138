"""Plots of quality runs: one panel for each variant, with all other variants in grey."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Line = tuple[list[float], list[float]]
COLOUR = "#0072b2"
BEHIND = {"color": "#c8c8c8", "linewidth": 0.8}
COLUMNS = 4


def save_plots(rows: list[Row], folder: Path) -> list[Path]:
    """Write mAP over time, precision-recall and P@N, one PNG for each length of code; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, tuple[Callable[[Row], Line], str, str, bool]] = {
        "map-over-time": (lambda row: _columns(row["curve"]), "minutes of training", "mAP", False),
        "pr": (lambda row: (row["pr"]["recall"], row["pr"]["precision"]), "recall", "precision", False),
        "precision": (_precision, "N", "P@N", True),
    }
    written = []
    for bits in sorted({row["bits"] for row in rows}):
        mine = [row for row in rows if row["bits"] == bits and "curve" in row]
        for name, (line_of, x_label, y_label, log) in kinds.items():
            lines = [row for row in mine if len(line_of(row)[0]) > 1]  # one point is no curve
            if not lines:
                continue
            path = folder / f"{name}-{bits}.png"
            title = f"{mine[0]['protocol']}\n{bits} bits, mAP@{mine[0]['map_at']}"
            _panels(lines, line_of, x_label, y_label, log, title).savefig(path, dpi=150)
            written.append(path)
    return written


def _panels(rows: list[Row], line_of: Callable[[Row], Line], x_label: str, y_label: str, log: bool, title: str) -> Any:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    variants = list(dict.fromkeys(row["variant"] for row in rows))
    columns = min(COLUMNS, len(variants))
    lines = -(-len(variants) // columns)
    figure = Figure(figsize=(max(4.5, 2.6 * columns), 0.8 + 2.3 * lines), layout="constrained")
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    top = max(max(line_of(row)[1]) for row in rows)
    for axes, variant in zip(grid.flat, variants, strict=False):
        for row in sorted(rows, key=lambda row: row["variant"] == variant):
            own = row["variant"] == variant
            x, y = line_of(row)
            look = {"color": COLOUR, "linewidth": 1.6, "marker": "." if len(x) < 20 else None} if own else BEHIND
            axes.plot(x, y, **look)
        means = [row["map"] for row in rows if row["variant"] == variant]
        axes.set_title(f"{_folded(variant)}\nmAP {sum(means) / len(means):.3f}", fontsize=8, loc="left")
        axes.set_ylim(0, 1.08 * top)
        axes.set_xscale("log" if log else "linear")
        if not log:
            axes.set_xlim(left=0)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(variants) :]:
        axes.set_visible(False)
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    return figure


def _columns(curve: list[list[float]]) -> Line:
    return [point[0] for point in curve], [point[1] for point in curve]


def _precision(row: Row) -> Line:
    return [float(n) for n in row["precision"]], list(row["precision"].values())


def _folded(text: str, width: int = 30) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
