"""`spq eval`: measure how well models find pictures of the same class."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spq.cli.compare_command import grouped, print_comparison
from spq.cli.describe import listed
from spq.cli.options import AsJson, OutFolder, ProtocolName, Root, ShorterBits, Threads
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, when_stopped
from spq.config import Distance
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.data.protocols import Protocol
    from spq.evaluation.report import Report


@when_stopped(f"what was written is complete, {AGAIN}")
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]MODEL...", help="Model folders; several are compared. A NAME joins seeds."),
    ],
    protocol: ProtocolName = None,
    gallery: Annotated[str | None, typer.Option(help="Any labelled collection; needs --queries.")] = None,
    queries: Annotated[str | None, typer.Option(help="Another collection with the same classes.")] = None,
    root: Root = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", "--split-seed", min=0, help="Of the protocol's split. Default: the model's, else 0."),
    ] = None,
    at: Annotated[int | None, typer.Option(min=1, help="The N of mAP@N.")] = None,
    bits: ShorterBits = None,
    distance: Annotated[Distance | None, typer.Option(help="Overrides the model's distance.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also measure classic methods.")] = False,
    out: OutFolder = None,
    rankings: Annotated[
        int, typer.Option(min=0, metavar="TOP", help="Also store the first TOP answers of each query in OUT.")
    ] = 0,
    plots: Annotated[Path | None, typer.Option(help="Folder for plots of precision-recall and P@N.")] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval quality on labelled pictures, also of several models on the same queries.

    Example: spq eval photos.spq --protocol cifar10-spq --baselines

    Example: spq eval ours=a.spq ours=b.spq theirs=c.spq --protocol cifar10-ii --out reports/
    """
    if (protocol is None) == (gallery is None) or (gallery is None) != (queries is None):
        raise ConfigError("give either --protocol NAME, or --gallery and --queries; see spq eval --help")
    if rankings and not out:
        raise ConfigError(f"--rankings {rankings} are written to a folder; add --out FOLDER")
    from spq.cli.checks import check_folder

    groups = grouped(models)
    if plots and sum(map(len, groups.values())) > 1:
        raise ConfigError(f"--plots {plots} is for one model; of several, --out FOLDER writes plots and tables")
    for option, folder in (("--plots", plots), ("--out", out)):
        check_folder(option, folder)
    chosen = _protocol(protocol, gallery, queries, root, _split_seed(seed, protocol, next(iter(groups.values()))[0]))
    remarks = [*chosen.gallery.remarks, *chosen.queries.remarks]
    note(listed("note", remarks))
    run = _Run(chosen, bits, out, {"at": at, "distance": distance, "baselines": baselines, "rankings": rankings})
    reports = {
        name: [
            run.evaluate(path, f"{name}-{number}" if len(paths) > 1 else name) for number, path in enumerate(paths, 1)
        ]
        for name, paths in groups.items()
    }
    every = [report for group in reports.values() for report in group]
    if len(every) > 1:
        print_comparison(reports, "map", out, as_json)
        return
    for path in every[0].save_plots(plots) if plots else ():
        note(f"wrote {path}")
    show(json.dumps({**every[0].to_dict(), "remarks": remarks}) if as_json else every[0].table())


def _protocol(name: str | None, gallery: str | None, queries: str | None, root: Path | None, seed: int) -> Protocol:
    from spq.data.protocols import custom_protocol, load_protocol

    return load_protocol(name, root=root, seed=seed) if name else custom_protocol(str(gallery), str(queries))


def _split_seed(given: int | None, protocol: str | None, model: Path) -> int:
    """The seed of the split: the given one, or that which the model was trained with under this protocol."""
    if given is not None or protocol is None:
        return given or 0
    from spq.model.model_folder import read_config

    record = (read_config(model).get("training") or {}).get("protocol") or {}
    return int(record.get("split_seed", 0)) if record.get("name") == protocol else 0


@dataclass(frozen=True)
class _Run:
    """The evaluation of some models under one protocol. options: of `spq.evaluate`."""

    protocol: Protocol
    bits: int | None
    out: Path | None
    options: dict[str, Any]

    def evaluate(self, folder: Path, name: str) -> Report:
        """Evaluate a model, and write its report and rankings as files of this name."""
        from spq.api import SPQ
        from spq.cli.progress import Stages
        from spq.evaluation.evaluate import evaluate as run_evaluation

        model = SPQ.load(folder).truncate(self.bits)
        note(mismatch(str(folder), model.facts, self.protocol))
        with Stages() as stages:
            report = run_evaluation(model, self.protocol, **self.options, progress=note, on_stage=stages.stage)
        if self.out:
            self.out.mkdir(exist_ok=True)
            named = {f"{name}-{re.sub(r'[^A-Za-z0-9]+', '-', each)}": rival for each, rival in report.baselines.items()}
            for file, each in {name: report, **named}.items():
                each.save(self.out / f"{file}.json")
                note(f"wrote {self.out / f'{file}.json'}")
        if self.out and report.rankings:
            report.rankings.save(self.out / f"{name}.npz")
            note(f"wrote {self.out / f'{name}.npz'}")
        return report


def mismatch(model: str, training: dict[str, Any], protocol: Protocol) -> str:
    """One line if a model was trained under another protocol or split, or on a collection that has the queries; else ""."""
    trained, source, queries = training.get("protocol"), training.get("source"), protocol.queries
    if not isinstance(trained, dict):
        has_queries = source == queries.name or any(id_.startswith(f"{source}/") for id_ in queries.ids)
        return f"warning: {model} was trained on {source}, which has these queries" if source and has_queries else ""
    if protocol.name == "custom":
        return ""
    same_split = trained.get("split") == protocol.split
    if same_split and trained.get("training") == protocol.training_hash:
        return ""
    here, there = (protocol.name, protocol.split_seed), (trained.get("name"), trained.get("split_seed"))
    if here == there:
        what = f"on other pictures, or other lists, of {protocol.name}"
    else:
        named = (f"{name}, split seed {seed}" if seed is not None else str(name) for name, seed in (there, here))
        what = "for {}, not for {}".format(*named)
    danger = "its training pictures are others" if same_split else "it may have seen these queries"
    return f"warning: {model} was trained {what}; {danger}"
