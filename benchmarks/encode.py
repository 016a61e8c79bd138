"""How fast are pictures encoded on this machine, by `spq index` and by simple loops?

    python benchmarks/encode.py --images PHOTOS/ --model MODEL [--many 50000] [--json encode.json]

The methods run in turn, several rounds, on the same files and with the same network. The medians are printed. All files are read
once before, so that every method finds them in the memory of the operating system.

- ours: a complete new index, with hashes, and SQLite on the disk.
- decode, forward: the two halves alone, each in several ways to use the cores. The fastest ways give the bound
  1 / (1/decode + 1/forward). Both halves need the same cores, so no method that does both can be faster.
- plain loop: Image.open, convert and resize, one picture after another; batches of 32; torch with its default threads.
- DataLoader: the same, with one worker process for each core.
- imagededup: its CNN encoder with its own network on the same files, if it is installed. The network is MobileNetV3-small at
  224 pixels, untrained, which is as fast.

`--many` indexes this many different pictures (copies with other bytes at the end) and reports the growth of memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.index.encode import default_workers
from spq.index.image_index import ImageIndex
from spq.model.device import resolve_device
from spq.model.model import Model

BATCH = 32  # of the plain loops


@dataclass(frozen=True)
class Task:
    source: ImageSet
    model: Model
    pixels: NDArray[np.uint8]  # (N, 3, S, S), already decoded
    workers: int

    @property
    def size(self) -> int:
        return self.model.config.input.size


def ours(task: Task) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ImageIndex.build(Path(folder) / "index", task.model, task.source).close()


def decode_in_threads(task: Task) -> None:
    load_pixels(task.source, task.size, workers=task.workers)


def decode_in_processes(task: Task) -> None:
    global _forked
    _forked = task  # forked workers inherit it
    with multiprocessing.get_context("fork").Pool(task.workers) as pool:
        for _ in pool.imap(_decode, np.array_split(np.arange(len(task.source)), 8 * task.workers)):
            pass


def _decode(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    return load_pixels(_forked.source, _forked.size, positions=positions, workers=1).array


_forked: Task


def forward_a_batch_a_core(task: Task) -> None:
    """One batch per core, as in spq."""
    threads, step = torch.get_num_threads(), task.model.batch_size
    with ThreadPoolExecutor(task.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(task.model.encode, (task.pixels[n : n + step] for n in range(0, len(task.pixels), step))))
    torch.set_num_threads(threads)


def forward_with_torchs_threads(task: Task) -> None:
    task.model.encode(task.pixels)


def plain_loop(task: Task) -> None:
    batch: list[NDArray[np.uint8]] = []
    for position in range(len(task.source)):
        batch.append(_opened(task.source.path(position), task.size))
        if len(batch) == BATCH or position == len(task.source) - 1:
            _codes(task, torch.from_numpy(np.stack(batch)))
            batch = []


def data_loader(task: Task) -> None:
    files = _Files([task.source.path(position) for position in range(len(task.source))], task.size)
    for batch in DataLoader(files, BATCH, num_workers=task.workers):
        _codes(task, batch)


class _Files(Dataset[NDArray[np.uint8]]):
    def __init__(self, paths: list[Path | None], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return _opened(self.paths[index], self.size)


def _opened(path: Path | None, size: int) -> NDArray[np.uint8]:
    assert path is not None, "give a folder of files"
    with Image.open(path) as image:
        return np.array(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def _codes(task: Task, pixels: torch.Tensor) -> NDArray[np.uint8]:
    network, config = task.model.network, task.model.config.input
    mean, std = (torch.tensor(v)[:, None, None].to(task.model.device) for v in (config.mean, config.std))
    with torch.inference_mode():
        x = network.describe((pixels.to(task.model.device).float() / 255 - mean) / std)
        return network.quantizer.encode(x).cpu().numpy()


def imagededup(task: Task) -> None:
    import torchvision
    from imagededup.methods import CNN

    make = torchvision.models.mobilenet_v3_small
    offline = patch(
        "torchvision.models.mobilenet_v3_small", lambda weights: make()
    )  # the weights do not change the speed
    with tempfile.TemporaryDirectory() as folder, offline:
        for position in range(len(task.source)):
            path = task.source.path(position)
            assert path is not None
            (Path(folder) / f"{position}{path.suffix}").symlink_to(path)
        CNN(verbose=False).encode_images(folder, num_enc_workers=task.workers)


METHODS: dict[str, Callable[[Task], None]] = {
    "ours": ours,
    "decode, threads": decode_in_threads,
    "decode, processes": decode_in_processes,
    "forward, a batch a core": forward_a_batch_a_core,
    "forward, torch's threads": forward_with_torchs_threads,
    "plain loop": plain_loop,
    "DataLoader": data_loader,
    "imagededup": imagededup,
}


def measure(task: Task, rounds: int) -> dict[str, list[float]]:
    """Images per second in each round, for each method that works on this machine."""
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, method in METHODS.items():
            if number and name not in rates:
                continue
            start = time.perf_counter()
            try:
                method(task)
            except ImportError as error:
                print(f"{name} is omitted: {error}")
                continue
            rates.setdefault(name, []).append(len(task.source) / (time.perf_counter() - start))
    return rates


class Repeated(ImageSet):
    """`count` pictures with different bytes, made from `images`. Bytes after the end of a picture change only its hash."""

    def __init__(self, images: ImageSet, count: int) -> None:
        super().__init__(f"{count} of {images.name}", [f"{position:09d}" for position in range(count)])
        self.images = images

    def read(self, position: int) -> bytes:
        return self.images.read(position % len(self.images)) + position.to_bytes(8)

    def stat(self, position: int) -> tuple[int, int]:
        return self.images.stat(position % len(self.images))


def memory(model: Model, source: ImageSet, count: int) -> list[tuple[int, int]]:
    """(pictures done, bytes in use) during the indexing of `count` pictures."""
    points: list[tuple[int, int]] = []

    def note(done: int, total: int, unreadable: int) -> None:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        points.append((done, pages * os.sysconf("SC_PAGE_SIZE")))

    with tempfile.TemporaryDirectory() as folder:
        ImageIndex.build(Path(folder) / "index", model, Repeated(source, count), note).close()
    return points


def report_memory(points: list[tuple[int, int]]) -> dict[str, float]:
    first = max(used for done, used in points if done <= max(points[-1][0] / 10, points[0][0]))
    peak = max(used for _, used in points)
    print(f"memory over {points[-1][0]:,} pictures: {first / 1e6:.0f} MB after a tenth, {peak / 1e6:.0f} MB at most")
    return {"pictures": points[-1][0], "mb_after_a_tenth": first / 1e6, "mb_at_most": peak / 1e6}


def report_rates(rates: dict[str, list[float]]) -> dict[str, float]:
    """Print the table; returns the bound, the share of it that spq reaches, and the speed-up."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in medians.items():
        spread = f"{min(rates[name]):.0f}..{max(rates[name]):.0f}"
        print(f"{name:26s} {value:8.0f} images/s  ({spread})  ours is {medians['ours'] / value:.2f}x")
    fastest = [max(v for name, v in medians.items() if name.startswith(half)) for half in ("decode", "forward")]
    bound = 1 / sum(1 / rate for rate in fastest)
    share, over = medians["ours"] / bound, medians["ours"] / medians["plain loop"]
    print(
        f"bound 1/(1/decode + 1/forward): {bound:.0f} images/s; ours reaches {share:.1%} of it, {over:.2f}x plain loop"
    )
    return {"bound": bound, "share_of_bound": share, "times_plain_loop": over}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--count", type=int, default=0, help="use only this many pictures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model, source = Model.load(arguments.model, resolve_device(arguments.device)), open_images(arguments.images)
    source = subset(source, range(min(arguments.count or len(source), len(source))))
    report: dict[str, object] = {}
    if arguments.many:  # first, because memory that other methods leave would hide the growth
        report["memory"] = report_memory(memory(model, source, arguments.many))
    workers = default_workers(model)
    pixels = load_pixels(source, model.config.input.size, workers=workers)
    source = subset(source, pixels.kept)  # a broken file would stop the plain loops
    rates = measure(Task(source, model, pixels.array, workers), arguments.rounds)
    report |= {
        "images": len(source),
        "images_per_second": rates,
        **report_rates(rates),
        "model": model.hash,
        "size": model.config.input.size,
        "device": str(model.device),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "workers": workers,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
