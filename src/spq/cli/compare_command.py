"""`spq compare`: methods on the same queries, from saved reports or rankings."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spq.cli.options import AsJson, OutFolder
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, when_stopped
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.evaluation.compare import Comparison
    from spq.evaluation.report import Report

Metric = Literal["map", "map_all", "map_r", "precision@1"]
TABLES = ("comparison.json", "comparison.csv", "comparison.tex")


@when_stopped(f"nothing was changed, {AGAIN}")
def compare(
    reports: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]REPORT...", help="Reports (.json) or rankings (.npz) of spq eval --out; a NAME joins seeds."
        ),
    ],
    metric: Annotated[Metric, typer.Option(help="What is compared.")] = "map",
    at: Annotated[int | None, typer.Option(min=1, help="The N of mAP@N, of rankings.")] = None,
    out: OutFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods on the same queries: mean over seeds, 95 % intervals, paired test against the first.

    Example: spq compare 'ours=runs/ours-*.json' theirs=runs/theirs.json --out tables/
    """
    from spq.cli.checks import check_folder

    groups = grouped(reports)
    if at is not None and (wrong := next((p for g in groups.values() for p in g if p.suffix != ".npz"), None)):
        raise ConfigError(
            f"--at {at} needs rankings, and {wrong} is a report; give the .npz files of spq eval --rankings"
        )
    if folder := next((p for g in groups.values() for p in g if p.is_dir()), None):
        raise ConfigError(f"{folder} is a folder; name its reports, for example 'NAME={folder}/*.json'")
    check_folder("--out", out)
    print_comparison(
        {name: [_loaded(path, at) for path in paths] for name, paths in groups.items()}, metric, out, as_json
    )


def grouped(arguments: list[str]) -> dict[str, list[Path]]:
    """Paths by the name of their method. Without a name, each path is a method of its own, named as the file is.

    A path may be a pattern with `*`, which the shell does not expand after `NAME=`.

    Raises:
        ConfigError: two methods would have the same name.
    """
    groups: dict[str, list[Path]] = {}
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        if equals and name and not Path(argument).exists():
            groups.setdefault(name, []).extend(Path(found) for found in sorted(glob.glob(rest)) or [rest])  # noqa: PTH207
        else:
            path = Path(argument)
            if path.stem in groups:
                raise ConfigError(f"two methods named {path.stem}; name them, for example {path.stem}-2={argument}")
            groups[path.stem] = [path]
    return groups


def _loaded(path: Path, at: int | None) -> Report:
    from spq.evaluation.rankings import Rankings
    from spq.evaluation.report import Report

    return Report.from_rankings(Rankings.load(path), at) if path.suffix == ".npz" else Report.load(path)


def print_comparison(groups: dict[str, list[Report]], metric: Metric, out: Path | None, as_json: bool) -> None:
    """Print the comparison of some reports, or the only one; write tables and plots if there is a folder for them."""
    from spq.evaluation.compare import compare as run_comparison
    from spq.evaluation.comparison_tables import as_text

    every = [report for group in groups.values() for report in group]
    if len(every) == 1:
        show(json.dumps(every[0].to_dict()) if as_json else every[0].table())
        return
    comparison = run_comparison(groups, metric=metric)
    for path in save_comparison(comparison, out) if out else ():
        note(f"wrote {path}")
    show(json.dumps(comparison.to_dict()) if as_json else as_text(comparison))


def save_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison as JSON, CSV, LaTeX and plots; returns their paths."""
    from spq.common.files import Replacing
    from spq.evaluation.comparison_tables import as_csv, as_latex

    folder.mkdir(exist_ok=True)
    texts = (json.dumps(comparison.to_dict(), indent=2) + "\n", as_csv(comparison), as_latex(comparison))
    for name, text in zip(TABLES, texts, strict=True):
        with Replacing(folder / name) as temporary:
            temporary.write_text(text, "utf-8")
    return [*(folder / name for name in TABLES), *comparison.save_plots(folder)]
