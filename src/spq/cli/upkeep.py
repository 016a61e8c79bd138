"""What `spq index` does: bring an index up to date, compact it, verify it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.cli.checks import check_folder

if TYPE_CHECKING:
    from spq.index.sync import SyncReport


def bring_up_to_date(
    images: str, model: Path, out: Path, bits: int | None, device: str, keep_missing: bool, wait: float
) -> tuple[SyncReport, dict[str, Any]]:
    """Make or sync the index; returns what was done and facts of the index.

    What can be refused without torch is refused before torch is loaded.
    """
    from spq.cli.progress import counting
    from spq.data.open import open_images
    from spq.index.build import BuildOptions, build
    from spq.index.format import has_index, read_manifest

    source = open_images(images)
    check_folder("--out", out)
    before = read_manifest(out).source if has_index(out) else ""
    from spq.api import SPQ
    from spq.model.device import resolve_device

    loaded = SPQ.load(model, resolve_device(device))
    with counting("encoding") as progress:
        built = build(out, loaded, source, progress, BuildOptions(keep_missing, wait, bits))
    with built.store as store:
        report, now = built.report, store.manifest.source
        if before not in ("", now) and report.removed:
            note = f"{out} held the pictures of {before}; those that {now} does not have were dropped"
            report.note = f"{note}; {report.note}" if report.note else note
        return report, store.info()


def compact(out: Path, wait: float) -> tuple[tuple[int, int], dict[str, Any]]:
    """Shrink the index; returns its bytes before and after, and facts of the index."""
    from spq.index.store import Store

    with Store.open(out, wait) as store, store.writing():
        return store.compact(), store.info()


def verify(out: Path, facts: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Check the index; returns one line for each fault, and facts of an index without faults.

    Args:
        facts: of the index, if they are known.
    """
    from spq.index.store import Store
    from spq.index.verify import faults

    found = list(faults(out))
    if facts or found:
        return found, facts
    with Store.open(out) as store:
        return found, store.info()
