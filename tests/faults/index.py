"""Damage an index at random, many times, and look what search, verify and update make of it.

    OMP_NUM_THREADS=1 python tests/faults/index.py --count 4000 --seed 0

Each mutation is done to a copy of a small index: flipped bits, cuts, zeroed and swapped ranges, rows changed and swapped by SQL,
files replaced by links, folders, pipes and files of another index, and wrong types, huge numbers and deep nesting in JSON. Then
a child process with limits of memory and time opens the index, searches by ids, verifies it, updates it, repairs it and
verifies it again. A run is wrong if it

- ends with anything but an answer or an error of spq (traceback), takes 10 s of the processor (hang), or needs more than 1 GB;
- gives other answers than the undamaged index, unless `verify` names a fault (silently wrong);
- holds other codes or codebooks than the undamaged index, and nothing at load says so;
- passes `verify` after a repair that left nothing, and still answers otherwise (badly mended).

The last line sums it up. Exit status 1 if any run was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

SECONDS, BYTES, QUERIES = 10, 1 << 30, ("bag/023.jpg", "pullover/004.png", "shirt/056.png")
Mutation = Callable[[Path, Path, random.Random], str]  # index, another index -> what was done


def pick(index: Path, rng: random.Random) -> Path:
    names = ["items.sqlite"] * 6 + ["manifest.json"] * 2 + ["model/config.json", "model/model.safetensors"] * 2
    log = index / "items.sqlite-wal"
    if log.exists() and log.stat().st_size:
        names += ["items.sqlite-wal"] * 6
    return index / rng.choice(names)


def foreign(file: Path, index: Path, other: Path) -> Path:
    """The same file of another index; it has no `-wal`."""
    found = other / file.relative_to(index)
    return found if found.exists() else other / "items.sqlite"


def flip(index: Path, _: Path, rng: random.Random) -> str:
    file = pick(index, rng)
    data = bytearray(file.read_bytes())
    for _n in range(rng.choice([1, 1, 1, 2, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return f"flip {file.name}"


def cut(index: Path, _: Path, rng: random.Random) -> str:
    file = pick(index, rng)
    os.truncate(file, rng.randrange(file.stat().st_size))
    return f"cut {file.name}"


def zero(index: Path, _: Path, rng: random.Random) -> str:
    file = pick(index, rng)
    data = bytearray(file.read_bytes())
    start, size = rng.randrange(len(data)), rng.choice([1, 16, 512, 4096])
    data[start : start + size] = bytes(len(data[start : start + size]))
    file.write_bytes(data)
    return f"zero {file.name}"


def swap(index: Path, _: Path, rng: random.Random) -> str:
    file = pick(index, rng)
    data = bytearray(file.read_bytes())
    size = rng.choice([4, 64, 512, 4096])
    if len(data) < 2 * size:
        return flip(index, index, rng)
    pages = size if file.name == "items.sqlite" and size == 4096 else 1
    a, b = (rng.randrange((len(data) - size) // pages + 1) * pages for _n in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    file.write_bytes(data)
    return f"swap {file.name}"


def splice(index: Path, other: Path, rng: random.Random) -> str:
    file = pick(index, rng)
    strange = foreign(file, index, other).read_bytes()
    data = bytearray(file.read_bytes())
    start, size = rng.randrange(len(data)), rng.choice([64, 4096])
    if file.name == "items.sqlite" and size == 4096:
        start -= start % 4096
    part = strange[start : start + size]
    data[start : start + len(part)] = part
    file.write_bytes(data)
    return f"splice {file.name}"


def replace(index: Path, other: Path, rng: random.Random) -> str:
    file = pick(index, rng)
    kind = rng.choice(["other", "link", "self-link", "folder", "pipe", "empty", "gone", "noise"])
    file.unlink()
    if kind == "other":
        shutil.copyfile(foreign(file, index, other), file)
    elif kind == "link":
        file.symlink_to(foreign(file, index, other))
    elif kind == "self-link":
        file.symlink_to(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind in ("empty", "noise"):
        file.write_bytes(rng.randbytes(5000) if kind == "noise" else b"")
    return f"replace {kind} {file.name}"


VALUES: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, -0.5, "", "x", "../x", [], [[]], {}, {"a": 1}, "l2", "dot", [1, "a"],
    "\ud800",
]  # fmt: skip


def json_value(index: Path, _: Path, rng: random.Random) -> str:
    """Change a value, with a checksum or without."""
    file = index / rng.choice(["manifest.json", "manifest.json", "model/config.json"])
    content = json.loads(file.read_text("utf-8"))
    place, name = content, rng.choice(list(content))
    while isinstance(place[name], dict) and place[name] and rng.random() < 0.8:
        place = place[name]
        name = rng.choice(list(place))
    if rng.random() < 0.1:
        file.write_text('{"format": ' + "[" * 100_000, "utf-8")
        return f"json deep {file.name}"
    if rng.random() < 0.2:
        del place[name]
    else:
        place[name] = rng.choice(VALUES)
    if file.name == "manifest.json" and rng.random() < 0.3:
        content.pop("check", None)
    file.write_text(json.dumps(content), "utf-8")
    return f"json {file.name}"


COLUMNS = (
    "path", "hash", "size", "mtime_ns", "ctime_ns", "width", "height", "status", "reason", "code", "metadata", "revision",
    '"check"',
)  # fmt: skip
CELLS: list[Any] = [
    None,
    0,
    1,
    -1,
    2**62,
    1.5,
    "",
    "x",
    "{",
    '{"label": ["a"]}',
    "[" * 5000,
    b"",
    b"\0\1\2\3\4\5\6\7",
    b"\xff",
]


def rows(index: Path, other: Path, rng: random.Random) -> str:
    """Change cells by SQL, as another program might."""
    with closing(sqlite3.connect(index / "items.sqlite", isolation_level=None)) as database:
        a, b = rng.sample(range(1, 61), 2)
        kind = rng.choice(["cell", "cell", "cell", "swap", "delete", "renumber", "contents", "list", "foreign"])
        try:
            if kind == "cell":
                column = rng.choice(COLUMNS)
                database.execute(f"UPDATE items SET {column} = ? WHERE id = ?", (rng.choice(CELLS), a))
            elif kind == "swap":
                column = rng.choice([column for column in COLUMNS if column != "path"])
                values = dict(database.execute(f"SELECT id, {column} FROM items WHERE id IN (?, ?)", (a, b)))
                database.execute(f"UPDATE items SET {column} = ? WHERE id = ?", (values[b], a))
                database.execute(f"UPDATE items SET {column} = ? WHERE id = ?", (values[a], b))
            elif kind == "delete":
                database.execute("DELETE FROM items WHERE id = ?", (a,))
            elif kind == "renumber":
                database.execute("UPDATE items SET id = ? WHERE id = ?", (rng.choice([0, -5, 1000, 2**40, 2**62]), a))
            elif kind == "contents":
                name = rng.choice(["key", "model", "manifest", "items", "encoded", "code_sum", "fact_sum"])
                database.execute(f"UPDATE contents SET {name} = ?", (rng.choice([*CELLS[1:], 17]),))
            elif kind == "list":
                database.execute("INSERT OR REPLACE INTO removed VALUES (?, ?)", (a, rng.choice([0, 1, 2**60])))
                database.execute("UPDATE sqlite_sequence SET seq = ?", (rng.choice([0, a, 2**62]),))
            else:
                database.execute("ATTACH ? AS other", (str(other / "items.sqlite"),))
                database.execute(
                    "UPDATE items SET code = (SELECT code FROM other.items WHERE id = ?) WHERE id = ?", (a, a)
                )
        except sqlite3.Error:
            return f"rows {kind} refused"
    return f"rows {kind}"


MUTATIONS: list[Mutation] = [flip, flip, flip, cut, zero, swap, splice, replace, json_value, rows, rows]


def answers(index: Path) -> dict[str, Any]:
    """Codes and codebooks of an index, and what searches by ids answer: each hit's path and distance."""
    from spq.index.image_index import ImageIndex

    with ImageIndex.open(index) as opened:
        ids, codes = opened.store.codes()
        found = {"ids": ids.tolist(), "codes": codes.tolist(), "codebooks": opened.decoder.words.tolist()}
        paths = opened.store.paths(found["ids"])
        found["items"] = {paths[id_]: code for id_, code in zip(found["ids"], found["codes"], strict=True)}
        first = {path: id_ for id_, path in paths.items() if path in QUERIES}
        hits = {path: opened.search(id_, top=10) for path, id_ in first.items()}
        found["hits"] = {path: [(hit.path, round(hit.distance, 5)) for hit in hits[path]] for path in hits}
        return found


