"""The report of an evaluation: numbers, text and plots."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spq.common.files import Replacing


@dataclass
class Report:
    """The result of an evaluation.

    Attributes:
        map: mAP@`map_at` of the codes; map_at is at most the number of readable gallery pictures.
        seconds: time of decoding, encoding, ranking, and of the baselines.
        model: hash of the model.
        precision: P@N by N. pr_curve: `precision` and `recall` at the same ranks.
        rows: mAP@`map_at` by method; empty without baselines.
        notes: remarks on how the methods compare.
    """

    protocol: str
    bits: int
    map: float
    map_at: int
    queries: int
    gallery: int
    distance: str
    seconds: float
    model: str
    unreadable: int
    precision: dict[int, float] = field(default_factory=dict)
    pr_curve: dict[str, list[float]] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        return dict(self.__dict__)

    def table(self) -> str:
        """The report as aligned text."""
        lines = [
            f"{self.protocol}: {self.queries:,} queries, {self.gallery:,} in the gallery, {self.bits} bits, "
            f"{self.distance}",
            f"mAP@{self.map_at}  {self.map:.4f}",
            *(f"P@{n:<6d} {value:.4f}" for n, value in self.precision.items()),
        ]
        if self.rows:
            width = max(map(len, self.rows))
            lines += ["", f"mAP@{self.map_at} of others, {self.bits} bits where they are codes:"]
            lines += [f"  {name:{width}s}  {value:.4f}" for name, value in self.rows.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def save_plots(self, folder: str | Path) -> list[Path]:
        """Write the PR curve (`pr.png`) and P@N (`precision.png`); returns their paths."""
        from matplotlib.figure import Figure  # pyplot would need global state and a display

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        title = f"{self.protocol}, {self.bits} bits, {self.queries:,} queries"
        written = []
        curves: dict[str, tuple[list[Any], list[float], str, str]] = {
            "pr.png": (self.pr_curve["recall"], self.pr_curve["precision"], "recall", "precision"),
            "precision.png": (list(self.precision), list(self.precision.values()), "N", "P@N"),
        }
        for name, (x, y, x_label, y_label) in curves.items():
            figure = Figure(figsize=(5, 4), layout="constrained")
            axes = figure.add_subplot()
            axes.plot(x, y, color="#0072b2", marker="o" if len(x) < 20 else None)
            axes.set(xlabel=x_label, ylabel=y_label, title=title, ylim=(0, 1))
            axes.set_xscale("log" if x_label == "N" else "linear")
            axes.grid(alpha=0.3)
            with Replacing(folder / name) as temporary:
                figure.savefig(temporary, format="png", dpi=150)
            written.append(folder / name)
        return written
