"""`spq index`: build or update an index, compact it, verify it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spq.cli.describe import listed
from spq.cli.options import SOURCES, AsJson, Device, ShorterBits
from spq.cli.output import fail, note
from spq.common.text import printable
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.index.sync import SyncReport
    from spq.model.model import Model


def index(
    out: Annotated[Path, typer.Option(help="Index folder to write or to update.")],
    images: Annotated[str | None, typer.Argument(metavar="IMAGES", help=SOURCES)] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder; needed with IMAGES.")] = None,
    bits: ShorterBits = None,
    keep_missing: Annotated[
        bool, typer.Option("--keep-missing", help="Keep pictures whose files no longer exist.")
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Free unused disk space in OUT.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check all of OUT; exit status 1 if it has faults.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another process writes to OUT.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Encode pictures into an index, or update an index.

    An update adds new pictures, encodes changed ones again and removes missing ones.
    Pictures in folders that cannot be read are kept. Without IMAGES, the command only compacts or verifies.

    Example: spq index photos/ --model photos.spq --out photos.index

    Example: spq index --verify --out photos.index
    """
    if (images is None) != (model is None) or (images is None and not (compact or verify)):
        raise ConfigError("give IMAGES with --model MODEL, or --compact or --verify without; see spq index --help")
    report = None
    if images and model:
        try:
            source = _open(images, out)
            report = _update(out, source, _load(model, device), bits, keep_missing, wait)
        except KeyboardInterrupt:
            raise typer.Exit(
                fail("stopped; encoded pictures are kept, run the same command to continue", 130)
            ) from None
    sizes = _compact(out, wait) if compact else None
    faults = _faults(out) if verify else None
    if as_json:
        facts = {"index": str(out)} if faults else _facts(out, report)
        print(json.dumps(facts | ({"bytes": sizes} if sizes else {}) | ({"faults": faults} if verify else {})))
    else:
        _print(out, report, sizes, faults)
    if faults:
        raise typer.Exit(1)


def _open(images: str, out: Path) -> ImageSet:
    """The collection. What can be checked without torch is checked before torch is loaded."""
    from spq.cli.checks import check_folder
    from spq.data.open import open_images
    from spq.index.format import has_index, read_manifest

    source = open_images(images)
    check_folder("--out", out)
    if has_index(out):
        read_manifest(out)  # raises if the index is damaged
    return source


def _load(model: Path, device: str) -> Model:
    from spq.api import SPQ
    from spq.model.device import resolve_device

    return SPQ.load(model, resolve_device(device))


def _update(out: Path, source: ImageSet, model: Model, bits: int | None, keep_missing: bool, wait: float) -> SyncReport:
    """Build the index, or update it."""
    from spq.cli.progress import counting
    from spq.index.format import has_index, read_manifest
    from spq.index.image_index import ImageIndex

    before = read_manifest(out).source if has_index(out) else ""
    with (
        counting("encoding") as progress,
        ImageIndex.build(out, model, source, progress, keep_missing=keep_missing, wait=wait, bits=bits) as built,
    ):
        report, now = built.last_sync, built.store.manifest.source
        if before not in ("", now) and report.removed:
            dropped = f"{out} held the pictures of {before}; those that are not in {now} were removed from the index"
            report.note = f"{dropped}; {report.note}" if report.note else dropped
        return report


def _compact(out: Path, wait: float) -> tuple[int, int]:
    """Free unused disk space; returns bytes before and after."""
    from spq.index.store import Store

    with Store.open(out, wait) as store, store.writing():
        return store.compact()


def _faults(out: Path) -> list[str]:
    """One line for each fault of the index."""
    from spq.index.verify import faults

    return list(faults(out))


def _facts(out: Path, report: SyncReport | None) -> dict[str, Any]:
    """What `--json` prints of the index and of the update."""
    from spq.index.image_index import ImageIndex

    with ImageIndex.open(out) as opened:
        return {"index": str(out), **opened.info(), **(asdict(report) if report else {})}


def _print(out: Path, report: SyncReport | None, sizes: tuple[int, int] | None, faults: list[str] | None) -> None:
    if report:
        note(report.note)
        note(listed("not indexed", report.failed))
        note(listed("folder that cannot be read", report.unseen))
        print(_sync_text(_facts(out, report), report))
    if sizes:
        print(f"{out}: {sizes[0]:,} bytes before, {sizes[1]:,} after")
    if faults is not None:
        print("\n".join(map(printable, faults)) or f"{out}: no fault found")


def _sync_text(facts: dict[str, Any], report: SyncReport) -> str:
    """What the update did, in one line."""
    done = [f"{getattr(report, key)} {key}" for key in ("added", "changed", "renamed", "removed", "unchanged")]
    done.append(f"{len(report.failed)} unreadable")
    done += [f"{report.described} with new metadata"] * bool(report.described)
    done += [f"{report.kept} kept without a file"] * bool(report.kept)
    return f"{facts['index']}: {facts['images']:,} pictures at {facts['bits']} bits ({', '.join(done)})"
