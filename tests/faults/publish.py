"""Kill -9 processes that publish an index, and processes that fetch it, at random moments.

    python tests/faults/publish.py [--count 20] [--seed 0] [--items 3000] [--s3]

Two processes change an index each (new items, other codes, moves into shards and back) and publish it at the same URL, again
and again; a third one fetches. In each round all are killed. Without --s3 the URL is a folder; with it, a bucket of a server
like S3 (moto's, in a process of its own). A round is wrong if

- the newest generation at the URL is not whole: a file is missing, or is not what its name says;
- what is fetched of it, into a fresh cache or into that of the killed process, has faults, or differs between the two;
- the next publication does not end well, or what is fetched then is not the index as it is, with all ids, paths and codes;
- other files stay at the URL than those that its last two generations name, and those uploaded for the next one.

The last line sums it up. Exit status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]

from object_store import BUCKET, s3_server  # noqa: E402
from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe  # noqa: E402
from spq.errors import StoreError  # noqa: E402
from spq.index.items import Item  # noqa: E402
from spq.index.manifest import FORMAT, Manifest  # noqa: E402
from spq.index.model_copy import ModelCopy  # noqa: E402
from spq.index.shards.open_store import open_store  # noqa: E402
from spq.index.shards.sharded_store import ShardedStore  # noqa: E402
from spq.index.shards.sharding import to_database, to_shards  # noqa: E402
from spq.index.store import Store  # noqa: E402
from spq.index.verify import faults  # noqa: E402
from spq.scale.generation import FILES, list_files, list_generations, read_generation, since_of  # noqa: E402
from spq.scale.publish import publish  # noqa: E402
from spq.scale.published import PublishedIndex  # noqa: E402
from spq.scale.urls import Place  # noqa: E402

MEAN = 0.6  # seconds until a process is killed, after its start
Content = list[tuple[object, ...]]


def make_index(folder: Path, count: int) -> None:
    """An index of random codes, with the copy of an untrained model."""
    from spq.model.model import Model
    from spq.model.network import Network

    recipe = Recipe(
        name="tiny",
        input=InputConfig(size=28),
        backbone=BackboneConfig(blocks=(1,), width=8, stem_stride=2),
        quantizer=QuantizerConfig(num_codebooks=8, codeword_dim=4),
    )
    model = Model(Network(recipe), recipe)
    manifest = Manifest(FORMAT, "0", model.hash, "l2", 8, 16, 32)
    with Store.create(folder, manifest) as store, store.writing():
        ModelCopy(folder, manifest, model).keep(store)
        store.put(item(number, 0) for number in range(count))
        store.put([Item("bad.jpg", 1, 2, reason="cannot read it")])


def item(number: int, seed: int) -> Item:
    import numpy as np

    code = np.random.default_rng([number, seed]).integers(0, 16, 8).astype(np.uint8)
    digest = number.to_bytes(8) + seed.to_bytes(8)
    return Item(f"f{number % 7}/p{number}.jpg", number, seed, digest, 3, 4, code)


def change(folder: Path, rng: random.Random) -> None:
    """Change an index in one of the ways that there are."""
    with open_store(folder) as store:
        kind = rng.random()
        if isinstance(store, ShardedStore) and kind < 0.2:
            to_database(store)
        elif kind < 0.5:
            to_shards(store, rng.choice([300, 700, 5000]))
        else:
            with store.writing():
                numbers = rng.sample(range(4000), rng.choice([1, 200]))
                store.put([item(number, rng.randrange(10**6)) for number in numbers])


def work(kind: str, folder: str, url: str, seed: int) -> None:
    """What a process does until it is killed."""
    rng, path = random.Random(seed), Path(folder)
    print("ready", flush=True)
    while True:
        if kind == "publish":
            change(path, rng)
            try:
                publish(path, url)
            except StoreError as error:
                if "somebody else has just published" not in str(error):
                    raise
        else:
            opened = PublishedIndex(url, path)
            opened.fetch()
            opened.close()


def content(folder: Path) -> Content:
    """All that a search depends on."""
    with open_store(folder) as store:
        rows = [(item.id, item.path, item.hash, item.code.tobytes()) for item in store.items() if item.code is not None]
        return [*rows, *store.unreadable()]


def lasting_files(folder: Path) -> dict[str, str]:
    """A digest of each file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Drill:
    """Rounds of kills.

    Attributes:
        wrong: what was wrong. published: generations, in all rounds.
    """

    def __init__(self, root: Path, url: str, items: int, seed: int) -> None:
        self.root, self.url, self.place, self.seed = root, url, Place(url), seed
        self.index, self.other, self.cache = root / "index", root / "other", root / "cache"
        self.wrong: list[str] = []
        make_index(self.index, items)
        shutil.copytree(self.index, self.other)
        publish(self.index, url)

    @property
    def published(self) -> int:
        return max(list_generations(self.place))

    def round(self, number: int) -> None:
        """Kill all processes, and look."""
        seed = self.seed * 100_000 + number
        rng = random.Random(seed)
        kinds = (("publish", self.index), ("publish", self.other), ("fetch", self.cache))
        command = [sys.executable, __file__, "--work"]
        started = [
            subprocess.Popen([*command, kind, str(path), self.url, str(seed)], stdout=subprocess.PIPE)
            for kind, path in kinds
        ]
        for process in started:
            assert process.stdout
            process.stdout.readline()
        for process in rng.sample(started, len(started)):
            time.sleep(rng.expovariate(1 / MEAN))
            is_running = process.poll() is None
            process.kill()
            process.communicate()
            if not is_running:
                self.wrong.append(f"round {number}: a process ended by itself with {process.returncode}")
        for fault in self.look():
            self.wrong.append(f"round {number}: {fault}")
            print(self.wrong[-1], flush=True)

    def look(self) -> list[str]:
        """What is wrong now."""
        found = self.damaged_at_url() + self.fetched_faults()
        publish(self.index, self.url)
        found += self.damaged_at_url() + self.fetched_faults() + self.leftovers()
        with_cache = PublishedIndex(self.url, self.cache)
        if content(with_cache.fetch()) != content(self.index):
            found.append("what was fetched is not the index")
        with_cache.close()
        return found

    def damaged_at_url(self) -> list[str]:
        known = list_generations(self.place)
        newest = max(known)
        files = read_generation(self.place, newest, known[newest]).files
        digests = {file.name: hashlib.sha256(self.place.read(f"{FILES}/{file.name}")).hexdigest() for file in files}
        return [f"{name} of generation {newest} is damaged" for name, d in digests.items() if d[:16] != name[-16:]]

    def fetched_faults(self) -> list[str]:
        """Faults of what is fetched, and whether the cache of the killed process leads to something else."""
        opened = [PublishedIndex(self.url, cache) for cache in (self.root / "fresh", self.cache)]
        folders = [each.fetch() for each in opened]
        found = list(faults(folders[1]))
        fresh, other = map(lasting_files, folders)
        if fresh != other:
            found.append("a fresh cache has other files than that of the killed process")
        for each in opened:
            each.close()
        shutil.rmtree(self.root / "fresh")
        return found

    def leftovers(self) -> list[str]:
        known = list_generations(self.place)
        named = {file.name for number in known for file in read_generation(self.place, number, known[number]).files}
        there = {name for name in list_files(self.place) if since_of(name) <= max(known)}  # others may be on their way
        found = [f"{name} stayed, or is lost" for name in there ^ named]
        return found + ["there are more than two generations"] * (len(known) > 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*arguments.work[:3], int(arguments.work[3]))
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.s3:
            os.environ |= stack.enter_context(s3_server(root / "log"))
        drill = Drill(root, f"s3://{BUCKET}/p" if arguments.s3 else str(root / "p"), arguments.items, arguments.seed)
        for number in range(arguments.count):
            drill.round(number)
        print(f"{3 * arguments.count} kills, {drill.published} generations: {len(drill.wrong)} wrong")
    sys.exit(bool(drill.wrong))


if __name__ == "__main__":
    main()
