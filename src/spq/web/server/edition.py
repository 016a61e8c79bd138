"""The index that requests use now, and the newer one that takes its place without a restart.

An edition is an index as it was opened, with all that is made of it. Most changes of an index belong to the same edition: its
codes are read again (`SharedIndex.refresh`). Another model, a move into shards, or another folder need another edition. It is
opened and made ready beside the old one. Then it takes its place: requests in work end with the edition that they began with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spq.errors import StoreError
from spq.index.image_index import ImageIndex
from spq.index.manifest import read_manifest
from spq.index.shards.placement import Placement
from spq.index.shared import SharedIndex
from spq.web.server.calibration import calibration
from spq.web.server.decoding import DecodeRoom
from spq.web.server.explore import Explore
from spq.web.server.jobs import DuplicatesJob
from spq.web.server.library import Library
from spq.web.server.pictures import Pictures
from spq.web.server.report_file import ReportFile, collection_name
from spq.web.server.review import Review, place_of
from spq.web.server.settings import Settings
from spq.web.server.thumbnail_cache import ThumbnailCache

POOLS = 4  # of threads, each of which may read the index
PATIENCE = 5.0  # seconds that a request waits for a newer index that is being opened
TRIES, PAUSE = 5, 0.02  # of reading a manifest, and the seconds in between
Newer = Callable[[Path], Path | None]
_LOG = logging.getLogger("spq.serve")


class Edition:
    """An open index, and what the server makes of it.

    Attributes:
        users: requests that use it now.
    """

    def __init__(
        self, index: ImageIndex, settings: Settings, room: DecodeRoom, is_own: bool = False, is_copy: bool = False
    ) -> None:
        """
        Args:
            is_own: whether `close` closes the index, too. is_copy: whether a newer copy of an index elsewhere will replace it.
        """
        self._index, self._is_own = index, is_own
        self.users, self._is_prepared = 0, False
        self._threads = settings.search_threads + (POOLS - 1) * settings.workers
        placement = Placement(settings.find_holders(), settings.deadline) if settings.find_holders else None
        self.shared = SharedIndex(index, placement)
        self.pictures = Pictures(index.store.manifest.origin, room)
        self.explore = Explore(self.shared)
        self.library = Library(self.shared, self.pictures, settings, self.explore.unusual)
        self.thumbnails = ThumbnailCache(settings.cache, settings.cache_bytes, self.pictures)
        manifest = index.store.manifest
        self.review = Review(self.shared, place_of(index.store.folder, manifest, is_copy))
        report = ReportFile(settings.cache / "reports", collection_name(manifest))
        self.duplicates = DuplicatesJob(self.library, report, self.review.apart)
        self.calibration = calibration(self.shared, self.pictures)

    def prepare(self) -> None:
        """Make ready to read on when another index takes the place of this one."""
        if not self._is_prepared:
            self.shared.prepare(self._threads)
            self._is_prepared = True

    def close(self) -> None:
        self.duplicates.stop()
        self.calibration.stop()
        self.explore.stop()
        self.shared.close()
        if self._is_own:
            self._index.close()


class Editions:
    """The edition of now, for any thread.

    Args:
        newer: returns the folder of a newer index when there is one, such as one that was fetched from elsewhere. It is given
            the folder that is served, and asked about twice a second.
    """

    def __init__(self, index: ImageIndex, settings: Settings, newer: Newer | None = None) -> None:
        self.settings, self._newer = settings, newer
        self._room = DecodeRoom(settings.max_decoded)
        self.now = Edition(index, settings, self._room, is_copy=newer is not None)
        self._open, self._is_closed = [self.now], False
        self._renewing, self._counting = threading.Lock(), threading.Lock()

    @contextmanager
    def use(self) -> Iterator[Edition]:
        """The edition of now, which stays open until the end of the block."""
        with self._counting:
            edition = self.now
            edition.users += 1
        try:
            yield edition
        finally:
            with self._counting:
                edition.users -= 1
            self._close_old()

    def renew(self, seen: Edition, is_request: bool = False) -> bool:
        """Open the index again if it is another one by now; returns whether `seen` is not the edition of now any more.

        Args:
            is_request: do not wait for long, and fetch nothing.
        Raises:
            SPQError, OSError: the newer index cannot be opened, or its network does not load. The old one stays.
        """
        if not self._renewing.acquire(timeout=PATIENCE if is_request else -1):
            return seen is not self.now
        try:
            if seen is self.now and (folder := self._newer_folder(is_request)):
                self._put(self._opened(folder))
        finally:
            self._renewing.release()
        self._close_old()
        return seen is not self.now

    def _put(self, edition: Edition) -> None:
        with self._counting:
            is_late = self._is_closed
            if not is_late:
                self.now = edition
                self._open.append(edition)
        if is_late:
            edition.close()
            return
        count = len(edition.shared.gallery)
        _LOG.info("another index is served now: %s pictures, model %s", f"{count:,}", edition.shared.model_hash)

    def _newer_folder(self, is_request: bool) -> Path | None:
        if self._newer and not is_request and (folder := self._newer(self.now.shared.folder)):
            return folder
        return self.now.shared.folder if _is_another(self.now.shared) else None

    def _opened(self, folder: Path) -> Edition:
        """An edition that answers at once. The network is not loaded again if it is the same."""
        before = self.now.shared
        model = before.model if read_manifest(folder).model == before.model_hash else None
        index = ImageIndex.open(folder, model)
        try:
            edition = Edition(index, self.settings, self._room, True, self._newer is not None)
        except BaseException:
            index.close()
            raise
        if edition.shared.placement and before.placement:
            edition.shared.placement.has_been_whole |= before.placement.has_been_whole
        try:
            edition.library.warm()
            edition.prepare()
        except BaseException:
            edition.close()
            raise
        return edition

    def _close_old(self) -> None:
        with self._counting:
            over = [old for old in self._open if old is not self.now and not old.users]
            self._open = [edition for edition in self._open if edition not in over]
        for edition in over:
            edition.close()

    def close(self) -> None:
        """Close all that is still open, at the end of the server."""
        with self._counting:
            left, self._open, self._is_closed = self._open, [], True
        for edition in left:
            edition.close()


def _is_another(shared: SharedIndex) -> bool:
    for left in reversed(range(TRIES)):
        try:
            return shared.is_another()
        except StoreError:  # while one index takes the place of another, there is none for a moment
            if not left:
                raise
            time.sleep(PAUSE)
    raise AssertionError
