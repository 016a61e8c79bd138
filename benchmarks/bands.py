"""How often are the bands of similarity right, on pictures that they were not calibrated on?

    python benchmarks/bands.py photos.index [more.index ...] [--seeds 3] [--json bands.json]

The pictures of an index are divided in two, at random. The bands are calibrated on altered copies of pictures of one part, and
tried on those of the other part: copies that other random numbers make, and random pairs. Labels only score: how often pictures
of a band have the label of the query, and the first ones beyond the line, beside the share of pairs of one label by chance.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from _scoring import machine
from spq.dupes.bands import SAMPLE, Bands, Distances, limits, measure, sums
from spq.index.image_index import ImageIndex
from spq.index.items import Item
from spq.index.originals import Originals

NAMES = ("same picture", "very close", "close", "far")
BEYOND = 100  # pictures beyond the line whose labels are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("indexes", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.indexes:
        with ImageIndex.open(folder) as index:
            rows.append(summary(index, [tried(index, seed) for seed in range(arguments.seeds)]))
        print(json.dumps(rows[-1], indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


def tried(index: ImageIndex, seed: int) -> dict[str, Any]:
    """Shares on the second half of the pictures, of bands that were calibrated on the first half."""
    originals = Originals(index.store.manifest.origin)

    def read(item: Item, side: int) -> Image.Image:
        data, decode = originals.unchanged(item)
        return decode(data, side)

    rng, gallery = np.random.default_rng(seed), index.gallery()
    ids = rng.permutation(np.asarray(gallery.all_ids(), np.int64))
    halves = [part[: 2 * SAMPLE] for part in np.array_split(ids, 2)]
    first, second = (measure(index, gallery, half, read, rng) for half in halves)
    assert first is not None
    assert second is not None
    bands = limits(first, len(gallery))
    return {**shares(bands, second), **labels(index, bands, halves[1][:SAMPLE])}


def shares(bands: Bands, found: Distances) -> dict[str, Any]:
    """The share of copies, and of random pairs, in each band; and of pictures that have a different one in the first band."""
    same = -1.0 if bands.same is None else bands.same
    is_same = found.between <= same
    copies = np.where(is_same, 0, 1 + np.searchsorted([bands.picture.very_close, bands.picture.close], found.copies))
    random = 1 + np.searchsorted([bands.picture.very_close, bands.picture.close], found.random)
    return {
        "copies": [float((copies == n).mean()) for n in range(4)],
        "random pairs": [float((random == n).mean()) for n in range(4)],
        "pictures with a different one in the first band": float((found.nearest <= same).mean()),
    }


def labels(index: ImageIndex, bands: Bands, ids: NDArray[np.int64]) -> dict[str, Any]:
    """The share of pictures with the label of the query: very close, close, just beyond the line, far, and of all."""
    gallery = index.gallery()
    items = {item.id: item for item in index.store.items()}
    if any("label" not in item.metadata for item in items.values()):
        return {}
    order = np.asarray(gallery.all_ids(), np.int64)
    labels_ = np.array([str(items[id_].metadata["label"]) for id_ in order.tolist()])
    codes, equal = gallery.scan.codes_of(gallery.rows_of(order)), []
    for id_ in ids.tolist():
        query = index.like(id_)
        assert not isinstance(query, int)
        table = index.model_copy.tables(index.model.embed([query]))[0]
        distances = sums(table, codes)
        sorted_ = np.argsort(distances, kind="stable")
        sorted_ = sorted_[order[sorted_] != id_]
        is_equal = labels_[sorted_] == str(items[id_].metadata["label"])
        very, close = np.searchsorted(distances[sorted_], [bands.picture.very_close, bands.picture.close], "right")
        parts = [slice(0, very), slice(very, close), slice(close, close + BEYOND), slice(close, None), slice(None)]
        equal.append([(is_equal[part].sum(), len(is_equal[part])) for part in parts])
    totals = np.array(equal).sum(0)
    names = ("very close", "close", f"first {BEYOND} beyond the line", "far", "all")
    return {"same label": dict(zip(names, (totals[:, 0] / np.maximum(totals[:, 1], 1)).tolist(), strict=True))}


def summary(index: ImageIndex, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and spreads over the seeds."""

    def of(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: of([value[key] for value in values]) for key in values[0]}
        if isinstance(values[0], list):
            return {name: of(list(column)) for name, column in zip(NAMES, zip(*values, strict=True), strict=True)}
        return [round(statistics.mean(values), 4), round(statistics.pstdev(values), 4)]

    manifest = index.store.manifest
    facts = {
        "index": index.store.folder.name,
        "pictures": len(index),
        "bits": manifest.bits,
        "distance": manifest.distance,
    }
    return {**facts, "seeds": len(found), **of(found)}


if __name__ == "__main__":
    main()
