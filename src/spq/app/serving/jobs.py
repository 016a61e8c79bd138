"""The report of duplicates: it may take minutes, so it is made in the background, once for each state of the index."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from typing import Any

from spq.app.serving.library import Library, label, printable
from spq.app.serving.watch import Background
from spq.data.sources import open_images
from spq.errors import SPQError
from spq.index.dupes import Member, Report, find_duplicates
from spq.index.image_index import ImageIndex
from spq.index.store import Item, Store

_LOG = logging.getLogger("spq.serve")


class DuplicatesJob:
    """Starts when it is first asked for. Made and asked on one event loop."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.progress = (0, 0)
        self.report: dict[str, Any] | None = None
        self.error: str | None = None
        self._generation = -1  # of the last report or failure
        self._thread: Background | None = None
        self._lock = threading.Lock()

    def ask(self) -> tuple[dict[str, Any] | None, str | None]:
        """The last report, if there is one, and why there is none. Starts a new one where the index has changed."""
        now = self.library.shared.generation
        with self._lock:
            is_stale = self._generation != now
            if is_stale and self._thread is None:
                self.progress, self.error = (0, 0), None
                self._thread = Background("dupes", lambda: self._work(now))
                self._thread.start()
            if self.report is None:
                return None, self.error
            return {**self.report, "stale": is_stale}, None

    def stop(self) -> None:
        if self._thread is not None:
            self._thread.stop()

    def _work(self, generation: int) -> None:
        try:
            report, error = self._find(generation), None
        except SPQError as failure:
            _LOG.warning("duplicates: %s", failure)
            report, error = None, str(failure)
        finally:
            with self._lock:
                self._thread = None
        with self._lock:
            self._generation, self.error = generation, error
            self.report = report or self.report

    def _find(self, generation: int) -> dict[str, Any]:
        shared, thread = self.library.shared, self._thread
        assert thread is not None

        def progress(done: int, total: int) -> None:
            self.progress = (done, total)
            thread.check()

        with ImageIndex(Store.open(shared.mine().store.folder), shared.model) as index:
            images = open_images(index.store.manifest.source)
            report = find_duplicates(index, images, progress=progress)
            ids = {member.id for group in report.groups for member in (group.keep, *group.others)}
            return told(report, generation, index.store.items_by_id(ids))


def told(report: Report, generation: int, items: dict[int, Item]) -> dict[str, Any]:
    """The report as the API gives it."""
    groups = []
    for group in report.groups:
        members = [group.keep, *group.others]
        groups.append(
            {
                "kind": group.kind,
                "keep": group.keep.id,
                "why": group.why,
                "ids": [member.id for member in members],
                "reasons": ["keep: " + group.why, *(member.note for member in group.others)],
                "items": [_facts(member, items.get(member.id)) for member in members],
            }
        )
    return {
        "pictures": report.pictures,
        "groups": groups,
        "threshold": asdict(report.threshold) if report.threshold else None,
        "left_out": len(report.left_out),
        "generation": generation,
    }


def _facts(member: Member, item: Item | None) -> dict[str, Any]:
    return {
        "id": member.id,
        "path": printable(member.path),
        "label": label(item) if item else None,
        "width": member.width,
        "height": member.height,
        "size": member.bytes,
        "time": member.modified,
        "note": member.note,
        "distance": member.distance,
    }
