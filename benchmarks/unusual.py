"""Are ten pictures that do not belong among the first of the order "unusual first"?

    python benchmarks/unusual.py --photos PHOTOS/ [--count 1990] [--recipe head] [--copies 1] [--json unusual.json]

Trains on that many photos and ten drawn pictures (_odd_pictures.py), makes an index, and prints the rank of each drawn picture
among all, by features as the page orders them, and by codes for comparison. With --copies 3, each drawn picture is there three
times.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from _odd_pictures import odd_pictures
from spq import SPQ, ImageIndex
from spq.dupes.nearest import Nearest
from spq.web.unusual import NEIGHBOUR, Features, unusual_first

ODD = "odd-"


def plant(photos: Path, root: Path, count: int, copies: int) -> None:
    """Copy `count` photos, evenly spread, and the drawn pictures into one folder."""
    files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    root.mkdir()
    for n in range(count):
        file = files[n * len(files) // count]
        shutil.copy(file, root / f"{n:06d}{file.suffix}")
    for name, picture in odd_pictures():
        for copy in range(copies):
            picture.save(root / f"{ODD}{name}-{copy}.png")


def ranks(index: ImageIndex, ids: list[int]) -> list[int]:
    """Ranks of the drawn pictures in a list of ids, from 1."""
    paths = index.store.paths(ids)
    return [rank for rank, id_ in enumerate(ids, 1) if paths[id_].startswith(ODD)]


def by_codes(index: ImageIndex) -> list[int]:
    """Ids, the farthest from their tenth neighbour by code first."""
    ids, codes = index.store.codes()
    x = index.decoder.decode(codes)
    distances, _ = Nearest(x).search(x, NEIGHBOUR + 1)
    return [int(i) for i in ids[np.argsort(-distances[:, -1], kind="stable")]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1990)
    parser.add_argument("--recipe", default="head")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "photos"
        plant(arguments.photos, root, arguments.count, arguments.copies)
        model = SPQ.train(root, recipe=arguments.recipe)
        with ImageIndex.build(Path(place) / "i", model, root) as index:
            start = time.perf_counter()
            first = unusual_first(index.store.codes()[0], Features(index))
            seconds = time.perf_counter() - start
            found = {"features": ranks(index, first.tolist()), "codes": ranks(index, by_codes(index))}
    total = arguments.count + 10 * arguments.copies
    print(f"{total:,} pictures, recipe {arguments.recipe}: ordered in {seconds:.1f} s")
    for name, places in found.items():
        print(f"ranks by {name:8s} {', '.join(map(str, places))}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found | {"seconds": seconds}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
