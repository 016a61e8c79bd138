"""Run each command that writes on a disk that becomes full at every place, and again with room.

    python tests/faults/full_disk.py [--steps 12] [--only export]

Each command runs once with room, which measures what it needs. Then it runs on new disks (tmpfs) that have only a part of
that, `--steps` sizes from nothing to nearly enough. Each time it has to end with one line that names a file and the remedy, or
to go on without what is only a cache; what was there before must be intact; and the same command must succeed
when there is room. Needs Linux and root, or the right to make a user namespace (unshare -rm).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from forked import Ended, Small, load_libraries

MEGABYTE = 1 << 20
SAYS = re.compile(r"\bfull\b|MB are free")
REMEDY = re.compile(r"free some space|give another|TMPDIR")


class Disk:
    """A file system in memory with a size that can be changed."""

    libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)

    def _mount(self, flags: int, size: int) -> None:
        done = self.libc.mount(b"tmpfs", bytes(self.place), b"tmpfs", flags, f"size={max(size, 4096)}".encode())
        if done:
            raise OSError(ctypes.get_errno(), "mount")

    def mount(self, size: int) -> None:
        self._mount(0, size)

    def resize(self, size: int) -> None:
        self._mount(32, size)  # MS_REMOUNT

    def unmount(self) -> None:
        self.libc.umount2(bytes(self.place), 2)

    def used(self) -> int:
        status = os.statvfs(self.place)
        return (status.f_blocks - status.f_bfree) * status.f_frsize


def can_mount(place: Path) -> bool:
    """Whether this process may mount a disk."""
    if sys.platform != "linux":
        return False
    disk = Disk(place)
    try:
        disk.mount(MEGABYTE)
    except OSError:
        return False
    disk.unmount()
    return True


@dataclass(frozen=True)
class Case:
    """A command that writes to the small disk {d}.

    Attributes:
        before: copied to the disk first: name on the disk -> name in the base folder.
        environment: variables of the command. cache: whether the disk has only a cache, so that the command goes on.
        least: bytes that it needs, where they are there too shortly to be measured.
    """

    line: str
    before: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    cache: bool = False
    least: int = 4096


CASES = [
    Case("index {photos} --model {m} --out {d}/x"),
    Case("index {photos} {more} --model {m} --out {d}/i", before=(("i", "i"),), least=40_960),
    Case("index {d}/i --model {other}", before=(("i", "i"),)),
    Case("index {d}/i --compact", before=(("i", "i"),), least=49_152),
    Case("index {i} --backup {d}/b"),
    Case("index --restore {backup} --out {d}/r"),
    Case("train {photos} --recipe {tiny} --out {d}/t"),
    Case("train {photos} --start {m} --frozen --epochs 2 --out {d}/t"),
    Case("train {photos} --start {m} --frozen --epochs 2 --out {t}/t", environment=(("SPQ_CACHE", "{d}/cache"),)),
    Case("index {photos} --model {frozen} --out {t}/x", environment=(("SPQ_CACHE", "{d}/cache"),), cache=True),
    Case("export {i} --to codes --out {d}/a.npz"),
    Case("export {i} --to codes --out {d}/a.parquet"),
    Case("export {i} --to faiss --out {d}/a.faiss"),
    Case("export {i} --to vectors --out {d}/vectors"),
    Case("export {i} --to lance --out {d}/lance"),
    Case("export {m} --to onnx --out {d}/a.onnx"),
    Case("export {i} --to web --out {d}/site"),
    Case("export {i} --to web --dupes --out {d}/site", before=(("site", "site"),)),
    Case("dupes {photos} {more} --csv {d}/a.csv"),
    Case("dupes {photos} {more} --html {d}/a.html"),
    Case("dupes {photos} {more}", environment=(("TMPDIR", "{d}/tmp"), ("SPQ_CACHE", "{d}/cache"))),
    Case("search {i} --id 1 --html {d}/a.html"),
    Case("info {i} --html {d}/a.html"),
    Case("eval {m} --gallery {photos} --queries sample:test --plots {d}/plots"),
    Case("demo {photos} --minutes 0.02 --out {d}/demo"),
]  # fmt: skip


class Bench:
    """Runs cases and counts what happens."""

    def __init__(self, small: Small, disk: Disk, steps: int) -> None:
        self.small, self.disk, self.steps = small, disk, steps
        base = small.base
        self.names = {"d": disk.place, "t": base / "t", "more": base / "more", "backup": base / "backup",
                      "frozen": base / "frozen"}  # fmt: skip
        shutil.copytree(base / "photos", base / "more")
        for path in (base / "more").rglob("*.*"):
            path.write_bytes(path.read_bytes() + b"\0")
        for line in ("index {i} --backup {backup}", "export {i} --to web --out {site}",
                     "train {photos} --start {m} --frozen --epochs 2 --out {frozen}"):  # fmt: skip
            ended = small.run(line, site=base / "site", **self.names).wait()
            assert ended.status == 0, ended.err
        self.lines: Counter[str] = Counter()
        self.wrong: list[str] = []

    def start(self, case: Case, size: int) -> Callable[[], Ended]:
        """A new disk of a size beyond what the case needs before; returns a function that runs the command."""
        shutil.rmtree(self.small.base / "t", ignore_errors=True)
        (self.small.base / "t").mkdir()
        self.disk.mount(256 * MEGABYTE)
        for name in ("tmp", "cache"):
            (self.disk.place / name).mkdir()
        for name, source in case.before:
            shutil.copytree(self.small.base / source, self.disk.place / name)
        self.disk.resize(self.disk.used() + size)
        environment = {name: value.format(**self.names) for name, value in case.environment}
        return lambda: self.small.run(case.line, environment=environment, **self.names).wait()

    def check(self, case: Case) -> tuple[int, int, str]:
        """Returns how many disks were full, how many of these had a fault, and the bytes that the command needs."""
        run = self.start(case, 200 * MEGABYTE)
        used = self.disk.used()
        peak = _peak(self.disk, run)
        needs = max(case.least, peak - used)
        self.disk.unmount()
        full = faults = 0
        sizes = sorted({4096 * (needs * step // self.steps // 4096) for step in range(self.steps)})
        for size in sizes:
            run = self.start(case, size)
            ended = run()
            full += ended.status != 0
            if problem := self._problem(case, ended, run):
                faults += 1
                self.wrong.append(f"{case.line} with {size:,} of {needs:,} bytes: {problem}")
            self.disk.unmount()
        return full, faults, f"{needs:,}"

    def _problem(self, case: Case, ended: Ended, run: Callable[[], Ended]) -> str:
        if "Traceback" in ended.err:
            return f"a traceback: {ended.line}"
        if ended.status:
            errors = [line for line in ended.err.splitlines() if line.startswith("spq: ")]
            self.lines[re.sub(r"\d[\d,]*|/[\w./-]+", "*", ended.line)] += 1
            if ended.status < 0:
                return f"killed by signal {-ended.status}"
            if len(errors) != 1 or ended.line != errors[0]:
                return f"not one line: {ended.err!r}"
            if not (str(self.disk.place) in ended.line and SAYS.search(ended.line) and REMEDY.search(ended.line)):
                return f"unclear: {ended.line}"
            if case.cache:
                return f"a full cache ends the command: {ended.line}"
        return self._problem_later(case, ended, run)

    def _problem_later(self, case: Case, ended: Ended, run: Callable[[], Ended]) -> str:
        """What is wrong with what was there before, or with the next run, for which there is room."""
        for name, source in case.before:
            if source == "i" and (found := self._faults(self.disk.place / name)):
                return f"the index has a fault: {found}"
        self.disk.resize(250 * MEGABYTE)
        if ended.status and (again := self._again(case, run)).status:
            return f"the next run fails: {again.line}"
        left = [
            str(path)
            for path in self.disk.place.rglob(".*")
            if path.name not in (".lock", ".committed") and path.is_file()
        ]
        return f"left over: {left}" if left and ended.status else ""

    def _again(self, case: Case, run: Callable[[], Ended]) -> Ended:
        """The same command, with --resume if a training says so."""
        again = run()
        if again.status == 2 and "--resume" in again.line:
            environment = {name: value.format(**self.names) for name, value in case.environment}
            again = self.small.run(f"{case.line} --resume", environment=environment, **self.names).wait()
        return again

    def _faults(self, index: Path) -> str:
        ended = self.small.run("index {x} --verify", x=index).wait()
        return "" if ended.status == 0 else ended.out + ended.line


def _peak(disk: Disk, run: Callable[[], Ended]) -> int:
    """The most bytes on the disk while a command runs."""
    import threading

    most, done = [disk.used()], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], disk.used())

    watcher = threading.Thread(target=watch)
    watcher.start()
    ended = run()
    done.set()
    watcher.join()
    assert ended.status == 0, ended.err
    return max(most[0], disk.used())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="sizes of the disk for each command")
    parser.add_argument("--only", default="", help="only commands that contain this text")
    options = parser.parse_args()
    if os.getuid() != 0:
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    load_libraries()
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder, ExitStack() as stack:
        disk = Disk(Path(folder) / "disk")
        stack.callback(disk.unmount)
        bench = Bench(Small(Path(folder) / "base"), disk, options.steps)
        runs = full = faults = 0
        print(f"{'command':72s} {'needs':>10s} {'disks':>5s} {'full':>4s} {'faults':>6s}")
        for case in CASES:
            if options.only not in case.line:
                continue
            found, wrong, needs = bench.check(case)
            runs, full, faults = runs + options.steps, full + found, faults + wrong
            print(f"{case.line:72s} {needs:>10s} {options.steps:5d} {found:4d} {wrong:6d}", flush=True)
            print(*(f"  {line}" for line in bench.wrong[-wrong:] if wrong), sep="\n", flush=True)
        print(*(f"{count:4d}  {line}" for line, count in bench.lines.most_common()), sep="\n")
        print(f"{runs} runs, {full} full disks, {faults} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
