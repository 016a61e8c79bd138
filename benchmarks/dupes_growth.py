"""How does a search for copies grow with the collection? Time and memory of each step at several sizes, up to 100,000 pictures.

    python benchmarks/dupes_growth.py [--sizes 5000,15000,30000,60000,100000] [--json benchmarks/results/dupes_growth.json]

Pictures: those of CIFAR-10 (60,000), as thumbs; beyond these, the means of two of them, which are no copies of either. Every
tenth picture is followed by a copy: brighter, mirrored, or with a border. Exponent: of the growth in CPU time from one size to
the next; 1 is linear, 2 is the square. At full size, only pairs that are plausible are compared: their number is given. Of more
than 200,000 candidates, an even sample is judged by thumb, and time and number are scaled.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from spq.data.open import open_images
from spq.dupes.candidates import candidate_pairs
from spq.dupes.plausible import plausible
from spq.dupes.signatures import grey_thumb

SAMPLE = 200_000  # candidates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=os.environ.get("SPQ_DATA", "."), help="folder with cifar10/*.parquet")
    parser.add_argument("--sizes", default="5000,15000,30000,60000,100000")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    thumbs, copies = make_thumbs(Path(arguments.images) / "cifar10", max(sizes))
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows.append(measured(thumbs[:size], copies[(copies < size).all(1)]))
        if len(rows) > 1:
            growth = math.log(rows[-1]["pictures"] / rows[-2]["pictures"])
            rows[-1]["exponent"] = round(math.log(rows[-1]["cpu_seconds"] / rows[-2]["cpu_seconds"]) / growth, 2)
        print("  ".join(f"{name} {value:,}" for name, value in rows[-1].items()), flush=True)
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
        arguments.json.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n", "utf-8")


def make_thumbs(folder: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Thumbs (count, 64, 64), and pairs of a picture and its copy."""
    images = open_images([str(folder / "train.parquet"), str(folder / "test.parquet")])
    random = np.random.default_rng(0)
    thumbs, copies = np.empty((count, 64, 64), np.uint8), []
    n = used = 0
    while n < count:
        image = images.image(used % len(images))
        if used >= len(images):
            image = Image.blend(image, images.image(int(random.integers(len(images)))), 0.5)
        thumbs[n] = grey_thumb(image)
        if used % 10 == 0 and n + 1 < count:
            copies.append((n, n + 1))
            n += 1
            thumbs[n] = grey_thumb(_copy(image, used // 10))
        n, used = n + 1, used + 1
    return thumbs, np.array(copies)


def _copy(image: Image.Image, number: int) -> Image.Image:
    if number % 3 == 0:
        return image.point(lambda value: min(255, round(1.15 * value)))
    return ImageOps.mirror(image) if number % 3 == 1 else ImageOps.expand(image, 3, "white")


def measured(thumbs: NDArray[np.uint8], copies: NDArray[np.int64]) -> dict[str, Any]:
    N, cpu = len(thumbs), time.process_time()
    pairs = candidate_pairs(thumbs).pairs
    of_candidates = time.process_time() - cpu
    some = pairs[:: len(pairs) // SAMPLE + 1]
    cpu = time.process_time()
    share = float(plausible(thumbs, some).mean())
    of_plausible = (time.process_time() - cpu) * len(pairs) / len(some)
    are_candidates = np.isin(copies[:, 0] * N + copies[:, 1], pairs[:, 0] * N + pairs[:, 1])
    return {
        "pictures": N,
        "cpu_seconds": round(of_candidates + of_plausible, 1),
        "of_candidates": round(of_candidates, 1),
        "candidates": len(pairs),
        "plausible": round(share * len(pairs)),
        "copies": len(copies),
        "recall": round(float((are_candidates & plausible(thumbs, copies)).mean()), 4),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()
