"""Kill -9 commands at random moments, run each again, and compare what it made with an undisturbed run.

    python tests/faults/kill.py [--count 200] [--seed 0] [--only train]

The commands take turns: train (network, and frozen head), index (new, updated, with another model), compact, backup, restore
and export (NumPy, Parquet, FAISS, vectors, Lance, ONNX, site). Each is killed at a random moment of the time that it takes,
sometimes several times in a row, and must then succeed when it is run again, with the same result:

- index, compact: `--verify` finds no fault, and the items have the paths, codes and facts of the undisturbed run;
  what a killed run had reported as committed is there;
- train: the same weights; after a kill before the first checkpoint, those of the same command;
- export, backup: the same bytes, of Lance the same rows and answers; restore: the same items;
- and no temporary file is left.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from forked import Ended, Small, load_libraries

KEPT = {".lock", ".committed", "items.sqlite-shm", "items.sqlite-wal"}  # files that are no leftovers


def items(index: Path) -> tuple[list[Any], bytes]:
    """All that the rows of an index say, by path; ids may differ where a killed run has taken some."""
    columns = "path, hash, size, mtime_ns, ctime_ns, width, height, status, reason, code, metadata"
    with closing(sqlite3.connect(index / "items.sqlite")) as database:
        rows = database.execute(f"SELECT {columns} FROM items ORDER BY path").fetchall()
        paths = [row[0] for row in rows]
        assert len(paths) == len(set(paths)), "an item is doubled"
        model = index / "model" / "model.safetensors"
        return rows, model.read_bytes() if model.exists() else b""


def weights(model: Path) -> Any:
    """The weights of a trained model."""
    return (model / "model.safetensors").read_bytes()


def contents(path: Path) -> Any:
    """The bytes of a file, or of all files of a folder; of a site without the lock and marker of its folder."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = (file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def dataset(path: Path) -> Any:
    """Rows and answers of a Lance dataset. Another process reads it, because Lance does not survive a fork."""
    code = (
        "import json, lance, sys; table = lance.dataset(sys.argv[1]); rows = table.to_table().to_pylist(); "
        "nearest = {'column': 'descriptor', 'q': rows[0]['descriptor'], 'k': 20}; "
        "print(json.dumps([rows, table.to_table(columns=['id', '_distance'], nearest=nearest).to_pylist()]))"
    )
    return json.loads(subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True).stdout)


@dataclass(frozen=True)
class Case:
    """A command, and what of its result has to be the same.

    Attributes:
        made: name of the result in the folder of work. state: what is compared. before: copied there first.
        resumes: whether --resume continues it. is_index: whether `--verify` has to find no fault.
        keeps: whether it never replaces a result that is there.
    """

    name: str
    line: str
    made: str
    state: Callable[[Path], Any]
    before: tuple[tuple[str, str], ...] = ()
    resumes: bool = False
    is_index: bool = False
    keeps: bool = False


INDEX = (("i", "i"),)
CASES = [
    Case("index", "index {photos} --model {m} --out {t}/x", "x", items, is_index=True),
    Case("update", "index {photos} {more} --model {m} --out {t}/i", "i", items, INDEX, is_index=True),
    Case("new model", "index {t}/i --model {other}", "i", items, INDEX, is_index=True),
    Case("compact", "index {t}/i --compact", "i", items, (("full", "i"),), is_index=True),
    Case("backup", "index {i} --backup {t}/b", "b", contents, keeps=True),
    Case("restore", "index --restore {backup} --out {t}/r", "r", items, is_index=True, keeps=True),
    Case("train", "train {photos} --recipe {tiny} --out {t}/t", "t", weights, resumes=True),
    Case("train head", "train {photos} --start {m} --frozen --epochs 2 --out {t}/t", "t", weights, resumes=True),
    Case("codes npz", "export {i} --to codes --out {t}/a.npz", "a.npz", contents),
    Case("codes parquet", "export {i} --to codes --out {t}/a.parquet", "a.parquet", contents),
    Case("faiss", "export {i} --to faiss --out {t}/a.faiss", "a.faiss", contents),
    Case("vectors", "export {i} --to vectors --out {t}/v", "v", contents, keeps=True),
    Case("lance", "export {i} --to lance --out {t}/l", "l", dataset, keeps=True),
    Case("onnx", "export {m} --to onnx --out {t}/a.onnx", "a.onnx", contents),
    Case("site", "export {i} --to web --out {t}/site", "site", contents),
    Case(
        "site again", "export {t}/full --to web --out {t}/site", "site", contents, (("site", "site"), ("full", "full"))
    ),
]


def commit_often() -> None:
    """Let all later processes commit four pictures at a time, and print which."""
    from spq.index import sync
    from spq.index.store import Store

    put = Store.put

    def put_and_tell(self: Store, given: Any) -> None:
        given = list(given)
        put(self, given)
        print(*(f"put {item.path}" for item in given), sep="\n", flush=True)

    sync.BATCH = 4
    Store.put = put_and_tell  # type: ignore[method-assign]


