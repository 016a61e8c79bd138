"""Commands of spq as processes that start at once: a parent that has loaded all libraries forks each of them.

What a command writes is made in `Small`: a few pictures, a tiny model and an index of them.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHONPATH"] = str(TESTS.parent / "src")  # of processes that are started

LIBRARIES = (
    "spq.api", "spq.index.image_index", "spq.index.backup", "spq.index.export", "spq.training.train", "spq.web.site.site",
    "spq.dupes.find", "spq.model.onnx", "spq.evaluation.evaluate", "faiss", "onnx", "pyarrow.parquet", "matplotlib.figure",
    "spq.cli.reports.contact_sheet", "spq.cli.reports.dupes_report", "spq.cli.reports.codebook_page", "filelock",
)  # fmt: skip


def load_libraries() -> None:
    """Load what commands need, once, before the first fork."""
    import importlib

    for name in LIBRARIES:
        importlib.import_module(name)


@dataclass
class Ended:
    """A command that has ended: its exit status (negative: the signal), what it printed, and its seconds."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def line(self) -> str:
        """Its last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


class Running:
    """A command in a process of its own."""

    def __init__(self, arguments: list[str], log: Path, cwd: Path, environment: dict[str, str] | None = None) -> None:
        self.log, self.start = log, time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._run(arguments, cwd, environment or {})

    def _run(self, arguments: list[str], cwd: Path, environment: dict[str, str]) -> None:
        from spq.cli import main as cli

        status, begun = 99, False
        try:
            for number, name in ((1, "out"), (2, "err")):
                handle = os.open(self.log / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(handle, number)
                os.close(handle)
            os.chdir(cwd)
            os.environ.update(environment)
            begun = True
            status = cli.run_stoppable(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            if begun or not isinstance(error, KeyboardInterrupt):  # else it came before the command
                traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        _, status = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self.start
        return Ended(os.waitstatus_to_exitcode(status), self._text("out"), self._text("err"), seconds)

    def _text(self, name: str) -> str:
        file = self.log / name
        return file.read_text("utf-8", "replace") if file.exists() else ""


class Small:
    """A folder `base` with `photos`, a model `m` and an index `i` of them, and a place for commands to work in."""

    def __init__(self, base: Path, pictures: int = 60) -> None:
        from conftest import write_photos
        from models import tiny
        from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe
        from spq.index.image_index import ImageIndex

        self.base, self.log = base, base / "log"
        self.log.mkdir(parents=True)
        os.environ["SPQ_CACHE"] = str(base / "cache")
        write_photos(base / "photos")
        for path in sorted((base / "photos").rglob("*.*"))[pictures:]:
            path.unlink()
        recipe = Recipe(
            name="tiny", input=InputConfig(size=28),
            backbone=BackboneConfig(blocks=(1, 1), width=8, stem_stride=2),
            quantizer=QuantizerConfig(num_codebooks=8, codeword_dim=4),
        )  # fmt: skip
        self.model = tiny(recipe, 16, 8, "sqeuclidean")
        self.model.save(base / "m")
        tiny(recipe, 16, 4).save(base / "other")
        ImageIndex.build(base / "i", self.model, base / "photos").close()
        (base / "tiny.toml").write_text(
            "[input]\nsize = 28\n[backbone]\nblocks = [1]\nwidth = 8\nstem_stride = 2\n"
            "[quantizer]\nnum_codebooks = 4\ncodeword_dim = 4\n[train]\nbatch_size = 16\nepochs = 3\n"
            "checkpoint_minutes = 0.0001\n"
        )

    def run(
        self, line: str, cwd: Path | None = None, environment: dict[str, str] | None = None, **names: Path
    ) -> Running:
        """Start a command line, in which {photos}, {m}, {other}, {i}, {tiny} and `names` are replaced by paths."""
        given = {"photos": self.base / "photos", "m": self.base / "m", "other": self.base / "other", "i": self.base / "i",
                 "tiny": self.base / "tiny.toml", **names}  # fmt: skip
        return Running([part.format(**given) for part in line.split()], self.log, cwd or self.base, environment)
