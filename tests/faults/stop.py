"""Send Ctrl-C and SIGTERM to each command at many moments: while libraries load, while it works, and while it ends.

    python tests/faults/stop.py [--moments 12] [--only train] [--seed 0]

Each command runs once to its end, which measures its time. Then it gets a signal at `--moments` random moments of that time,
once in a process that has to load its libraries first, once in one that has them; and two signals shortly after each
other. While Python itself starts, nothing can be said; such runs are counted apart. Each
other run has to end with one line that says that it was stopped and how to go on, exit status 130 (143 after SIGTERM), or as
if nothing had happened; what was there before must be intact, and the same command must succeed afterwards.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from forked import Ended, Small, load_libraries

COMMANDS = [
    "index {photos} --model {m} --out {t}/x",
    "index {t}/i --compact",
    "index {t}/i --verify",
    "index {t}/i --model {other}",
    "index {i} --backup {t}/b",
    "index --restore {backup} --out {t}/r",
    "train {photos} --recipe {tiny} --out {t}/t",
    "train {photos} --start {m} --frozen --epochs 2 --out {t}/t",
    "search {i} --id 1 --html {t}/a.html",
    "search {i} {photo}",
    "dupes {photos} --csv {t}/a.csv",
    "eval {m} --gallery {photos} --queries sample:test",
    "info {i} --html {t}/a.html",
    "export {i} --to codes --out {t}/a.npz",
    "export {i} --to faiss --out {t}/a.faiss",
    "export {i} --to vectors --out {t}/vectors",
    "export {i} --to lance --out {t}/lance",
    "export {m} --to onnx --out {t}/a.onnx",
    "export {i} --to web --out {t}/site",
    "serve {i} --port 0 --cache {t}/cache",
    "doctor",
    "weights",
    "bench",
    "bench views",
]  # fmt: skip


@dataclass
class Signals:
    """What is sent: signals, and the seconds between them."""

    name: str
    numbers: tuple[int, ...]
    pause: float = 0.0


KINDS = [
    Signals("Ctrl-C", (signal.SIGINT,)),
    Signals("SIGTERM", (signal.SIGTERM,)),
    Signals("twice", (signal.SIGINT, signal.SIGINT), 0.01),
]


class Fresh:
    """A command in a new interpreter, as a user starts it. It has the methods of `Running`."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.start = time.monotonic()
        with (log / "out").open("wb") as out, (log / "err").open("wb") as err:
            self.process = subprocess.Popen([sys.executable, "-m", "spq", *arguments], stdout=out, stderr=err)
        self.log = log

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> Ended:
        status = self.process.wait()
        out, err = ((self.log / name).read_text("utf-8", "replace") for name in ("out", "err"))
        return Ended(status, out, err, time.monotonic() - self.start)


def problem(ended: Ended, kind: Signals) -> str:
    """What is wrong with the end of a stopped command; empty if nothing is."""
    if ended.status != 0 and "spq: " not in ended.err and "/spq/cli/" not in ended.err:
        return ""  # Python itself was starting
    if "Traceback" in ended.err or "Exception ignored" in ended.err:
        return f"a traceback: {ended.err[-300:]!r}"
    if ended.status == 0:
        return ""
    expected = 143 if kind.numbers[0] == signal.SIGTERM else 130
    if ended.status != expected:
        return f"status {ended.status}: {ended.line!r}"
    lines = [line for line in ended.err.splitlines() if line.startswith("spq: ")]
    if len(lines) != 1 or not lines[0].startswith("spq: stopped"):
        return f"{len(lines)} lines: {ended.err[-300:]!r}"
    return ""


