"""`spq dupes`: report copies and similar pictures in a folder or an index."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spq.cli.describe import counted, listed, passed_over
from spq.cli.indexing import names_index
from spq.cli.options import SEED, AsJson, ContactSheet, NulPaths, PathsOnly, Threads
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, when_stopped
from spq.common.patterns import settled
from spq.common.text import printable
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.dupes.find import Options, Report
    from spq.dupes.keep import Preference
    from spq.index.image_index import ImageIndex

COLLECTION = "An index, or folders, *.parquet and *.tar. With an index, similar pictures are found too."
PREFER = "Keep pictures whose path matches, such as originals/ or '*.dng'; repeatable, the first counts most."
AGAINST = "A folder or an index. Report which pictures of COLLECTION it has already; its own are always kept."
IGNORE = "These two pictures of COLLECTION are no duplicates: remember that. Nothing else is done."
Keep = Literal["oldest", "newest", "largest", "smallest", "shortest-path", "most-pixels"]  # as in `spq.dupes.keep`
Pair = tuple[str, str] | None


@when_stopped(f"pictures and index are as they were, {AGAIN}")
def dupes(
    collection: Annotated[list[str], typer.Argument(metavar="COLLECTION...", help=COLLECTION)],
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Codes at most this far apart are similar (distance dot: squared Euclidean). Default: reach --recall."
        ),
    ] = None,
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="Share of altered copies that calibration aims to find.")
    ] = 0.9,
    prefer: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help=PREFER)] = None,
    keep: Annotated[
        Keep | None, typer.Option(help="Which copy to keep. Default: the one that is most original.")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="REFERENCE", help=AGAINST)] = None,
    ignore: Annotated[Pair, typer.Option(metavar="A B", help=IGNORE)] = None,
    forget: Annotated[Pair, typer.Option(metavar="A B", help="Report these two again.")] = None,
    ignored: Annotated[bool, typer.Option("--ignored", help="List the pairs of --ignore.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Also write a table of all groups.")] = None,
    html: ContactSheet = None,
    seed: Annotated[int, SEED] = 0,
    threads: Threads = None,
    as_json: AsJson = False,
    paths_only: PathsOnly = False,
    nul: NulPaths = False,
) -> None:
    """Find identical files, and pictures that are re-encoded, edited or similar. It only reports, and deletes nothing.

    Confirmed copies were compared at full size. Pictures that are almost the same, or of a burst, are listed apart.
    --paths-only prints the confirmed copies that could be deleted.

    Example: spq dupes photos

    Example: spq dupes photos.index --csv copies.csv --html copies.html

    Example: spq dupes new-photos --against photos.index
    """
    from spq.cli import not_duplicates
    from spq.cli.checks import check_file
    from spq.cli.progress import Stages
    from spq.dupes.find import Options, find_duplicates
    from spq.dupes.keep import Preference

    if threshold is not None and not 0 <= threshold < float("inf"):
        raise ConfigError(f"--threshold must be a distance of 0 or more, got {threshold:g}")
    if as_json and (paths_only or nul):
        raise ConfigError("--json and --paths-only are two forms of the answer; give one")
    check_file("--csv", csv)
    check_file("--html", html)
    with ExitStack() as stack:
        index, images = opened(stack, collection)
        if index is None and threshold is not None:
            raise ConfigError("--threshold is for codes, which only an index has; give an index, or omit --threshold")
        file = not_duplicates.file_for(index.store.folder if index else None)
        if ignore or forget or ignored:
            _ignore(file, images, ignore, forget, as_json)
            return
        options = Options(threshold, recall, seed, Preference(tuple(map(settled, prefer or ())), keep or ""))
        options = with_reference(stack, options, file, against)
        with Stages() as stages:
            report = find_duplicates(index, images, options, stages.stage)
        _note_idle(options.preference, [images, *([options.reference[1]] if options.reference else [])])
        try:  # first: a full disk does not cost the answer
            _show(report, ", ".join(collection), as_json, paths_only, nul)
        finally:  # also if the reader of the answer, for example `head`, has closed the pipe
            _write(report, images, options, csv, html)


def _note_idle(preference: Preference, collections: list[ImageSet]) -> None:
    """Name patterns of --prefer that match nothing."""
    names = (
        (images.ids[n], os.fspath(images.path(n) or "").replace("\\", "/"))
        for images in collections
        for n in range(len(images))
    )
    for pattern in preference.idle(names):
        note(f"--prefer {printable(pattern)} matches no picture; give a part of a path, such as originals/")


def opened(stack: ExitStack, names: list[str]) -> tuple[ImageIndex | None, ImageSet]:
    """The index, if one is given, and the pictures of a collection."""
    from spq.data.open import open_collections, open_images
    from spq.index.image_index import ImageIndex

    indexes = [name for name in names if names_index(name)]
    if not indexes:
        images = open_collections(names)
        note(passed_over(images.aside))
        note(listed("left out", [*images.unlisted, *images.unopened]))
        return None, images
    if len(names) > 1:
        raise ConfigError(f"{indexes[0]} is an index; give it alone, or folders")
    index = stack.enter_context(ImageIndex.open(Path(indexes[0])))
    return index, open_images(index.store.manifest.origin)


def with_reference(stack: ExitStack, options: Options, file: Path | None, against: str | None) -> Options:
    """Add the pairs that are ignored, and the collection to compare with."""
    from dataclasses import replace

    from spq.cli.not_duplicates import known_pairs

    apart = frozenset(pair.key for pair in known_pairs(file))
    return replace(options, apart=apart, reference=opened(stack, [against]) if against else None)


def _ignore(file: Path | None, images: ImageSet, ignore: Pair, forget: Pair, as_json: bool) -> None:
    from spq.cli import not_duplicates

    if ignore:
        not_duplicates.remember(file, images, ignore)
    if forget:
        not_duplicates.forget(file, images, forget)
    if not (ignore or forget):
        not_duplicates.show(file, as_json)


def _write(report: Report, images: ImageSet, options: Options, csv: Path | None, html: Path | None) -> None:
    from spq.cli.reports import dupes_report

    if csv:
        dupes_report.write_csv(csv, report)
    if html:
        dupes_report.write_html(html, report, images, options.reference[1] if options.reference else None)


def _show(report: Report, name: str, as_json: bool, paths_only: bool, nul: bool) -> None:
    from spq.cli.file_paths import print_paths
    from spq.cli.reports import dupes_report

    if as_json:
        print(json.dumps({"collection": name, **dupes_report.to_json(report)}))
        return
    note(listed("left out", report.left_out))
    if report.in_both:
        note(f"not compared: {counted(report.in_both, 'picture')} of {printable(name)}, files that --against has too")
    if paths_only or nul:
        print_paths((member.file for member in dupes_report.superfluous(report) if member.file), nul)
    else:
        show(dupes_report.text(report))
