"""Bringing a store in step with a collection: what is unchanged costs one `stat`, what is known keeps its code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING

from spq.data.sources import ImageSet
from spq.index.encode import Encoder, is_unchanged
from spq.index.store import Item, Store

if TYPE_CHECKING:
    from spq.model.artifact import Model

BATCH = 256  # pictures that are committed together
Progress = Callable[[int, int, int], None]


@dataclass
class SyncReport:
    """What a sync did. failed: (path, reason) of every unreadable picture of the index, old ones included.

    note: what to know of the encoding; mostly empty.
    """

    added: int = 0
    changed: int = 0
    renamed: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""


def refresh(store: Store, source: ImageSet, model: Callable[[], Model], progress: Progress | None) -> SyncReport:
    """Add what is new and re-encode what has changed, batch by batch. Nothing is removed.

    `renamed` counts, among the added, those whose bytes the index knew under a path that the collection no longer has.

    Args:
        model: called when there is a picture to look at.
        progress: called with (pictures committed, pictures to look at, unreadable ones among the committed).
    """
    known, report = store.stats(), SyncReport()
    work = [p for p, path in enumerate(source.ids) if not is_unchanged(source, p, known.get(path))]
    report.unchanged = len(source) - len(work)
    if not work:
        return report
    present, unreadable = set(source.ids), 0
    encoder = Encoder(source, model(), _twins(store))
    with closing(encoder.encode(work)) as encoded:
        for done in range(BATCH, len(work) + BATCH, BATCH):
            pairs = list(islice(encoded, BATCH))
            store.put(item for item, _ in pairs)
            for item, twin in pairs:
                if item.code is None:
                    unreadable += 1
                elif item.path in known:
                    report.changed += 1
                else:
                    report.added += 1
                    report.renamed += twin is not None and twin.path not in present
            if progress:
                progress(min(done, len(work)), len(work), unreadable)
    report.note = encoder.note
    return report


def _twins(store: Store) -> Callable[[bytes], Item | None]:
    """The encoded item of a hash, for several threads at once."""
    lock = Lock()

    def twin_of(digest: bytes) -> Item | None:
        with lock:
            return store.items_by_hash([digest]).get(digest)

    return twin_of