class Bench:
    """Runs commands, and counts how they end."""

    def __init__(self, small: Small, seed: int) -> None:
        self.small, self.rng = small, random.Random(seed)
        self.names = {"t": small.base / "t", "backup": small.base / "backup", "site": small.base / "site",
                      "photo": min((small.base / "photos").rglob("*.png"))}  # fmt: skip
        assert small.run("index {i} --backup {backup}", **self.names).wait().status == 0
        self.lines: Counter[str] = Counter()

    def _prepare(self) -> None:
        place = self.small.base / "t"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        shutil.copytree(self.small.base / "i", place / "i")

    def _start(self, line: str, fresh: bool):
        if not fresh:
            return self.small.run(line, **self.names)
        given = {"i": self.small.base / "i", "m": self.small.base / "m", "other": self.small.base / "other",
                 "photos": self.small.base / "photos", "tiny": self.small.base / "tiny.toml", **self.names}  # fmt: skip
        return Fresh([part.format(**given) for part in line.split()], self.small.log)

    def stopped(self, line: str, fresh: bool, kind: Signals, seconds: float) -> Ended:
        self._prepare()
        running = self._start(line, fresh)
        time.sleep(seconds)
        for number in kind.numbers:
            try:
                running.signal(number)
            except ProcessLookupError:
                break
            time.sleep(kind.pause)
        return running.wait()

    def check(self, line: str, fresh: bool, moments: int) -> tuple[int, list[str]]:
        """Returns how often the command was stopped, and what was wrong."""
        whole, stopped, wrong = self._whole(line, fresh), 0, []
        for n in range(moments):
            for kind in KINDS:
                seconds = self.rng.uniform(n, n + 1) / moments * whole
                ended = self.stopped(line, fresh, kind, seconds)
                stopped += ended.status != 0 and "spq: " in ended.err
                if found := problem(ended, kind) or (self._after(line) if n % 4 == 0 and not fresh else ""):
                    wrong.append(f"{line}, {kind.name} after {seconds:.3f} of {whole:.3f} s: {found}")
                if ended.status:
                    self.lines[ended.line.replace(str(self.small.base), "")] += 1
        return stopped, wrong

    def _whole(self, line: str, fresh: bool) -> float:
        """Seconds that the command takes; a server is stopped after three."""
        self._prepare()
        if line.startswith("serve"):
            return 3.0
        ended = self._start(line, fresh).wait()
        assert ended.status == 0, (line, ended.err)
        return ended.seconds

    def _after(self, line: str) -> str:
        """What is wrong with the next run of the same command."""
        if line.startswith(("serve", "bench")):
            return ""
        again = self.small.run(line, **self.names).wait()
        if again.status == 2 and ("--resume" in again.line or "exists" in again.line):
            if "--resume" not in again.line:
                return ""  # it had succeeded
            again = self.small.run(f"{line} --resume", **self.names).wait()
        if again.status and "holds a finished model" not in again.line:
            return f"the next run fails: {again.line}"
        if (index := self.small.base / "t" / "i").exists() and self.small.run(
            "index {x} --verify", x=index
        ).wait().status:
            return "the index has faults"
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=12, help="signals of each kind for each command")
    parser.add_argument("--fresh", type=int, default=4, help="the same, in processes that load their libraries")
    parser.add_argument("--only", default="", help="only commands that contain this text")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs this in the background ignores it
    load_libraries()
    with tempfile.TemporaryDirectory(prefix="stop-") as folder:
        bench = Bench(Small(Path(folder) / "base"), options.seed)
        total = wrong = 0
        for line in COMMANDS:
            if options.only not in line:
                continue
            for fresh, moments in ((False, options.moments), (True, options.fresh)):
                if not moments or (line.startswith("bench") and not fresh):
                    continue
                stopped, found = bench.check(line, fresh, moments)
                total, wrong = total + stopped, wrong + len(found)
                print(
                    f"{line:60s} {'loading' if fresh else 'loaded':8s} {stopped:3d} stopped, {len(found)} faults",
                    flush=True,
                )
                print(*(f"  {text}" for text in found), sep="\n", flush=True)
        print(*(f"{count:4d}  {line}" for line, count in bench.lines.most_common()), sep="\n")
        print(f"{total} stopped, {wrong} faults")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
