"""Kill -9 an encoding job at random moments: its driver, its workers, and the processes of a Ray node.

    python tests/faults/encode.py [--count 20] [--seed 0] [--pictures 20000] [--shards 40] [--data SET] [--s3] [--ray]

The pictures are drawn from a named set, each with other bytes. Without --s3 they are files in a folder, and the job is in
another. With it, both are in a bucket of a server like S3 (moto's, in a process of its own), where the pictures are in tars, one
for each input shard. With --ray, the workers are tasks of a Ray cluster on this machine.

First the job runs without a fault. Then jobs of the same pictures are killed, `--count` times in all, and started again until
they are finished. A job is wrong if

- a picture is missing or there twice, or a file has other bytes than that of the undisturbed job;
- an input shard was encoded again after it was finished, by the log that each worker writes;
- a driver hangs, or does not finish the job when nobody kills it;
- workers outlive their driver.

The last line sums it up. Exit status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]

HANG, LEFT = 300.0, 30.0  # seconds until a driver hangs; until workers of a dead driver have to be gone
WORKERS = ("spawn_main", "ray::attempt", "ray::IDLE")  # processes that encode
STARTS = 5  # of a driver that nobody kills, until the job counts as one that does not finish
NODE = ("raylet/raylet", "gcs_server")  # processes of a Ray node


def logged(log: str, url: str, checksum: str, threads: int, number: int) -> Any:
    """Finish an input shard, and write a line before and after it."""
    from spq.scale.encode_shard import finish_shard

    _write_line(log, f"begin {number}")
    done = finish_shard(url, checksum, threads, number)
    _write_line(log, f"end {number}")
    return done


def _write_line(log: str, line: str) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def drive(log: str, arguments: list[str]) -> int:
    """Run a command of spq whose workers write the log."""
    from spq.cli import main as cli
    from spq.scale import run_job

    run_job.finish_shard = partial(logged, log)  # type: ignore[assignment]
    return cli.run_stoppable(arguments)


def encoded_again(log: Path) -> list[int]:
    """The input shards that were begun after they were finished."""
    finished, again = set[str](), []
    for line in log.read_text("utf-8").splitlines():
        what, number = line.split()
        if what == "end":
            finished.add(number)
        elif number in finished:
            again.append(int(number))
    return again


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process has started, and theirs, with their command lines."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = int((entry / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, waiting = dict[int, str](), [pid]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            waiting.append(child)
            with suppress(OSError):
                found[child] = (Path("/proc") / str(child) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@dataclass
class Bench:
    """A source, and the jobs that are killed.

    Attributes:
        make: url of a job -> arguments of the command. read: url of a job -> file name -> bytes.
    """

    folder: Path
    rng: random.Random
    begin: Callable[[str], list[str]]
    place: str
    environment: dict[str, str]
    ray: bool
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def start(self, url: str, log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--drive", str(log), *self.begin(url)]
        with (self.folder / "err").open("ab") as err:
            return subprocess.Popen(command, env=os.environ | self.environment, stdout=err, stderr=err)

    def contents(self, url: str) -> dict[str, bytes]:
        from spq.scale.urls import Place

        place = Place(url)
        return {name: place.read(f"items/{name}") for name in place.list("items")}

    def undisturbed(self) -> dict[str, bytes]:
        url, begun = f"{self.place}/undisturbed", time.monotonic()
        assert self.start(url, self.folder / "log").wait(10 * HANG) == 0, self.last_line()
        self.seconds = time.monotonic() - begun
        return self.contents(url)

    def last_line(self) -> str:
        return ((self.folder / "err").read_text("utf-8", "replace").strip().splitlines() or [""])[-1]

    def attack(self, name: str, most: int, expected: dict[str, bytes]) -> int:
        """Kill a new job until it is finished, or `most` times; returns how often it was killed."""
        url, log, kills = f"{self.place}/{name}", self.folder / f"{name}.log", 0
        log.touch()
        driver = self.start(url, log)
        while kills < most:
            with suppress(subprocess.TimeoutExpired):
                driver.wait(self.rng.uniform(0, self.seconds / 2))
            if driver.poll() == 0:
                break
            kills += self.kill_one(driver)
            if driver.poll() is not None:
                driver = self.start(url, log)
        try:
            for _ in range(STARTS):  # a node that was killed last ends the driver later; a new one may start too slowly
                if driver.wait(HANG) == 0:
                    break
                self.counts["drivers that ended with a line"] += 1
                driver = self.start(url, log)
            else:
                self._end(driver)
                self.wrong.append(f"{name}: the driver does not finish: {self.last_line()}")
        except subprocess.TimeoutExpired:
            self.wrong.append(f"{name}: the driver hangs")
            self._end(driver)
        self.compare(name, url, log, expected)
        return kills

    def kill_one(self, driver: subprocess.Popen[bytes]) -> int:
        """Kill the driver, a worker, or a process of its Ray node; returns 1, or 0 if there was no such process."""
        kind = self.rng.choice(("driver", "worker", "node") if self.ray else ("driver", "worker"))
        below = descendants(driver.pid)
        if kind == "driver":
            pids = [driver.pid]
        elif kind == "node":
            pids = [pid for pid, line in below.items() if any(part in line for part in NODE)]
        else:
            pids = [pid for pid, line in below.items() if any(part in line for part in WORKERS)]
        if not pids:
            return 0
        with suppress(ProcessLookupError):
            os.kill(self.rng.choice(pids), signal.SIGKILL)
            self.counts[kind] += 1
        if kind == "node":
            with suppress(subprocess.TimeoutExpired):
                driver.wait(HANG / 2)
            if driver.poll() is None:
                self.counts["drivers that outlived their node"] += 1
                self._end(driver)
        if kind == "driver":
            driver.wait()
            self._wait_for_end(below)
        return 1

    def _end(self, driver: subprocess.Popen[bytes]) -> None:
        below = descendants(driver.pid)
        driver.kill()
        driver.wait()
        self._wait_for_end(below)

    def _wait_for_end(self, below: dict[int, str]) -> None:
        """Wait for the end of the workers of a dead driver. Ray's own processes that outlive it are counted, and killed."""
        end = time.monotonic() + LEFT
        while alive := [pid for pid, line in below.items() if _runs(pid, line)]:
            if time.monotonic() > end:
                workers = [below[pid][:80] for pid in alive if any(part in below[pid] for part in WORKERS)]
                self.wrong += [f"outlives its driver: {line}" for line in workers]
                self.counts["processes of Ray that outlived their driver"] += len(alive) - len(workers)
                for pid in alive:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.05)

    def compare(self, name: str, url: str, log: Path, expected: dict[str, bytes]) -> None:
        found = self.contents(url)
        if found != expected:
            differ = {key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)}
            self.wrong.append(f"{name}: {len(differ)} files differ, first {min(differ)}")
        if again := encoded_again(log):
            self.wrong.append(f"{name}: input shards {again} were encoded after they were finished")
        lines = log.read_text("utf-8").splitlines()
        self.counts["input shards begun"] += sum(line.startswith("begin") for line in lines)
        self.counts["jobs"] += 1


