"""What does an encoding job cost beside `spq index`, and how much memory does the driver of a large job take?

    python benchmarks/encode_job.py rate --images PHOTOS/ --model MODEL [--rounds 3] [--shard-size 256] [--json rate.json]
    python benchmarks/encode_job.py driver [--shards 10000] [--ray] [--json driver.json]

`rate` encodes the same pictures in turn with `spq encode --workers 2` and with `spq index` on two threads. The start is left out:
of a job, what comes before each worker has finished its first input shard; of an index, what comes before its first batch. The
last input shards keep one worker busy for a moment longer than the other, so there should be ten of them or more. All files are
read once before.

`driver` runs a job of many tars whose workers do nothing but write an empty file, and prints the peak of memory of the driver.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

WORKERS = 2


def job_rate(images: Path, model: Any, folder: Path, shard_size: int) -> float:
    """Pictures a second of a job, after the first input shard of each worker."""
    from spq.data.source import Source
    from spq.scale.run_job import RunOptions, begin, run

    job = begin(Source((str(images),)), model, str(folder / "job"), shard_size)
    seen: list[tuple[float, int]] = []
    run(job, RunOptions(WORKERS, threads=1), lambda _, done, *__: seen.append((time.monotonic(), done)))
    assert len(seen) > 2 * WORKERS, "too few input shards; give a smaller --shard-size"
    return rate_of(seen[WORKERS:])


def index_rate(images: Path, model: Any, folder: Path) -> float:
    """Pictures a second of `spq index`, after the first batch."""
    from spq.index.build import build

    seen: list[tuple[float, int]] = []
    build(folder / "index", model, images, lambda done, *_: seen.append((time.monotonic(), done))).store.close()
    return rate_of(seen[2:])  # the first is 0


def rate_of(seen: list[tuple[float, int]]) -> float:
    (begun, before), (ended, after) = seen[0], seen[-1]
    return (after - before) / (ended - begun)


def measure_rate(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from spq.data.open import open_images
    from spq.model.model import Model

    torch.set_num_threads(WORKERS)
    model, source = Model.load(options.model), open_images(options.images)
    for position in range(len(source)):
        source.read(position)
    rates: dict[str, list[float]] = {"spq encode": [], "spq index": []}
    for _ in range(options.rounds):
        for name, measured in rates.items():
            with tempfile.TemporaryDirectory() as folder:
                if name == "spq encode":
                    measured.append(job_rate(options.images, model, Path(folder), options.shard_size))
                else:
                    measured.append(index_rate(options.images, model, Path(folder)))
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    ratio = medians["spq encode"] / medians["spq index"]
    for name, measured in rates.items():
        print(f"{name}: {medians[name]:,.1f} pictures/s ({', '.join(f'{rate:,.1f}' for rate in measured)})")
    print(f"{len(source):,} pictures: spq encode has {ratio:.2f} times the rate of spq index")
    return {"rates": rates, "ratio": ratio, "pictures": len(source)}


def empty_shard(url: str, checksum: str, threads: int, number: int) -> Any:
    """Write a file without pictures."""
    from spq.scale.encode_shard import file_name
    from spq.scale.urls import Place
    from spq.scale.worker_processes import Done

    name = file_name(number, b"")
    return Done(number, name, 0, 0, Place(url).put(f"items/{name}", b""))


def measure_driver(options: argparse.Namespace) -> dict[str, Any]:
    from spq.data.source import Source
    from spq.scale import run_job
    from spq.scale.inputs import ContainerFile
    from spq.scale.job import FILE, Job, open_job
    from spq.scale.urls import Place

    tars = [f"s3://bucket/collection/pictures-{number:05d}.tar" for number in range(options.shards)]
    inputs = [ContainerFile(url, 2**30, 32 * "0", 0, url.rpartition("/")[2]) for url in tars]
    source = Source(("s3://bucket/collection/*.tar",))
    with tempfile.TemporaryDirectory() as folder, patch.object(run_job, "finish_shard", empty_shard):
        job = Job(folder, 16 * "0", 8, "fp32", "cpu", 1, 2048, {}, source, inputs)
        Place(folder).put(FILE, job.to_bytes())
        begun = time.monotonic()
        address = "local" if options.ray else None
        report = run_job.run(replace(open_job(folder)), run_job.RunOptions(WORKERS, ray=address))
        seconds = time.monotonic() - begun
        size = (Path(folder) / FILE).stat().st_size
    assert report.done == options.shards
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    how = "Ray" if options.ray else f"{WORKERS} processes"
    print(f"{options.shards:,} input shards by {how}: the driver takes {peak / 1e6:,.0f} MB, {seconds:.1f} s")
    return {"shards": options.shards, "peak": peak, "seconds": seconds, "job_bytes": size, "ray": options.ray}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    rate, driver = what.add_parser("rate"), what.add_parser("driver")
    rate.add_argument("--images", type=Path, required=True)
    rate.add_argument("--model", type=Path, required=True)
    rate.add_argument("--rounds", type=int, default=3)
    rate.add_argument("--shard-size", type=int, default=256)
    driver.add_argument("--shards", type=int, default=10_000)
    driver.add_argument("--ray", action="store_true")
    for each in (rate, driver):
        each.add_argument("--json", type=Path)
    options = parser.parse_args()
    measures: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "rate": measure_rate,
        "driver": measure_driver,
    }
    facts = measures[options.what](options) | {"machine": platform.processor() or platform.machine()}
    if options.json:
        options.json.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
