"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spq.common.parallel import use_threads

SOURCES = "A folder, *.parquet, *.tar, cifar10:train, fashion-mnist:train or sample:train."
SEED = typer.Option(
    min=0, max=2**31 - 1, help="The same seed gives the same result on one machine with one number of threads."
)

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Images = Annotated[list[str], typer.Argument(metavar="IMAGES...", help=f"{SOURCES} Several become one collection.")]
IndexName = Annotated[str, typer.Argument(metavar="INDEX", help="Index folder, or the URL of a published index.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out pictures and folders, such as '*.gif' or screenshots; repeatable."),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Take only pictures and folders that match; or also a folder that is passed over, such as @eaDir; repeatable.",
    ),
]
FollowLinks = Annotated[
    bool | None, typer.Option("--follow-links/--no-follow-links", help="List also folders that are linked, each once.")
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="cifar10-spq, cifar10-i, cifar10-ii, cifar10-all, flickr25k, nuswide21, imagenet100 or coco.",
    ),
]
Root = Annotated[
    Path | None, typer.Option(help="Folder of the protocol's pictures, or of pictures and the lists of a split.")
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder for reports, tables and plots.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def _use_threads(count: int | None) -> int | None:
    """Apply --threads while the command line is read: commands load torch, FAISS and NumPy only after that."""
    if count is not None:
        use_threads(count)
    return count


# Commands only declare this one.
Threads = Annotated[
    int | None, typer.Option(min=1, callback=_use_threads, help="Number of threads. Default: all cores.")
]
PathsOnly = Annotated[bool, typer.Option("--paths-only", help="Print only absolute paths, one on a line.")]
NulPaths = Annotated[
    bool, typer.Option("-0", "--null", help="As --paths-only, with a zero byte after each, for xargs -0.")
]


def _limit_pixels(count: int | None) -> int | None:
    """Apply --max-pixels while the command line is read: it holds for all pictures of the process."""
    if count is not None:
        from spq.data.decode import set_max_pixels

        set_max_pixels(count)
    return count


# Commands only declare this one, too.
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        callback=_limit_pixels,
        help="Refuse pictures with more pixels. Default: 178,956,970; spq serve: 50,000,000 for uploads. "
        "A JPEG may have 8 times as many.",
    ),
]
ContactSheet = Annotated[Path | None, typer.Option(help="Also write a contact sheet.")]
ShorterBits = Annotated[int | None, typer.Option(help="One of the model's shorter codes; spq info lists them.")]
