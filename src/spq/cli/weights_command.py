"""`spq weights`: pretrained weights on this machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spq.cli.options import AsJson
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, when_stopped
from spq.common.text import printable

if TYPE_CHECKING:
    from spq.model.weights import Weights


@when_stopped(f"nothing was changed, {AGAIN}")
def weights(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Also describe these .safetensors files.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the pretrained weights on this machine, with size, licence, and whether labels took part in their training.

    Each name is for spq train --backbone. A file is for --weights, together with --backbone timm/NAME.

    Example: spq weights
    """
    from spq.model.lite0 import INSTALL
    from spq.model.weights import best_at_hand, weights_at_hand

    found, best = weights_at_hand(files or []), best_at_hand()
    if as_json:
        print(json.dumps({"best": best, "weights": [dataclasses.asdict(each) for each in found]}))
    elif found:
        show(_table(found))
    if best is None:
        note(f"no pretrained network that spq would choose by itself is here; run {INSTALL}")
    elif not as_json:
        note(f"the best of them: {best}")


def _table(found: list[Weights]) -> str:
    rows = [("backbone", "place", "size", "licence", "labels", "path")]
    rows += [
        (each.backbone, each.place, f"{each.size / 1e6:,.1f} MB", each.licence, each.labels, printable(each.path))
        for each in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
