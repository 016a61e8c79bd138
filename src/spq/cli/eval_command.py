"""`spq eval`: measure how well a model finds pictures of the same class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spq.cli.describe import listed
from spq.cli.options import AsJson, ModelFolder, ShorterBits, Threads
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, when_stopped
from spq.config import Distance
from spq.errors import ConfigError


@when_stopped(f"nothing was changed, {AGAIN}")
def evaluate(
    model: ModelFolder,
    protocol: Annotated[
        str | None, typer.Option(help="cifar10-spq, cifar10-i, cifar10-ii, flickr25k or nuswide21.")
    ] = None,
    gallery: Annotated[str | None, typer.Option(help="Any labelled collection; needs --queries.")] = None,
    queries: Annotated[str | None, typer.Option(help="Another collection with the same classes.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of flickr25k or nuswide21.")] = None,
    at: Annotated[int | None, typer.Option(min=1, help="The N of mAP@N.")] = None,
    bits: ShorterBits = None,
    distance: Annotated[Distance | None, typer.Option(help="Overrides the model's distance.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also measure classic methods.")] = False,
    plots: Annotated[Path | None, typer.Option(help="Folder for plots of precision-recall and P@N.")] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval quality on labelled pictures.

    Example: spq eval photos.spq --protocol cifar10-spq --baselines
    """
    if (protocol is None) == (gallery is None) or (gallery is None) != (queries is None):
        raise ConfigError("give either --protocol NAME, or --gallery and --queries; see spq eval --help")
    from spq.cli.checks import check_folder
    from spq.data.protocols import custom_protocol, load_protocol

    check_folder("--plots", plots)
    chosen = load_protocol(protocol, root=root) if protocol else custom_protocol(str(gallery), str(queries))
    remarks = [*chosen.gallery.remarks, *chosen.queries.remarks]
    note(listed("note", remarks))
    from spq.api import SPQ
    from spq.cli.progress import Stages
    from spq.evaluation.evaluate import evaluate as run_evaluation

    loaded = SPQ.load(model).truncate(bits)
    with Stages() as stages:
        report = run_evaluation(
            loaded, chosen, at=at, distance=distance, baselines=baselines, progress=note, on_stage=stages.stage
        )
    if plots:
        for path in report.save_plots(plots):
            note(f"wrote {path}")
    show(json.dumps({**report.to_dict(), "remarks": remarks}) if as_json else report.table())
