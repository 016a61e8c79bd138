"""Write the tables of docs/results.md from the numbers of `spq bench quality --test`.

    spq bench report                      # write the tables between two markers in docs/results.md, and the plots of 32 bits
    spq bench report --check              # exit status 1 if docs/results.md is not up to date
    spq bench report --add QUALITY.json   # add its rows, replace older rows of the same runs, and write the tables
    spq bench report --rows QUALITY.json --page PAGE.md   # its tables alone, of any protocol, in a page of their own

All numbers are from benchmarks/results/quality.json, except those of the paper.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from _entrance import entrance, parser_of
from _plots import save_plots
from _variants import ABLATIONS
from quality import as_text
from spq.cli.describe import counted
from spq.common.files import Replacing

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- made by: spq bench report -->", "<!-- end -->"
PROTOCOL = "cifar10-spq"
LENGTHS = (16, 32, 64)
PUBLISHED = {
    16: 0.768,
    32: 0.793,
    64: 0.812,
}  # Jang and Cho, ICCV 2021, table of CIFAR-10; thousands of epochs on a GPU
# rows of one group are averaged; a newer row of a run replaces an older one
GROUP = ("variant", "commit", "minutes", "epochs", "machine")
RUN = ("variant", "bits", "seed", "minutes", "epochs", "protocol", "machine")
CLASSIC = ("PQ", "OPQ", "PQ-256", "OPQ-256", "ITQ", "LSH", "float cosine")
PLOTS, PLOTTED = "docs/images", 32  # bits
Row = dict[str, Any]


def report(rows: list[Row], protocol: str = PROTOCOL) -> str:
    """Markdown of all rows of a protocol."""
    final = [row for row in rows if row["protocol"] == protocol]
    parts = [main_table(in_first_table(rows, protocol), with_published=protocol == PROTOCOL)]
    compared = [row for row in final if "others" in row]
    if whole := [row for row in compared if "+" not in row["variant"]]:
        parts.append(comparison(whole))
    parts += [ablations(group) for group in grouped_by_base(compared)]
    if protocol == PROTOCOL and (ROOT / PLOTS / f"map-over-time-{PLOTTED}.png").exists():
        words = "mAP over the minutes of training, one panel for each method"
        parts.append(f"![{words}](images/map-over-time-{PLOTTED}.png)")
    return "\n\n".join(parts)


def in_first_table(rows: list[Row], protocol: str = PROTOCOL) -> list[Row]:
    """Rows of complete methods under a protocol, without ablations."""
    return [row for row in rows if row["protocol"] == protocol and "+" not in row["variant"]]


def main_table(rows: list[Row], with_published: bool = True) -> str:
    """One line for each method, budget and machine, and one column for each length."""
    lines = [
        "| method | 16 bits | 32 bits | 64 bits | budget | seeds | machine, date |",
        "|---|---|---|---|---|---|---|",
    ]
    if with_published:
        published = " | ".join(f"{PUBLISHED[bits]:.3f}" for bits in LENGTHS)
        lines.append(f"| SPQ, as published | {published} | thousands of epochs | | |")
    nested = [row for row in rows if "lengths" in row]
    apart = [row for row in rows if "lengths" not in row]
    for group in [*grouped(apart, GROUP), *grouped(nested, (*GROUP, "fingerprint"))]:
        maps = [[value for row in group if (value := map_of(row, bits)) is not None] for bits in LENGTHS]
        cells = [_mean_and_range(values) for values in maps]
        seeds = sorted({len(values) for values in maps} - {0})
        lengths = sorted([*map(int, group[0].get("lengths", {})), group[0]["bits"]])
        once = f", one training for {', '.join(map(str, lengths))} bits" if len(lengths) > 1 else ""
        lines.append(
            f"| {title(group[0]['variant'])}{once} | {' | '.join(cells)} | {budget(group)} | {'-'.join(map(str, seeds))} "
            f"| {machine_of(group[0])}, {max(row['date'] for row in group)} |"
        )
    return "\n".join(lines)


def map_of(row: Row, bits: int) -> float | None:
    """mAP at a length of codes, which may be a shorter code of the same model."""
    value: float | None = row["map"] if row["bits"] == bits else row.get("lengths", {}).get(str(bits))
    return value


def comparison(rows: list[Row]) -> str:
    """A table of classic codes of the same length on the same descriptors."""
    names = [name for name in CLASSIC if any(name in row["others"] for row in rows)]
    lines = [
        "Classic codes of the same length on the same descriptors, and no code (float cosine):",
        "",
        "| training | bits | its own codes | " + " | ".join(names) + " | budget | seeds |",
        "|---|---|---|" + "---|" * len(names) + "---|---|",
    ]
    for group in grouped(rows, (*GROUP, "fingerprint", "code_bits")):
        classic = [_mean_and_range([row["others"][name] for row in group if name in row["others"]]) for name in names]
        lines.append(
            f"| {title(group[0]['variant'])} | {group[0]['code_bits']} | {_mean_and_range([row['map'] for row in group])} "
            f"| {' | '.join(classic)} | {budget(group)} | {len(group)} |"
        )
    return "\n".join(lines)


def grouped_by_base(rows: list[Row]) -> list[list[Row]]:
    """Ablations grouped with their recipe, if the recipe was run with the same budget, machine and commit."""
    keyed = [{**row, "base": base_of(row["variant"])} for row in rows]
    groups = grouped(keyed, ("base", "bits", "commit", "minutes", "epochs", "machine"))
    return [group for group in groups if {row["variant"] == row["base"] for row in group} == {True, False}]


def base_of(variant: str) -> str:
    """`fast+hard:train.lr=1e-3` -> `fast:train.lr=1e-3`."""
    name, colon, changes = variant.partition(":")
    return (name.rpartition("+")[0] or name) + colon + changes


def ablations(rows: list[Row]) -> str:
    """A table of a recipe, then the recipe with one part changed, with differences for the same seeds."""
    whole = {(row["seed"], row["code_bits"]): row["map"] for row in rows if row["variant"] == row["base"]}
    first = rows[0]
    lines = [
        f"Effect of each part: {title(first['base'])}, {nominal_budget(first)}, with one part changed "
        f"({machine_of(first)}, {max(row['date'] for row in rows)}):",
        "",
        "| | bits | its own codes | difference to the whole recipe, same seeds | precision at 1 | PQ | float cosine | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = list(ABLATIONS)
    groups = grouped(rows, ("variant", "code_bits"))
    for group in sorted(groups, key=lambda g: order.index(_ablation(g[0])) if _ablation(g[0]) else -1):
        is_whole = group[0]["variant"] == group[0]["base"]
        keyed = [(row["map"], (row["seed"], row["code_bits"])) for row in group if not is_whole]
        difference = _difference(
            [value - whole[key] for value, key in keyed if key in whole]
        )  # of codes of the same length
        first_one = _mean_and_range([row["precision"]["1"] for row in group])
        what = "the whole recipe" if is_whole else ABLATIONS[_ablation(group[0])].title
        cells = [_mean_and_range([row["others"][name] for row in group]) for name in ("PQ", "float cosine")]
        own = _mean_and_range([row["map"] for row in group])
        lines.append(
            f"| {what} | {group[0]['code_bits']} | {own} | {difference} | {first_one} | {' | '.join(cells)} | {len(group)} |"
        )
    return "\n".join(lines)


def _difference(values: list[float]) -> str:
    return f"{statistics.mean(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})" if values else ""


def _ablation(row: Row) -> str:
    return str(row["variant"].partition(":")[0].rpartition("+")[2] if row["variant"] != row["base"] else "")


def grouped(rows: list[Row], keys: tuple[str, ...]) -> list[list[Row]]:
    """Groups of rows with the same values of these keys, in the order of their first rows."""
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
    """The budget that was set, and the epochs and views that it was enough for."""
    first, views = rows[0], statistics.mean(row["views"] for row in rows)
    done = float(f"{statistics.mean(row['epochs_done'] for row in rows):.3g}")
    epochs = "" if first["epochs"] else f"{counted(done, 'epoch')}, "
    return f"{nominal_budget(first)} ({epochs}{views / 1e6:.2g} M views)"


def nominal_budget(row: Row) -> str:
    return counted(row["epochs"], "epoch") if row["epochs"] else counted(float(row["minutes"]), "minute")


def machine_of(row: Row) -> str:
    """The machine as text; in the results, threads are always in the plural."""
    return re.sub("^1 threads", "1 thread", row["machine"])


def _mean_and_range(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


def inserted(page: str, text: str) -> str:
    """The page with this text between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"docs/results.md lacks the markers {BEGIN} and {END}"
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def added(rows: list[Row], more: list[Row]) -> list[Row]:
    """The rows and more rows, which replace older rows of the same runs."""
    newer = [tuple(row[key] for key in RUN) for row in more]
    return [row for row in rows if tuple(row[key] for key in RUN) not in newer] + more


