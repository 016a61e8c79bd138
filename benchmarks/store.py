"""What does the store of an index cost: to open, follow, sync and extend, and in bytes per item?

    python benchmarks/store.py [--items 1000000] [--files 100000] [--json store.json]

A large index is filled with made-up items of 64-bit codes, and a folder with small real pictures (Fashion-MNIST as JPEG), each
with different bytes. Measurements are repeated where possible, and medians are printed. Files come from the cache of the
operating system. Bytes written are the count of the system for this process (only on Linux).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from spq import ImageIndex
from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe
from spq.data.open import open_images
from spq.index.store import FORMAT, Item, Manifest, Store
from spq.model.model import Model
from spq.model.network import Network

BATCH = 256  # items per transaction, as in a sync
Row = tuple[str, float, str, str]  # what, value, unit, aim


def small_model() -> Model:
    """An untrained small model, because its speed is not measured here."""
    torch.manual_seed(0)
    recipe = Recipe(
        name="small",
        input=InputConfig(size=28),
        backbone=BackboneConfig(blocks=(1,), width=8, stem_stride=2),
        quantizer=QuantizerConfig(num_codebooks=16, codeword_dim=4),
    )
    return Model(Network(recipe), recipe)


def made_up_items(count: int, first: int = 0) -> Iterator[Item]:
    """Items like those of a photo archive: path, hash, size, time and a label."""
    rng = np.random.default_rng(first)
    for start in range(first, first + count, BATCH):
        n = min(BATCH, first + count - start)
        codes = rng.integers(0, 16, (n, 16), dtype=np.uint8)
        for i, code in enumerate(codes, start):
            path = f"{2000 + i // 50_000}/{i // 1000:05d}/IMG_{i:08d}.jpg"
            size, mtime = 1_000_000 + i, 1_700_000_000_000_000_000 + i
            yield Item(path, size, mtime, rng.bytes(16), 4000, 3000, code, metadata={"label": "bag"})


def put_in_batches(store: Store, items: Iterator[Item], size: int) -> None:
    with store.writing():
        while batch := [item for _, item in zip(range(size), items, strict=False)]:
            store.put(batch)


def small_files(folder: Path, count: int) -> None:
    """Real pictures as JPEG, a thousand in each subfolder, with a number at the end so that all have different bytes."""
    sample = open_images("sample:train")
    encoded = []
    for position in range(min(count, len(sample))):
        sample.image(position).save(buffer := io.BytesIO(), "JPEG")
        encoded.append(buffer.getvalue())
    for n in range(count):
        path = folder / f"{n // 1000:05d}" / f"{n:07d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded[n % len(encoded)] + n.to_bytes(8, "little"))


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def bytes_written() -> int | None:
    """Bytes that this process has written; None if the system does not report them."""
    counts = Path("/proc/self/io")
    if not counts.exists():
        return None
    return int(dict(line.split(": ") for line in counts.read_text().splitlines())["write_bytes"])


def measure_large(folder: Path, model: Model, count: int, add: int, rounds: int) -> list[Row]:
    """Open, follow, add to and compact an index of `count` items."""
    q = model.config.quantizer
    manifest = Manifest(FORMAT, "benchmark", model.hash, q.distance, q.num_codebooks, q.codebook_size, q.bits)
    with Store.create(folder / "large", manifest) as store:
        fill = seconds(lambda: put_in_batches(store, made_up_items(count), 50 * BATCH))
    model.save(folder / "large" / "model")
    query = np.random.default_rng(0).normal(size=q.dim).astype(np.float32)

    def open_and_search() -> None:
        with ImageIndex.open(folder / "large") as index:
            index.search(query, top=100)

    open_and_search()  # loads faiss
    opening = statistics.median(seconds(open_and_search) for _ in range(rounds))
    follow, adding, written = [], [], []
    with Store.open(folder / "large") as store, ImageIndex.open(folder / "large") as index:
        index.search(query)
        for turn in range(rounds):
            new = list(made_up_items(add, count + turn * add))
            before = bytes_written()
            adding.append(seconds(lambda new=new: put_in_batches(store, iter(new), BATCH)))
            written.append((bytes_written() or 0) - (before or 0))
            follow.append(seconds(lambda: index.search(query)))
        with store.writing():
            compacting = seconds(store.compact)
        size = (folder / "large" / "items.sqlite").stat().st_size
        each = size / len(store)
        path = statistics.mean(map(len, store.stats()))
    rows = [
        (f"make {count:,} items", fill, "s", ""),
        ("open and first search", opening, "s", "< 2 s" if count == 10**6 else ""),
        (f"add {add:,} items", statistics.median(adding), "s", ""),
        ("  bytes written", statistics.median(written) / 1e6, "MB", f"not {size / 1e6:.0f} MB"),
        ("  next search of an open index", statistics.median(follow), "s", ""),
        ("compact", compacting, "s", ""),
        ("bytes per item", each, "bytes", ""),
        ("  beside its path", each - path, "bytes", "<= 150"),
    ]
    return rows if bytes_written() is not None else [row for row in rows if row[0] != "  bytes written"]


def measure_folder(folder: Path, model: Model, count: int, rounds: int) -> list[Row]:
    """Sync a folder of `count` small pictures: first all of them, then unchanged."""
    (folder / "photos").mkdir()
    small_files(folder / "photos", count)
    start = time.perf_counter()
    with ImageIndex.build(folder / "small", model, folder / "photos") as index:
        first = time.perf_counter() - start
        again = [seconds(lambda: index.sync(folder / "photos")) for _ in range(rounds)]
        assert index.sync(folder / "photos").unchanged == count
    aim = "< 5 s" if count == 100_000 else ""
    return [
        (f"first sync of {count:,} small files", first, "s", ""),
        ("sync of them unchanged", statistics.median(again), "s", aim),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--add", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder (default: that of the system)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = small_model()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        rows = measure_large(Path(temporary), model, arguments.items, arguments.add, arguments.rounds)
        rows += measure_folder(Path(temporary), model, arguments.files, arguments.rounds)
    for what, value, unit, aim in rows:
        print(f"{what:36s} {value:10.3f} {unit:6s} {aim}")
    if arguments.json:
        report = {
            "rows": [dict(zip(("what", "value", "unit", "aim"), row, strict=True)) for row in rows],
            "items": arguments.items,
            "files": arguments.files,
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
