"""Does a running server take over new generations under load, without a failed request and without mixing two of them?

    python tests/faults/swaps.py --seconds 60 --clients 64 --replicas 2 [--pictures photos/]

Starts `spq serve` over an index, and clients in a process of their own. This process changes the index meanwhile, over and over,
in a random order of these kinds:

- `add`, `remove`, `change`: pictures come, go, or get other content, and `spq index` brings the index up to date;
- `shards`, `database`: `--to-shards` and `--to-database`;
- `model`: `spq index INDEX --model OTHER`, with codes of another length;
- `folder`: another index of the same pictures, with other ids and lower generations, is moved into its place.

After each change the right answers are recorded by a direct search. In the end each answer of the server must be, as a whole, the
one of the generation that it names, and no answer may be older than 10 s. A 404 is right for an item that is not in one of the
generations at that time. Answers of status 503 are counted apart. The exit status is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from clients import Answer, ask_once, clients, get
from generations import GRACE, Asked, Search, State, count_faults, named, record
from server import running

KINDS = ("add", "change", "remove", "shards", "database", "model", "folder")
UPLOADS = 4  # pictures that are uploaded
MOVED = 8  # pictures that come, go or change at a time
SIDE = 96  # pixels of a picture
SHARD = 70  # items of a shard


@dataclass(frozen=True)
class Options:
    """Options of the command line. grace: seconds in which a generation must be taken over."""

    seconds: float = 60
    clients: int = 64
    pause: float = 0.3
    replicas: int = 1
    items: int = 400
    seed: int = 0
    kinds: Sequence[str] = KINDS
    pictures: str = "sample:train"
    grace: float = GRACE


@dataclass
class Collection:
    """Pictures, an index of them, two models, and what the index was like."""

    place: Path
    items: int
    images: Any
    asked: Asked
    rng: random.Random
    models: dict[str, Any] = field(default_factory=dict)  # hash -> model
    folders: dict[str, Path] = field(default_factory=dict)  # hash -> model folder
    states: list[State] = field(default_factory=list)
    _unused: Iterator[int] = field(default_factory=itertools.count)

    @property
    def index(self) -> Path:
        return self.place / "photos.index"

    @property
    def photos(self) -> Path:
        return self.place / "photos"

    def save_next(self, file: Path) -> None:
        """Write a picture that was not used before, as long as there are any."""
        picture = self.images.image(next(self._unused) % len(self.images)).convert("RGB")
        picture.resize((SIDE, SIDE - 30 * (len(file.name) % 2))).save(file)

    def files(self) -> list[Path]:
        return sorted(self.photos.iterdir())

    def has_shards(self) -> bool:
        from spq.index.manifest import SHARDED, read_manifest

        return read_manifest(self.index).format >= SHARDED

    def record(self, kind: str, begun: float, follows: bool = True) -> None:
        self.states.append(record(self.index, self.asked, kind, begun, follows, self.models))


def spq(*words: object) -> None:
    """Run a command in this process, which has torch already."""
    from spq.cli.main import run

    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        status = run([*map(str, words)])
    if status:
        raise RuntimeError(f"spq {' '.join(map(str, words))}: {said.getvalue()}")


def make(place: Path, pictures: str, items: int, seed: int) -> Collection:
    """Write pictures, two models, and an index of the first one."""
    from models import tiny
    from spq.config import BackboneConfig, InputConfig, Recipe
    from spq.data.open import open_images

    rng = random.Random(seed)
    ids = rng.sample(range(1, items + 1), 16)
    uploads = [place / f"upload {n}.png" for n in range(UPLOADS)]
    searches = {f"id {n}": Search((ids[n],)) for n in range(8)}
    searches |= {f"ids {n}": Search((ids[n], ids[n + 1]), not_ids=(ids[n + 2],)) for n in range(2)}
    searches |= {f"where {n}": Search((ids[n],), where="height > 70") for n in range(4)}
    searches |= {f"fold {n}": Search((ids[n],), fold=True) for n in range(4, 8)}
    searches |= {
        f"upload {n}": Search(picture=file, where="height > 70" if n % 2 else None) for n, file in enumerate(uploads)
    }
    asked = Asked(searches, {"browse 0": None, "browse 1": "height > 70"}, ids[:8])
    found = Collection(place, items, open_images(pictures), asked, rng)
    found.photos.mkdir()
    for file in uploads:
        found.save_next(file)
    for number in range(items):
        if number % 20 == 19:
            shutil.copy(found.photos / name_of(number - 1), found.photos / name_of(number))  # for `fold`
        else:
            found.save_next(found.photos / name_of(number))
    recipe = Recipe("tiny", InputConfig(size=28), BackboneConfig(blocks=(1, 1), width=8, stem_stride=2))
    for M in (8, 4):
        model = tiny(recipe, 16, M)
        model.save(place / f"{M}.spq")
        found.models[model.hash], found.folders[model.hash] = model, place / f"{M}.spq"
    spq("index", found.photos, "--model", place / "8.spq", "--out", found.index)
    found.record("start", 0.0, follows=False)
    return found


def name_of(number: int) -> str:
    return f"{number:05d}{'+' * (number // 2 % 2)}.png"  # every other pair has longer names, and is less high


# changes


def add(c: Collection) -> None:
    last = int(c.files()[-1].name[:5])
    for number in range(last + 1, last + 1 + MOVED):
        c.save_next(c.photos / name_of(number))
    spq("index", c.index)


def change(c: Collection) -> None:
    for file in c.rng.sample(c.files(), MOVED):
        c.save_next(file)
    spq("index", c.index)


def remove(c: Collection) -> None:
    for file in c.rng.sample(c.files(), MOVED):
        file.unlink()
    spq("index", c.index)


def shards(c: Collection) -> None:
    spq("index", c.index, "--to-shards", "--shard-items", SHARD)


def database(c: Collection) -> None:
    if c.has_shards():
        spq("index", c.index, "--to-database")


def model(c: Collection) -> None:
    """Give the index codes of the other model."""
    if c.has_shards():
        begun = time.monotonic()
        database(c)
        c.record("database", begun)
    (other,) = [folder for hash_, folder in c.folders.items() if hash_ != c.states[-1].model]
    spq("index", c.index, "--model", other)


def folder(c: Collection) -> None:
    """Move another index, made with the same model, into the place of the index."""
    other, old = c.place / "other.index", c.place / "old.index"
    spq("index", c.photos, "--model", c.folders[c.states[-1].model], "--out", other)
    c.index.rename(old)
    other.rename(c.index)
    shutil.rmtree(old)


CHANGES: dict[str, Callable[[Collection], None]] = dict(
    zip(KINDS, (add, change, remove, shards, database, model, folder), strict=True)
)
ANOTHER = ("model", "folder")  # of which the generations before are those of another index


def swap(c: Collection, options: Options, port: int) -> list[float]:
    """Change the index until the time is over, and every kind was there. Return how long the server took for each generation."""
    end, took = time.monotonic() + options.seconds, list[float]()
    while True:
        for kind in c.rng.sample(options.kinds, len(options.kinds)):
            begun = time.monotonic()
            CHANGES[kind](c)
            c.record(kind, begun, follows=kind not in ANOTHER)
            if time.monotonic() > end and {state.kind for state in c.states} >= set(options.kinds):
                return [*took, wait_until_taken_over(c.states[-1], port, options)]
            if c.rng.random() < 0.6:  # else the next one comes at once
                took.append(wait_until_taken_over(c.states[-1], port, options))
                time.sleep(min(options.seconds / 60, c.rng.random()))


def wait_until_taken_over(state: State, port: int, options: Options) -> float:
    """Return after how many seconds all servers named a generation; `inf` if some did not."""
    answers = 0
    while answers < 4 * options.replicas:  # of connections that are new, so that each server has some of them
        if time.monotonic() > state.recorded + options.grace:
            return float("inf")
        answer = ask_once(port, "status", get("/api/status"))
        is_right = answer.status == 200 and named(answer)[:2] == (state.model, state.generation)
        answers = answers + 1 if is_right else 0
        time.sleep(0.01 if is_right else 0.1)
    return time.monotonic() - state.recorded


def drill(place: Path, options: Options) -> tuple[str, list[str]]:
    """Serve an index in an empty folder, and change it under load; return a summary, and what was wrong."""
    c = make(place, options.pictures, options.items, options.seed)
    with running(c.index, *(("--replicas", str(options.replicas)) if options.replicas > 1 else ())) as server:
        requests = c.asked.requests()
        for name, request in requests.items():  # the network loads
            ask_once(server.port, name, request)
        with clients(server.port, requests, options.clients, options.pause, options.seed) as sending:
            took = swap(c, options, server.port)
            answers = sending.stop()
    faults, busy, examples = count_faults(answers, c.states, options.grace)
    log = server.log.read_text("utf-8")
    faults["not taken over"] = took.count(float("inf"))
    faults["tracebacks in the log"] = log.count("Traceback")
    faults += Counter()  # without those that are 0
    wrong = [*examples, *faults, *dict.fromkeys(log.splitlines())] if faults else []
    return summary(c.states, answers, took, faults, busy), wrong


def summary(
    states: Sequence[State], answers: Sequence[Answer], took: Sequence[float], faults: Counter[str], busy: Counter[str]
) -> str:
    """What happened, in one line."""
    slowest = max(answers, key=lambda answer: answer.received - answer.sent)
    seen = {named(answer)[:2] for answer in answers if answer.status == 200} - {(None, None)}
    return (
        f"{len(answers)} requests, {len(states)} generations {dict(Counter(state.kind for state in states))}, "
        f"{len(seen)} seen by clients, taken over after {sorted(took)[len(took) // 2]:.1f} s, at most {max(took):.1f} s; "
        f"{sum(faults.values())} failures {dict(faults)}; {sum(busy.values())} of status 503 {dict(busy)}; "
        f"slowest answer {slowest.received - slowest.sent:.2f} s ({slowest.name})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--pause", type=float, default=0.3, help="mean seconds between two requests of a client")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--pictures", default="sample:train", help="a collection, as `spq index` takes it")
    options = Options(**vars(parser.parse_args()))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="spq-faults-") as place:
        os.environ["SPQ_CACHE"] = str(Path(place, "cache"))
        line, wrong = drill(Path(place), options)
    print("\n".join([*wrong, line]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
