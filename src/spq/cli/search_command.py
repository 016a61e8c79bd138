"""`spq search`: find similar pictures in an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spq.cli.options import AsJson, ContactSheet, IndexName, MaxPixels, NulPaths, PathsOnly, Threads
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, when_stopped

if TYPE_CHECKING:
    from spq.index.manifest import Manifest

METHODS = "How codes are scanned. auto picks the fastest exact method; only ivf is approximate."
RECALL = (
    "ivf: share of the 100 nearest codes to find. A smaller value is faster. "
    "If the query is not in the index, spq finds slightly fewer."
)
FOLD = (
    "Group pictures that have the same code into one answer. With 16 bits, many different pictures have the same code."
)
WEIGHTS = "One for each IMAGE, then each --id, then each --not. Default: 1, and 0.3 for --not."
WHERE = (
    "Only pictures for which EXPR is true. Columns: path, width, height, size, time, label and your metadata. "
    "Operators: = != < <= > >= ~ in and or not."
)

Method = Literal["auto", "exact", "bucket", "fast", "ivf"]  # as in `spq.pq.scan`, which loads NumPy


@when_stopped(f"the index is as it was, {AGAIN}")
def search(
    index: IndexName,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE", help="Find pictures like these; - is stdin.")
    ] = None,
    ids: Annotated[
        list[int] | None, typer.Option("--id", help="Find pictures like this item, and omit the item itself.")
    ] = None,
    negatives: Annotated[
        list[str] | None, typer.Option("--not", metavar="IMAGE", help="Find pictures unlike this one.")
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="W,...", help=WEIGHTS)] = None,
    box: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="Only this region of IMAGE, in pixels.")] = None,
    where: Annotated[str | None, typer.Option(metavar="EXPR", help=WHERE)] = None,
    max_distance: Annotated[float | None, typer.Option(help="Omit answers at a larger distance.")] = None,
    fold: Annotated[bool, typer.Option("--fold", help=FOLD)] = False,
    top: Annotated[int, typer.Option(min=1, help="Number of answers.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Skip this many answers at the start.")] = 0,
    html: ContactSheet = None,
    method: Annotated[Method, typer.Option(help=METHODS)] = "auto",
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    nprobe: Annotated[int | None, typer.Option(min=1, help="ivf: number of lists to scan.")] = None,
    recall_target: Annotated[float | None, typer.Option(help=RECALL)] = None,
    as_json: AsJson = False,
    paths_only: PathsOnly = False,
    nul: NulPaths = False,
) -> None:
    """Find the pictures that are most like IMAGE.

    With several pictures it finds what is like all of them, and unlike those of --not.

    Search is exact, unless you give --nprobe, --recall-target or --method ivf. With these options,
    spq first builds lists of similar codes. Building lists takes more time than many exact searches together. So use these
    options only in a program that keeps the index open.

    Example: spq search photos.index query.jpg --top 5

    Example: spq search photos.index a.jpg b.jpg --not c.jpg --where "label = shoe and width >= 640"

    Example: spq search photos.index --id 17 --fold --offset 20
    """
    from spq.cli.checks import check_file
    from spq.cli.file_paths import file_finder, print_paths
    from spq.cli.progress import counting
    from spq.cli.publishing import index_folder
    from spq.cli.search import QueryNames, line, parse_box, parse_weights, read_request, write_sheet
    from spq.index.image_index import ImageIndex

    names = QueryNames(images or [], ids or [], negatives or [])
    options = {
        "box": parse_box(box), "weights": parse_weights(weights), "top": top, "where": where, "max_distance": max_distance,
        "fold": fold, "offset": offset, "method": method, "threads": threads, "nprobe": nprobe, "recall_target": recall_target,
    }  # fmt: skip
    check_file("--html", html)
    with index_folder(index) as folder, ImageIndex.open(folder) as opened:
        with counting("reading pictures") as progress:
            request = read_request(names, opened, options, progress, note)
        if method == "ivf" or nprobe or recall_target:
            note(_lists_text(len(opened), opened.store.manifest, method))
        (hits,) = opened.hits(request)
        if html:
            write_sheet(html, opened, names, request, hits)
        file_of = file_finder(opened.store.manifest.origin)
    if not hits:
        note(_nothing(where, max_distance, offset))
    if paths_only or nul:
        print_paths(filter(None, (file_of(path) for hit in hits for path in (hit.path, *hit.folded))), nul)
        return
    for hit in hits:
        show(line(hit, as_json, fold, file_of))


def _nothing(where: str | None, max_distance: float | None, offset: int) -> str:
    """Why there is no answer: the options that leave some out, or an index without other pictures."""
    given = [
        *(["a wider --where"] if where else []),
        *(["a larger --max-distance"] if max_distance is not None else []),
        *(["a smaller --offset"] if offset else []),
    ]
    return f"no pictures found; try {' or '.join(given)}" if given else "no pictures found: the index has no other"


def _lists_text(images: int, codes: Manifest, method: str) -> str:
    """The memory that lists need; empty if the search uses none."""
    from spq.pq import fastscan
    from spq.pq.scan import IVF_FROM, memory_bytes

    if codes.codebook_size != fastscan.K or (method != "ivf" and images < IVF_FROM):
        return ""
    size = memory_bytes(images, codes.num_codebooks, ivf=True)
    return (
        f"building lists of similar codes for this search: up to {size / 1e6:,.0f} MB, and three times that meanwhile"
    )
