"""The bands of similarity of the index that is served: calibrated in the background, from the first request on."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from spq.dupes.bands import STAGE, Bands, find_bands
from spq.errors import ImageError
from spq.index.gallery import Gallery
from spq.index.image_index import ImageIndex
from spq.index.items import Item
from spq.index.shared import SharedIndex
from spq.web.server.derived import Derived, Progress
from spq.web.server.pictures import Pictures
from spq.web.server.problems import OverloadedError

GROWTH = 1.25  # times as many pictures, or as few, before the bands are calibrated again


@dataclass(frozen=True)
class Calibrated:
    """Bands, None if there are none, and how many pictures there were."""

    bands: Bands | None
    pictures: int


def calibration(shared: SharedIndex, pictures: Pictures) -> Derived[Calibrated]:
    """What calibrates the bands of an index. A few more or fewer pictures hardly change them."""

    def read(item: Item, side: int) -> Image.Image:
        data, decode = pictures.unchanged(item)
        try:
            with pictures.room.hold(data, side):
                return decode(data, side)
        except OverloadedError as error:  # others decode large pictures; another picture is taken
            raise ImageError(str(error)) from None

    def make(gallery: Gallery, index: ImageIndex, before: Calibrated | None, progress: Progress) -> Calibrated:
        now = len(gallery)
        if before and before.pictures / GROWTH <= now <= before.pictures * GROWTH:
            return before
        return Calibrated(find_bands(index, read, progress), now)

    return Derived("bands", STAGE, shared, make)
