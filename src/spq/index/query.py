"""The pictures of a request, and the descriptors of those that need no network."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.data.decode import ImageInput, load_image
from spq.errors import ConfigError, StoreError
from spq.index.gallery import Gallery
from spq.index.request import Box, Query, SearchRequest, is_picture
from spq.pq.tables import Decoder

Floats = NDArray[np.float32]


def query_pictures(request: SearchRequest) -> list[Query]:
    """All pictures of a request: those of each query, cut to the box, then the negative ones."""
    groups = request.groups
    if request.box is not None:
        groups = [[cut(cast(ImageInput, group[0]), request.box)] for group in groups]
    return [picture for group in (*groups, request.negative) for picture in group]


def known_descriptors(queries: list[Query], gallery: Gallery, decoder: Decoder) -> tuple[Floats, dict[int, ImageInput]]:
    """The descriptors (N, D) that need no network, and the pictures that do.

    The id of an item stands for what its code decodes to.

    Returns:
        descriptors, whose rows of pictures are not filled, and row -> picture.
    Raises:
        StoreError: an id that is not in the gallery, or a descriptor of another length.
    """
    x = np.empty((len(queries), decoder.dim), np.float32)
    pictures: dict[int, ImageInput] = {}
    for row, query in enumerate(queries):
        if is_picture(query):
            pictures[row] = query
        elif isinstance(query, np.ndarray):
            if query.shape != (decoder.dim,):
                raise StoreError(f"a descriptor must have {decoder.dim} numbers for this index, got {len(query)}")
            x[row] = query
        else:
            x[row] = decoder.decode(gallery.code_of(int(cast(int, query)))[None])[0]
    return x, pictures


def cut(picture: ImageInput, box: Box) -> Image.Image:
    """The region `box` of a picture, in pixels of the upright picture, from its upper left corner.

    Raises:
        ConfigError: the region is not inside the picture. ImageError: the picture cannot be read.
    """
    image = load_image(picture)
    x, y, width, height = box
    full_width, full_height = image.info.get("full_size", image.size)
    is_inside = 0 <= x < x + width <= full_width and 0 <= y < y + height <= full_height
    if not is_inside:
        size = f"{full_width} x {full_height}"
        raise ConfigError(f"`box` {','.join(map(str, box))} is not inside the picture of {size} pixels; give x,y,w,h")
    across, down = image.width / full_width, image.height / full_height  # under 1 for a JPEG above the limit of pixels
    left, top = int(x * across), int(y * down)
    right, bottom = max(left + 1, round((x + width) * across)), max(top + 1, round((y + height) * down))
    return image.crop((left, top, right, bottom))