def _runs(pid: int, line: str) -> bool:
    """Whether a process still runs; one that only waits for its parent does not."""
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text("utf-8").rpartition(")")[2].split()[0]
        return state != "Z" and (Path("/proc") / str(pid) / "cmdline").read_bytes() != b"" and bool(line)
    except OSError:
        return False


def pictures(data: str, count: int) -> list[bytes]:
    """Real pictures as PNG, each with other bytes at its end."""
    from spq.data.open import open_images

    images, files = open_images(data), list[bytes]()
    for n in range(min(count, len(images))):
        sink = io.BytesIO()
        images.image(n).save(sink, "PNG", compress_level=1)
        files.append(sink.getvalue())
    return [files[n % len(files)] + str(n).encode() for n in range(count)]


def write_folder(folder: Path, files: list[bytes]) -> list[str]:
    """Write a folder of pictures, some of which are broken."""
    for n, data in enumerate(files):
        place = folder / f"{n // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n:06d}.png").write_bytes(data if n % 997 else data[:40])
    return [str(folder)]


def write_tars(url: str, files: list[bytes], shards: int) -> list[str]:
    """Write tars of pictures to a URL."""
    from spq.scale.urls import Place

    place, size = Place(url), -(-len(files) // shards)
    for number in range(shards):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for n in range(number * size, min((number + 1) * size, len(files))):
                member = tarfile.TarInfo(f"{n:06d}.png")
                data = files[n] if n % 997 else files[n][:40]
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        place.put(f"{number:05d}.tar", sink.getvalue())
    return [f"{url}/*.tar"]


def check_pictures(url: str, count: int) -> str:
    """What is wrong with a finished job: pictures that are missing or twice."""
    from spq.index.item_table import items_of
    from spq.scale.finished import finished_tables

    items = [item for table in finished_tables(url) for item in items_of(table)]
    names, hashes = {item.path for item in items}, {item.hash for item in items if item.code is not None}
    unreadable = sum(item.code is None for item in items)
    is_right = len(items) == len(names) == count == len(hashes) + unreadable and unreadable == -(-count // 997)
    return "" if is_right else f"{len(items)} items, {len(names)} names, {len(hashes)} codes, {unreadable} unreadable"


def prepare(options: argparse.Namespace, folder: Path, stack: ExitStack) -> Bench:
    from models import tiny
    from object_store import BUCKET, s3_server
    from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe

    recipe = Recipe(
        name="tiny",
        input=InputConfig(size=28),
        backbone=BackboneConfig(blocks=(1, 1), width=options.width, stem_stride=2),
        quantizer=QuantizerConfig(num_codebooks=8, codeword_dim=4),
    )
    tiny(recipe, 16, 8).save(folder / "model")
    files = pictures(options.data, options.pictures)
    environment: dict[str, str] = {}
    if options.s3:
        environment = stack.enter_context(s3_server(folder / "server"))
        os.environ.update(environment)
        place = f"s3://{BUCKET}"
        source = write_tars(f"{place}/pictures", files, options.shards)
    else:
        place, source = str(folder), write_folder(folder / "photos", files)
    size = str(-(-options.pictures // options.shards))
    how = ["--ray", "local", "--workers", "2"] if options.ray else ["--workers", "2"]

    def begin(url: str) -> list[str]:
        return ["encode", *source, "--model", str(folder / "model"), "--out", url, "--shard-size", size, *how]

    return Bench(folder, random.Random(options.seed), begin, place, environment, options.ray)


def main() -> None:
    if sys.argv[1:2] == ["--drive"]:
        sys.exit(drive(sys.argv[2], sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--width", type=int, default=8, help="of the network; a wider one takes longer")
    parser.add_argument("--data", default="sample:train", help="a named set or a folder")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONPATH"] = str(TESTS.parent / "src")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="encode-")))
        bench = prepare(options, folder, stack)
        expected, kills, number = bench.undisturbed(), 0, 0
        print(f"undisturbed: {bench.seconds:.1f} s, {len(expected)} files", file=sys.stderr, flush=True)
        if fault := check_pictures(f"{bench.place}/undisturbed", options.pictures):
            bench.wrong.append(f"undisturbed: {fault}")
        while kills < options.count and number < 4 * options.count:
            kills += bench.attack(f"job-{number}", options.count - kills, expected)
            number += 1
            print(f"job {number}: {kills} kills", file=sys.stderr, flush=True)
        print(*bench.wrong, sep="\n", end="\n" * bool(bench.wrong))
        facts = ", ".join(f"{count} {kind}" for kind, count in bench.counts.items())
        print(f"{kills} kills ({facts}), {len(expected)} files a job, {len(bench.wrong)} wrong")
        if bench.wrong and not options.s3:
            shutil.copy(folder / "err", Path(tempfile.gettempdir()) / "encode-err")
    sys.exit(bool(bench.wrong))


if __name__ == "__main__":
    main()