class Bench:
    """Runs, kills and compares."""

    def __init__(self, small: Small, seed: int) -> None:
        self.small, self.rng, self.base = small, random.Random(seed), small.base
        self.names = {"t": self.base / "t", "more": self.base / "more", "backup": self.base / "backup"}
        shutil.copytree(self.base / "photos", self.base / "more")
        for path in (self.base / "more").rglob("*.*"):
            path.write_bytes(path.read_bytes() + b"\0")
        shutil.copytree(self.base / "i", self.base / "full")
        for line in ("index {photos} {more} --model {m} --out {full}", "index {i} --backup {backup}",
                     "export {i} --to web --out {site}"):  # fmt: skip
            self._run(line)
        self.expected: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.counts: Counter[str] = Counter()

    def _run(self, line: str) -> Ended:
        ended = self.small.run(line, full=self.base / "full", site=self.base / "site", **self.names).wait()
        assert ended.status == 0, (line, ended.err)
        return ended

    def _prepare(self, case: Case) -> None:
        shutil.rmtree(self.base / "t", ignore_errors=True)
        shutil.rmtree(self.base / "cache", ignore_errors=True)  # of features
        (self.base / "t").mkdir()
        for source, name in case.before:
            shutil.copytree(self.base / source, self.base / "t" / name)

    def learn(self, case: Case) -> None:
        """Run a case undisturbed: its time and its result."""
        self._prepare(case)
        self.seconds[case.name] = self._run(case.line).seconds
        self.expected[case.name] = case.state(self.base / "t" / case.made)

    def attack(self, case: Case) -> str:
        """Kill a case, often more than once, and let it finish; returns what is wrong, or nothing."""
        self._prepare(case)
        line, kills = case.line, self.rng.choice((1, 1, 2, 3))
        committed: set[str] = set()
        for _ in range(kills):
            running = self.small.run(line, **self.names)
            time.sleep(self.rng.uniform(0, self.seconds[case.name]))
            running.signal(signal.SIGKILL)
            ended = running.wait()
            self.counts["killed" if ended.status == -signal.SIGKILL else "ended first"] += 1
            if ended.status == 0:
                break
            if ended.status not in (0, -signal.SIGKILL):
                return f"a run after a kill fails: {ended.line}"
            line = self._next_line(case)
            committed |= {text[4:] for text in ended.out.split("\n")[:-1] if text.startswith("put ")}
            if wrong := self._check_between(case, committed):
                return wrong
        else:
            ended = self.small.run(line, **self.names).wait()
        if ended.status:
            return f"the next run fails: {ended.line}"
        return self._compare(case)

    def _next_line(self, case: Case) -> str:
        """The same command; for a training as the tool asks for it."""
        begun = case.resumes and (self.base / "t" / case.made / "checkpoints").exists()
        return f"{case.line} --resume" if begun else case.line

    def _check_between(self, case: Case, committed: set[str]) -> str:
        """What is wrong right after a kill: faults of the index, lost items, half a file that has the final name."""
        place = self.base / "t" / case.made
        if case.is_index and (place / "manifest.json").exists():
            ended = self.small.run("index {x} --verify", x=place).wait()
            if ended.status:
                return f"faults after the kill: {ended.out} {ended.line}"
            if case.name != "new model" and (lost := committed - {row[0] for row in items(place)[0]}):
                return f"lost: {len(lost)} items that were committed"
            if not case.keeps:
                return ""
        if case.keeps and place.exists():  # it has its name when it is complete
            if case.state(place) != self.expected[case.name]:
                return "an incomplete result has the final name"
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            return ""
        if case.state is contents and place.is_file() and contents(place) != self.expected[case.name]:
            return "a half file has the final name"
        return ""

    def _compare(self, case: Case) -> str:
        place = self.base / "t" / case.made
        if case.state(place) != self.expected[case.name]:
            return "another result than that of an undisturbed run"
        if case.is_index:
            ended = self.small.run("index {x} --verify", x=place).wait()
            if ended.status:
                return f"faults: {ended.out} {ended.line}"
        left = [path for path in (self.base / "t").rglob(".*") if path.name not in KEPT]
        return f"left over: {', '.join(path.relative_to(self.base / 't').as_posix() for path in left)}" if left else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="runs that are attacked, each with one to three kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only cases whose name contains this text")
    options = parser.parse_args()
    load_libraries()
    cases = [case for case in CASES if options.only in case.name]
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        bench = Bench(Small(Path(folder) / "base"), options.seed)
        commit_often()
        results: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        for case in cases:
            bench.learn(case)
        for n in range(options.count):
            case = cases[n % len(cases)]
            results[case.name] += 1
            if n % 20 == 19:
                print(f"{n + 1} attacked, {bench.counts['killed']} kills", file=sys.stderr, flush=True)
            if found := bench.attack(case):
                wrong[case.name] += 1
                print(f"{case.name}, run {n}: {found}", flush=True)
        for case in cases:
            print(
                f"{case.name:14s} {bench.seconds[case.name]:6.2f} s  {results[case.name]:3d} attacked  {wrong[case.name]} wrong"
            )
        print(f"{sum(results.values())} attacked, {bench.counts['killed']} kills, {sum(wrong.values())} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
