"""`spq index`: build or update an index, compact it, verify it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spq.cli.describe import counted, listed
from spq.cli.failures import CONTINUE, when_stopped
from spq.cli.options import SOURCES, AsJson, Device, ShorterBits, Threads
from spq.cli.output import note
from spq.common.text import printable
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.index.sync import SyncReport
    from spq.model.model import Model


@when_stopped(f"encoded pictures are kept, {CONTINUE}")
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
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Encode pictures into an index, or update an index.

    An update adds new pictures, encodes changed ones again and removes missing ones.
    Pictures in folders that cannot be read are kept. Without IMAGES, the command only compacts or verifies.

    Example: spq index photos/ --model photos.spq --out photos.index

    Example: spq index --verify --out photos.index
    """
    if (images is None) != (model is None) or (images is None and not (compact or verify)):
        raise ConfigError("give IMAGES and --model MODEL, or only --compact or --verify; see spq index --help")
    report, facts = None, dict[str, Any]()
    if images and model:
        source = _open(images, out)
        report, facts = _update(out, source, _load(model, device), bits, keep_missing, wait)
    sizes, facts = _compact(out, wait) if compact else (None, facts)
    faults, facts = _verify(out, facts) if verify else (None, facts)
    if as_json:
        shown = {"index": str(out)} | ({} if faults else facts | (asdict(report) if report else {}))
        print(json.dumps(shown | ({"bytes": sizes} if sizes else {}) | ({"faults": faults} if verify else {})))
    else:
        if report:
            _print_update(out, facts, report)
        if sizes:
            print(f"{out}: {sizes[0]:,} bytes before, {sizes[1]:,} after")
        if faults is not None:
            print("\n".join(map(printable, faults)) or f"{out}: no fault found")
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


def _update(
    out: Path, source: ImageSet, model: Model, bits: int | None, keep_missing: bool, wait: float
) -> tuple[SyncReport, dict[str, Any]]:
    """Build or update the index; returns what was done, and facts of the index."""
    from spq.cli.progress import counting
    from spq.index.build import BuildOptions, build
    from spq.index.format import has_index, read_manifest

    before = read_manifest(out).source if has_index(out) else ""
    with counting("encoding") as progress:
        built = build(out, model, source, progress, BuildOptions(keep_missing, wait, bits))
    with built.store as store:
        report, now = built.report, store.manifest.source
        if before not in ("", now) and report.removed:
            dropped = f"{out} held the pictures of {before}; those that are not in {now} were removed from the index"
            report.note = f"{dropped}; {report.note}" if report.note else dropped
        return report, store.info()


def _compact(out: Path, wait: float) -> tuple[tuple[int, int], dict[str, Any]]:
    """Free unused disk space; returns bytes before and after, and facts of the index."""
    from spq.index.store import Store

    with Store.open(out, wait) as store, store.writing():
        return store.compact(), store.info()


def _verify(out: Path, facts: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Check the index; returns a line for each fault, and facts of an index without faults.

    Args:
        facts: facts of the index, if they are known already.
    """
    from spq.index.store import Store
    from spq.index.verify import faults

    found = list(faults(out))
    if facts or found:
        return found, facts
    with Store.open(out) as store:
        return found, store.info()


def _print_update(out: Path, facts: dict[str, Any], report: SyncReport) -> None:
    note(report.note)
    note(listed("not indexed", report.failed))
    note(listed("folder that cannot be read", report.unseen))
    print(_sync_text(out, facts, report))


def _sync_text(out: Path, facts: dict[str, Any], report: SyncReport) -> str:
    """What the update did, in one line."""
    done = [f"{getattr(report, key)} {key}" for key in ("added", "changed", "renamed", "removed", "unchanged")]
    done.append(f"{len(report.failed)} unreadable")
    done += [f"{report.described} with new metadata"] * bool(report.described)
    done += [f"{report.kept} kept without a file"] * bool(report.kept)
    return f"{out}: {counted(facts['images'], 'picture')} at {facts['bits']} bits ({', '.join(done)})"
