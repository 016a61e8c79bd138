"""`spq dupes`: report copies and similar pictures in an index."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from spq.cli.describe import listed
from spq.cli.failures import AGAIN, when_stopped
from spq.cli.options import SEED, AsJson, ContactSheet, IndexFolder, Threads
from spq.cli.output import note
from spq.errors import ConfigError


@when_stopped(f"pictures and index are as they were, {AGAIN}")
def dupes(
    index: IndexFolder,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Codes at most this far apart are similar (distance dot: squared Euclidean). Default: reach --recall."
        ),
    ] = None,
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="Share of altered copies that calibration aims to find.")
    ] = 0.9,
    csv: Annotated[Path | None, typer.Option(help="Also write a table of all groups.")] = None,
    html: ContactSheet = None,
    seed: Annotated[int, SEED] = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Find identical files, and pictures that are re-encoded, edited or similar. It only reports, and deletes nothing.

    Example: spq dupes photos.index --csv copies.csv --html copies.html
    """
    from spq.cli.checks import check_file
    from spq.cli.progress import Stages
    from spq.cli.reports import dupes_report
    from spq.data.open import open_images
    from spq.dupes.find import find_duplicates
    from spq.index.image_index import ImageIndex

    if threshold is not None and not 0 <= threshold < float("inf"):
        raise ConfigError(f"--threshold must be a distance of 0 or more, got {threshold:g}")
    check_file("--csv", csv)
    check_file("--html", html)
    with ImageIndex.open(index) as opened, Stages() as stages:
        images = open_images(opened.store.manifest.origin)
        report = find_duplicates(opened, images, threshold=threshold, recall=recall, seed=seed, progress=stages.stage)
    if csv:
        dupes_report.write_csv(csv, report)
    if html:
        dupes_report.write_html(html, report, images)
    if as_json:
        print(json.dumps({"index": str(index), **asdict(report)}))
    else:
        note(listed("left out", report.left_out))
        print(dupes_report.text(report))
