"""Begin an encoding job, or continue it, and finish its input shards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spq.common.parallel import cores
from spq.data.decode import pixel_limit
from spq.data.open import open_images
from spq.errors import ConfigError, DataError, SPQError
from spq.scale.encode_shard import ITEMS, finish_shard
from spq.scale.finished import finished
from spq.scale.inputs import Input, PictureRange, count_of, opened
from spq.scale.job import (
    FILE,
    Job,
    check_inputs,
    check_model,
    check_portable,
    check_precision,
    open_job,
    put_model,
    read_job,
    versions,
)
from spq.scale.on_ray import RayOptions, on_ray
from spq.scale.plan import plan
from spq.scale.urls import IN_ONE_PROCESS, Place, is_url, remove_parts
from spq.scale.worker_processes import AT_ONCE, Done, Failed, Outcomes, Work, in_processes, in_this_process

if TYPE_CHECKING:
    from spq.data.source import Source
    from spq.model.model import Model, Precision

SHARD_SIZE = 2048  # pictures
MOST_FAILED = 10  # input shards; more have a common reason
Progress = Callable[[str, int, int, int], None]


@dataclass(frozen=True)
class RunOptions:
    """How a job runs. Nothing of this changes the bytes of its files.

    Attributes:
        workers: processes, or cores of a Ray cluster that is started; by default one for each core.
        threads: of each process; by default the cores that each has, or 1 of a Ray cluster.
        part: (i, n): only every n-th input shard, from the i-th on; the first is 1.
        ray: address of a Ray cluster that is used instead of processes.
    """

    workers: int | None = None
    threads: int | None = None
    part: tuple[int, int] = (1, 1)
    ray: str | None = None


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        encoded, pictures, unreadable: input shards that this run has finished, and pictures in them.
        done, shards: input shards of the job that are finished now, and all.
    """

    url: str
    encoded: int = 0
    pictures: int = 0
    unreadable: int = 0
    done: int = 0
    shards: int = 0


def begin(
    source: Source,
    model: Model | None,
    out: str,
    shard_size: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
) -> Job:
    """Write the file of a new job. If there is a job, check that it is the same one.

    Raises:
        ConfigError: the job at `out` has other pictures or other options. ModelMismatchError: it has another model.
        DataError: there are no pictures.
    """
    place = Place(out)
    job = read_job(place)
    if job is None and model is None:
        raise ConfigError(f"no encoding job at {out}; give a `model` to begin one")
    if model:
        check_portable(model)
    if job:
        check_model(job, model.hash if model else job.model)
        if job.source != source and any(map(is_url, source.names)):
            check_inputs(job, source, [])  # before lists are written
    size = shard_size or (job.shard_size if job else SHARD_SIZE)
    source, inputs = plan(source, size, place)
    if job is None:
        assert model
        decided = _precision(source, inputs, model, place) if precision == "auto" else precision
        M, device = model.config.quantizer.num_codebooks, model.device.type
        job = Job(place.url, model.hash, M, decided, device, pixel_limit(), size, versions(), source, inputs)
        put_model(place, model)
        if place.put(FILE, job.to_bytes()):
            return job
        job = open_job(out)  # another process was quicker
        check_model(job, model.hash)
    check_precision(job, precision)
    check_inputs(job, source, inputs)
    return job


def _precision(source: Source, inputs: list[Input], model: Model, place: Place) -> Precision:
    """Decide as `spq index` does, by the pictures of the first input shard."""
    from spq.index.encode import CHECKED, Encoder
    from spq.model.device import resolve_precision

    if resolve_precision("auto", model.device.type) == "fp32":
        return "fp32"
    collection = open_images(source, known=()) if isinstance(inputs[0], PictureRange) else None
    count = sum(8 * CHECKED if (n := count_of(given)) is None else n for given in inputs)
    with opened(inputs[0], place, collection) as (images, positions, _):
        return Encoder(images, model, lambda _: None).decide_precision(positions, count)


