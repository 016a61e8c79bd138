"""What `spq index` does: bring an index up to date, compact it, verify it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.cli.checks import check_folder

if TYPE_CHECKING:
    from spq.index.sync import SyncReport


def bring_up_to_date(
    images: str, model: Path, out: Path, bits: int | None, device: str, keep_missing: bool, wait: float
) -> SyncReport:
    """Make or sync the index. All that can be refused without torch is refused before it is loaded."""
    from spq.cli.progress import counting
    from spq.data.open import open_images
    from spq.index.format import has_index, read_manifest
    from spq.index.image_index import ImageIndex

    source = open_images(images)
    check_folder("--out", out)
    before = read_manifest(out).source if has_index(out) else ""
    from spq.api import SPQ
    from spq.model.device import resolve_device

    loaded = SPQ.load(model, resolve_device(device))
    with (
        counting("encoding") as progress,
        ImageIndex.build(out, loaded, source, progress, keep_missing=keep_missing, wait=wait, bits=bits) as index,
    ):
        report, now = index.last_sync, index.store.manifest.source
        if before not in ("", now) and report.removed:
            told = f"{out} held the pictures of {before}; those that {now} does not have were dropped"
            report.note = f"{told}; {report.note}" if report.note else told
        return report


def compact(out: Path, wait: float) -> tuple[int, int]:
    """Shrink the index; returns bytes before and after."""
    from spq.index.store import Store

    with Store.open(out, wait) as store, store.writing():
        return store.compact()


def verify(out: Path) -> list[str]:
    """One line for each fault of the index."""
    from spq.index.verify import faults

    return list(faults(out))


def facts_of_index(out: Path, report: SyncReport | None) -> dict[str, Any]:
    """What `spq index --json` says of it."""
    from spq.index.image_index import ImageIndex

    with ImageIndex.open(out) as index:
        return {"index": str(out), **index.info(), **(asdict(report) if report else {})}
