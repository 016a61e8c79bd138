"""The results table of the README, from the numbers that `spq bench quality --test` wrote.

    spq bench report            # writes the table between its two markers in README.md
    spq bench report --check    # exit status 1 when README.md says something else

Numbers come from benchmarks/results/quality.json alone, those of the paper from its own table.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from _scoring import entrance, parser_of
from _variants import ABLATIONS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- made by: spq bench report -->", "<!-- end -->"
PROTOCOL = "cifar10-spq"
LENGTHS = (16, 32, 64)
PUBLISHED = {
    16: 0.768,
    32: 0.793,
    64: 0.812,
}  # Jang and Cho, ICCV 2021, table of CIFAR-10; thousands of epochs on a GPU
GROUP = ("variant", "fingerprint", "commit", "minutes", "epochs", "machine")  # what is never averaged over
CLASSIC = ("PQ", "OPQ", "ITQ", "LSH", "float cosine")
PLOT = "docs/images/map-over-time-32.png"
Row = dict[str, Any]


def report(rows: list[Row]) -> str:
    """Markdown of all rows of the final protocol."""
    final = [row for row in rows if row["protocol"] == PROTOCOL]
    parts = [main_table([row for row in final if "+" not in row["variant"]])]
    compared = [row for row in final if "others" in row]
    if compared:
        parts.append(comparison(compared))
    if (ROOT / PLOT).exists():
        parts.append(f"![mAP over the minutes of training, one panel for each method]({PLOT})")
    return "\n\n".join(parts)


def main_table(rows: list[Row]) -> str:
    """One line for each method, budget and machine, a column for each length."""
    lines = [
        "| method | 16 bits | 32 bits | 64 bits | budget | seeds | machine, date |",
        "|---|---|---|---|---|---|---|",
        "| SPQ, as published | "
        + " | ".join(f"{PUBLISHED[bits]:.3f}" for bits in LENGTHS)
        + " | thousands of epochs | | |",
    ]
    nested = [row for row in rows if "lengths" in row]
    apart = [row for row in rows if "lengths" not in row]
    for group in (g for part in (apart, nested) for g in grouped(part, GROUP)):
        maps = [[value for row in group if (value := map_of(row, bits)) is not None] for bits in LENGTHS]
        cells = [_mean_and_range(values) for values in maps]
        seeds = sorted({len(values) for values in maps} - {0})
        given = sorted([*map(int, group[0].get("lengths", {})), group[0]["bits"]])
        once = f", one training for {', '.join(map(str, given))} bits" if len(given) > 1 else ""
        lines.append(
            f"| {title(group[0]['variant'])}{once} | {' | '.join(cells)} | {budget(group)} | {'-'.join(map(str, seeds))} "
            f"| {group[0]['machine']}, {max(row['date'] for row in group)} |"
        )
    return "\n".join(lines)


def map_of(row: Row, bits: int) -> float | None:
    """At a length of codes, which may be a shorter one of the same model."""
    value: float | None = row["map"] if row["bits"] == bits else row.get("lengths", {}).get(str(bits))
    return value


def comparison(rows: list[Row]) -> str:
    """What classic codes of the same length make of the same descriptors, and what each part of the method brings."""
    lines = [
        "The same descriptors in classic codes of the same length, and in none (float cosine); and recipes with a part changed:",
        "",
        "| training | bits | its own codes | " + " | ".join(CLASSIC) + " | budget | seeds |",
        "|---|---|---|" + "---|" * len(CLASSIC) + "---|---|",
    ]
    for group in grouped(rows, (*GROUP, "code_bits")):
        classic = [_mean_and_range([row["others"][name] for row in group if name in row["others"]]) for name in CLASSIC]
        lines.append(
            f"| {title(group[0]['variant'])} | {group[0]['code_bits']} | {_mean_and_range([row['map'] for row in group])} "
            f"| {' | '.join(classic)} | {budget(group)} | {len(group)} |"
        )
    return "\n".join(lines)


def grouped(rows: list[Row], keys: tuple[str, ...]) -> list[list[Row]]:
    """Rows that agree in these keys, groups in the order of their first rows."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return list(groups.values())


def title(variant: str) -> str:
    """`fast+hard` in words."""
    if variant == "authors":
        return "the authors' code"
    name, _, changes = variant.partition(":")
    base, plus, ablation = name.rpartition("+")
    words = f"spq, recipe `{base}`, {ABLATIONS[ablation].title}" if plus else f"spq, recipe `{name}`"
    return f"{words}, `{changes}`" if changes else words


def budget(rows: list[Row]) -> str:
    """What was asked for, and what it came to."""
    first, epochs = rows[0], statistics.mean(row["epochs_done"] for row in rows)
    if first["epochs"]:
        return f"{first['epochs']} epochs ({statistics.mean(row['minutes_spent'] for row in rows):.0f} minutes)"
    return f"{first['minutes']:g} minutes ({epochs:.3g} epochs)"


def _mean_and_range(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


def inserted(readme: str, text: str) -> str:
    """The README with that text between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"README.md lacks the markers {BEGIN} and {END}"
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> None:
    parser = parser_of("report", __doc__)
    parser.add_argument("--check", action="store_true", help="only say whether README.md is up to date")
    options = parser.parse_args()
    readme = README.read_text("utf-8")
    wanted = inserted(readme, report(json.loads(RESULTS.read_text("utf-8"))))
    if options.check and wanted != readme:
        sys.exit("README.md does not say what benchmarks/results/quality.json holds; run spq bench report")
    if wanted != readme:
        README.write_text(wanted, "utf-8")
    print("README.md is up to date")


if __name__ == "__main__":
    entrance("report", main)