def run(job: Job, options: RunOptions | None = None, progress: Progress | None = None) -> RunReport:
    """Finish the input shards of a job that are not finished yet.

    Raises:
        ConfigError: an option does not fit. DataError: input shards failed; all others are finished.
    """
    options = options or RunOptions()
    place, (part, parts) = Place(job.url), options.part
    if not 1 <= part <= parts:
        raise ConfigError(f"`part` {part}/{parts} is none; give 1/{parts} to {parts}/{parts}")
    if place.is_local:
        for folder in ("", ITEMS, "inputs", f"model-{job.model}"):
            remove_parts(Path(place.root) / folder)
    mine = range(part - 1, len(job.inputs), parts)
    there = finished(job)
    numbers = [number for number in mine if number not in there]
    threads, outcomes = _outcomes(job, place, numbers, options)
    work = partial(finish_shard, job.url, job.checksum, threads)
    report = RunReport(job.url, shards=len(job.inputs))
    counter = _Counter(job, [n for n in mine if n in there], list(mine), progress)
    failed = _collect(outcomes(work), report, counter)
    report.done = len(finished(job))
    if failed:
        more = f"{len(failed)} input shards failed" if len(failed) > 1 else "an input shard failed"
        raise DataError(
            f"{more}, first number {failed[0].number}: {failed[0].error}; "
            f"{report.done:,} of {report.shards:,} are finished: run the same command to try again"
        )
    return report


def _outcomes(
    job: Job, place: Place, numbers: list[int], options: RunOptions
) -> tuple[int, Callable[[Work], Outcomes]]:
    """Threads of each worker, and a function that lets the workers work."""
    if not numbers:
        return 1, lambda work: in_this_process(work, numbers)
    workers = min(options.workers or cores(), len(numbers))
    if options.ray:
        cluster = RayOptions(options.ray, options.workers, options.threads or 1, gpu=job.device == "cuda")
        return cluster.threads, lambda work: on_ray(work, numbers, cluster)
    if workers > 1 and not place.is_shared:
        if options.workers:
            raise ConfigError(f"{place.url}: other processes do not see {IN_ONE_PROCESS[0]}://; set `workers` to 1")
        workers = 1
    threads = options.threads or max(1, cores() // workers)
    if workers == 1:
        return threads, lambda work: in_this_process(work, numbers)
    return threads, lambda work: in_processes(work, numbers, workers)


def _collect(outcomes: Outcomes, report: RunReport, counter: _Counter) -> list[Failed]:
    """Count the outcomes; return those that failed."""
    failed: list[Failed] = []
    with closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Done):
                report.encoded += 1
                report.pictures += outcome.pictures
                report.unreadable += outcome.unreadable
                counter.add(outcome, report.unreadable)
            elif isinstance(outcome.error, AT_ONCE) or not isinstance(outcome.error, (SPQError, OSError, MemoryError)):
                raise outcome.error
            else:
                failed.append(outcome)
                if len(failed) == MOST_FAILED:
                    break
    return failed


class _Counter:
    """Reports progress: in pictures if all are known before, else in input shards."""

    def __init__(self, job: Job, there: list[int], mine: list[int], progress: Progress | None) -> None:
        self.progress = progress
        self.job, self.are_known = job, job.pictures is not None
        self.what = "encoding" if self.are_known else "encoding input shards"
        self.total = sum(map(self._count, mine))
        self.done = sum(map(self._count, there))
        self._report(0)

    def _count(self, number: int) -> int:
        return (count_of(self.job.inputs[number]) or 0) if self.are_known else 1

    def add(self, done: Done, unreadable: int) -> None:
        self.done += self._count(done.number)
        self._report(unreadable)

    def _report(self, unreadable: int) -> None:
        if self.progress:
            self.progress(self.what, self.done, self.total, unreadable)