def look(index: Path, photos: Path, truth: dict[str, Any]) -> str:
    """What is wrong with the way a damaged index is handled; empty if nothing is. Runs in the child."""
    from spq.errors import SPQError
    from spq.index.build import update_index
    from spq.index.mend import repair
    from spq.index.verify import faults

    said: list[str] = []
    try:
        found = answers(index)
    except SPQError as error:
        found = None
        said = [str(error)]
    named = _lines(lambda: list(faults(index)))
    if found is not None and any(found[part] != truth[part] for part in ("ids", "codes", "codebooks")):
        return "codes or codebooks differ, and loading said nothing"
    if found is not None and found != truth and not named:
        return "silently wrong"
    if (index / "manifest.json").exists():
        try:
            update_index(index, photos).store.close()
        except SPQError as error:
            said.append(str(error))
    if any("\n" in text for text in said):
        return "an error of more than one line"
    left = _lines(lambda: repair(index).left)
    if left or _lines(lambda: list(faults(index))):
        return ""
    after = answers(index)  # no fault is left, so this must work
    if after["ids"] == truth["ids"]:
        return "" if after == truth else f"badly mended: {[part for part in truth if after[part] != truth[part]]}"
    distances = [{path: [hit[1] for hit in hits] for path, hits in one["hits"].items()} for one in (after, truth)]
    return "" if after["items"] == truth["items"] and distances[0] == distances[1] else "badly mended"


