"""The bands of similarity of the index that is served: calibrated in the background, from the first request on."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

from PIL import Image

from spq.dupes.bands import Bands, find_bands
from spq.errors import ImageError
from spq.index.items import Item
from spq.index.shared import SharedIndex
from spq.web.server.background import Background, StoppedError, log_failure
from spq.web.server.pictures import Pictures
from spq.web.server.problems import OverloadedError

GROWTH = 1.25  # times as many pictures, or as few, before the bands are calibrated again
STAGE = "altered copies"
Stage = tuple[str, int, int]  # stage, done, total


class Calibration:
    """Calibrates when bands are first requested, and again when the index has become much larger or smaller.

    Until new bands are ready, requests get the old ones. After a failure there are none.
    """

    def __init__(self, shared: SharedIndex, pictures: Pictures) -> None:
        self._shared, self._pictures = shared, pictures
        self._lock = threading.Lock()
        self._bands: Bands | None = None
        self._size: int | None = None  # pictures at the last try
        self._stage: Stage = (STAGE, 0, 0)
        self._thread: Background | None = None
        self._is_ended = False

    def bands(self) -> dict[str, Any] | None:
        """Facts of the bands, without any if there are none; None while they are not ready."""
        now = len(self._shared.gallery)
        with self._lock:
            is_new = self._size is not None and self._size / GROWTH <= now <= self._size * GROWTH
            if not is_new and self._thread is None and not self._is_ended:
                self._thread = Background("bands", self._work)
                self._thread.start()
            if self._size is None:
                return None
            return {"bands": None if self._bands is None else asdict(self._bands)}

    @property
    def stage(self) -> Stage:
        """How far the calibration is: stage, done, total."""
        return self._stage

    def stop(self) -> None:
        with self._lock:
            thread, self._is_ended = self._thread, True
        if thread:
            thread.stop()

    def _work(self, thread: Background) -> None:
        size, bands = len(self._shared.gallery), None

        def progress(*stage: Any) -> None:
            self._stage = stage
            thread.check()

        try:
            with self._shared.open() as index:
                bands = find_bands(index, self._read, progress)
        except StoppedError:
            raise
        except Exception as failure:
            log_failure("bands of similarity", failure)
        with self._lock:
            self._bands, self._size, self._thread = bands, size, None

    def _read(self, item: Item, side: int) -> Image.Image:
        data, decode = self._pictures.unchanged(item)
        try:
            with self._pictures.room.hold(data, side):
                return decode(data, side)
        except OverloadedError as error:  # others decode large pictures; another picture is taken
            raise ImageError(str(error)) from None
