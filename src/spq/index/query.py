"""From query pictures to one distance table for each query.

With positives q_i of weights w_i, J negatives n_j of weights v_j, and D the index's distance, a picture x gets

    P(x) = sum_i w_i D(q_i, x) / sum_i w_i               the mean distance to the query pictures
    d(x) = P(x) + 1/J sum_j v_j (P(x) - D(n_j, x))       plus how much nearer x is to the negatives

A weighted sum of distance tables is a distance table, so the exact scan can search with it. One positive alone keeps its own
distance. A picture as far from the negatives as from the positives keeps P(x), so a threshold means the same with and without
negatives. A picture farther from the negatives gets a smaller d(x), which may be below 0. All D are in the unit of the
gallery's descriptors, normalised or not: nothing is rescaled.

For `sqeuclidean` this ranks by the distance to the point p + v (p - n), as Rocchio (1971) moves a query. For `dot`, d(x) is the
distance to that point. For `l2`, no sub-code comes nearer to the query than that of the positive itself.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.data.decode import ImageInput, load_image
from spq.errors import ConfigError, StoreError
from spq.index.gallery import Gallery
from spq.index.request import Box, Query, SearchRequest, is_picture
from spq.pq.tables import decode

Floats = NDArray[np.float32]


def query_pictures(request: SearchRequest) -> list[Query]:
    """All pictures of a request: those of each query, cut to the box, then the negative ones."""
    groups = request.groups
    if request.box is not None:
        groups = [[cut(cast(ImageInput, group[0]), request.box)] for group in groups]
    return [picture for group in (*groups, request.negative) for picture in group]


def known_descriptors(
    queries: list[Query], gallery: Gallery, codebooks: Floats
) -> tuple[Floats, dict[int, ImageInput]]:
    """The descriptors (N, D) that need no network, and the pictures that do.

    The id of an item stands for what its code decodes to.

    Returns:
        descriptors, whose rows of pictures are not filled, and row -> picture.
    Raises:
        StoreError: an id that is not in the gallery, or a descriptor of another length.
    """
    M, _, d = codebooks.shape
    x = np.empty((len(queries), M * d), np.float32)
    pictures: dict[int, ImageInput] = {}
    for row, query in enumerate(queries):
        if is_picture(query):
            pictures[row] = query
        elif isinstance(query, np.ndarray):
            if query.shape != (M * d,):
                raise StoreError(f"a descriptor must have {M * d} numbers for this index, got {len(query)}")
            x[row] = query
        else:
            x[row] = decode(gallery.code_of(int(cast(int, query)))[None], codebooks)[0]
    return x, pictures


def merged_tables(request: SearchRequest, tables: Floats) -> Floats:
    """One table for each query, (Q, M, K), from those of `query_pictures` (N, M, K)."""
    groups = request.groups
    if len(tables) == len(groups) and request.weights is None:
        return tables  # one picture each
    *positive, negative = np.split(tables, np.cumsum([len(group) for group in groups]))
    weights = [request.weights_of(group) for group in groups]
    return np.stack([combined(part, negative, w) for part, w in zip(positive, weights, strict=True)])


def combined(positive: Floats, negative: Floats, weights: NDArray[np.float64]) -> Floats:
    """One table (M, K) of the positives' (P, M, K) and the negatives' (J, M, K), by the formula above.

    Args:
        weights: (P + J,), as `SearchRequest.weights_of` gives them.
    """
    P, J = len(positive), len(negative)
    toward = np.einsum("p,pmk->mk", weights[:P] / weights[:P].sum(), positive.astype(np.float64))
    if J:
        away = weights[P:] / J
        toward = (1 + away.sum()) * toward - np.einsum("j,jmk->mk", away, negative.astype(np.float64))
    table: Floats = toward.astype(np.float32)
    return table


def cut(picture: ImageInput, box: Box) -> Image.Image:
    """The region `box` of a picture, in pixels of the upright picture, from its upper left corner.

    Raises:
        ConfigError: the region is not inside the picture. ImageError: the picture cannot be read.
    """
    image = load_image(picture)
    x, y, width, height = box
    is_inside = 0 <= x < x + width <= image.width and 0 <= y < y + height <= image.height
    if not is_inside:
        size = f"{image.width} x {image.height}"
        raise ConfigError(f"`box` {','.join(map(str, box))} is not inside the picture of {size} pixels; give x,y,w,h")
    return image.crop((x, y, x + width, y + height))