def _lines(make: Callable[[], list[str]]) -> list[str]:
    from spq.errors import SPQError

    try:
        return make()
    except SPQError as error:
        return [str(error)]


def in_child(work: Callable[[], str]) -> str:
    """Run in a forked process with limits; returns what is wrong."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 0
        try:
            resource.setrlimit(resource.RLIMIT_AS, (16 * BYTES, 16 * BYTES))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: a busy machine is no hang
            signal.alarm(6 * SECONDS)
            found = work()
        except BaseException:
            found = "traceback: " + traceback.format_exc()
        os.write(write, found.encode("utf-8", "replace")[:60_000])
        os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        return (
            "hang"
            if os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF)
            else f"killed by signal {os.WTERMSIG(status)}"
        )
    return found or ("memory" if usage.ru_maxrss * 1024 > BYTES else "")


def prepare(root: Path) -> None:
    """An index of 60 pictures, a copy with its last change in `-wal`, and one of other pictures and another model, in `root`."""
    import spq.index.mend  # noqa: F401 (children need not load it again)
    from conftest import write_photos
    from models import tiny
    from spq.config import BackboneConfig, InputConfig, Recipe
    from spq.data.image_set import subset
    from spq.data.open import open_images
    from spq.index.image_index import ImageIndex

    recipe = Recipe(
        name="tiny", input=InputConfig(size=16), backbone=BackboneConfig(blocks=(1,), width=8, stem_stride=2)
    )
    for name, K in (("i", 16), ("other", 4)):
        write_photos(root / name / "photos") if name == "i" else None
        images = root / "i" / "photos" if name == "i" else subset(open_images("sample:train"), range(100, 160))
        with ImageIndex.build(root / f"{name}.index", tiny(recipe, K, 8), images) as index:
            if name == "i":
                with (
                    ImageIndex.open(root / "i.index") as reader,
                    reader.store.snapshot(),  # keeps the writer from merging
                    index.store.writing(),
                ):
                    len(reader)
                    # columns of a collection
                    index.store.describe(
                        (path, {"label": path.split("/")[0], "n": "7"}) for path in index.store.stats()
                    )
                    shutil.copytree(root / "i.index", root / "unmerged.index")
        if name == "i":
            with closing(sqlite3.connect(root / "i.index" / "items.sqlite")) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def drill(numbers: range, seed: int, root: Path) -> Counter[str]:
    """Run mutations; returns how many runs were wrong in each way."""
    prepare(root)
    truth, wrong = answers(root / "i.index"), Counter[str]()
    for number in numbers:
        rng = random.Random(f"{seed}-{number}")
        if number % 100 == 0:
            print(f"at {number:,}", file=sys.stderr, flush=True)
        copy = root / "copy.index"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root / ("unmerged.index" if number % 3 == 0 else "i.index"), copy)
        done = [rng.choice(MUTATIONS)(copy, root / "other.index", rng)]
        found = in_child(lambda: look(copy, root / "i" / "photos", truth))  # noqa: B023 (it runs at once)
        if found:
            wrong[found.split(":")[0]] += 1
            print(f"{number}: {', '.join(done)}: {found}", flush=True)
    print(f"{len(numbers):,} mutations, seed {seed}: {dict(wrong) or 'none wrong'}", flush=True)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="Number of the first mutation.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        os.environ["SPQ_CACHE"] = str(Path(root) / "cache")
        wrong = drill(range(options.first, options.first + options.count), options.seed, Path(root))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
