"""What the page needs to tell how near a hit is: what it was compared with, and facts of each hit beside its distance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spq.dupes.threshold import code_distances
from spq.index.answers import Found
from spq.index.items import Item
from spq.index.request import Query, SearchRequest
from spq.index.shared import SharedIndex

Compared = Literal["picture", "code", "several"]
Codes = NDArray[np.uint8]


def compared_with(request: SearchRequest) -> Compared:
    """What distances are measured from: one picture; the code of an item whose picture cannot be read; or several pictures."""
    query = _only(request)
    return "several" if query is None else "picture" if isinstance(query, np.ndarray) else "code"


def nearness(
    shared: SharedIndex, request: SearchRequest, found: Found, items: Mapping[int, Item], hashes: Collection[bytes]
) -> dict[int, dict[str, Any]]:
    """Facts of the items of hits, by id. code_distance: from the code of the query, None if it has several pictures.

    Args:
        hashes: of the bytes of the query pictures. same_file: whether the item has one of them.
    """
    query = _only(request)
    ids = [same_code[0] for _, same_code in found.answers[0]]
    apart: list[float | None] = [None] * len(ids)
    if query is not None and ids:
        codes = np.stack([code for id_ in ids if (code := items[id_].code) is not None])
        own = np.repeat(_code_of(shared, query, found)[None], len(codes), 0)
        index = shared.of_thread()
        apart = code_distances(codes, own, index.decoder, index.store.manifest.distance).tolist()
    return {
        id_: {"code_distance": distance, "same_file": bool(items[id_].hash) and items[id_].hash in hashes}
        for id_, distance in zip(ids, apart, strict=True)
    }


def _only(request: SearchRequest) -> Query | None:
    """The query picture if there is no other one, and no negative picture."""
    (group,) = request.groups
    return group[0] if len(group) == 1 and not request.negative else None


def _code_of(shared: SharedIndex, query: Query, found: Found) -> Codes:
    if isinstance(query, np.ndarray):
        code: Codes = shared.model.encode_descriptors(np.asarray(query[None], np.float32))[0]
        return code
    return found.gallery.code_of(int(query))  # type: ignore[arg-type]