def main() -> None:
    parser = parser_of("report", __doc__)
    parser.add_argument(
        "--add", type=Path, nargs="+", default=[], metavar="FILE", help="written by spq bench quality --test"
    )
    parser.add_argument("--check", action="store_true", help="only check whether docs/results.md is up to date")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="with --page: written by spq bench quality")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --rows: the page to write")
    options = parser.parse_args()
    if options.rows and options.page:
        return write_page(json.loads(options.rows.read_text("utf-8")), options.page)
    page, rows = PAGE.read_text("utf-8"), json.loads(RESULTS.read_text("utf-8"))
    for path in options.add:
        rows = added(rows, json.loads(path.read_text("utf-8")))
    if options.add and not options.check:
        with Replacing(RESULTS) as temporary:
            temporary.write_text(as_text(rows), "utf-8")
    if not options.check:
        save_plots([row for row in in_first_table(rows) if row["bits"] == PLOTTED], ROOT / PLOTS)
    wanted = inserted(page, report(rows))
    if options.check and wanted != page:
        sys.exit("docs/results.md differs from benchmarks/results/quality.json; run spq bench report")
    if wanted != page:
        PAGE.write_text(wanted, "utf-8")
    print("docs/results.md is up to date")
    return None


def write_page(rows: list[Row], page: Path) -> None:
    """Write the tables of some rows alone, and print them, and plots beside them; the docs stay as they are."""
    save_plots([row for row in rows if "+" not in row["variant"] and row["bits"] == PLOTTED], page.parent)
    text = "\n\n".join(f"# {name}\n\n{report(rows, name)}" for name in dict.fromkeys(row["protocol"] for row in rows))
    with Replacing(page) as temporary:
        temporary.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    entrance("report", main)
