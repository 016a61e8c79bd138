"""`spq encode`: encode a collection into files of items, on one machine or on many."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spq.cli.describe import listed
from spq.cli.indexing import command
from spq.cli.options import AsJson, Device, Exclude, FollowLinks, Include, MaxPixels, ShorterBits, Threads
from spq.cli.output import note, show
from spq.cli.stopping import when_stopped
from spq.common.text import printable
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.data.source import Source
    from spq.scale.finished import JobStatus
    from spq.scale.job import Job
    from spq.scale.run_job import RunReport


def encode(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="As IMAGES of spq index, or URLs such as s3://bucket/photos and 's3://bucket/*.tar'. "
            "Without it, the job at --out continues.",
        ),
    ] = None,
    out: Annotated[str, typer.Option(help="Folder or URL of the job; its files are written there.")] = "",
    model: Annotated[Path | None, typer.Option(help="Model folder. A job that has begun has a copy.")] = None,
    exclude: Exclude = None,
    include: Include = None,
    follow_links: FollowLinks = None,
    bits: ShorterBits = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures of an input shard; a tar or Parquet URL is one. Default: 2,048.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16. auto: the first pictures decide.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for each core.")] = None,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Only every N-th input shard, from the I-th on, for a cluster.")
    ] = "1/1",
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use a Ray cluster; local starts one on this machine.")
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only say how far the job is; others may work on it.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    as_json: AsJson = False,
) -> None:
    """Encode pictures into Parquet files of items, shard by shard, on one machine or on many.

    The first run writes job.json, which decides all that the files depend on. Any number of processes and machines may work on
    a job. Run the same command again to continue it: shards that are finished are not encoded again.

    Example: spq encode photos/ --model photos.spq --out photos.job

    Example: spq encode --out photos.job --status
    """
    from spq.data.source import Source
    from spq.scale.urls import is_url

    if not out:
        raise ConfigError("give --out, the folder or URL of the job; see spq encode --help")
    if status:
        _show_status(out, as_json)
        return
    if not is_url(out):
        _check_out(Path(out))
    given = Source(tuple(source or ()), tuple(exclude or ()), tuple(include or ()), bool(follow_links))
    with when_stopped(lambda: f"finished input shards are kept, go on with: {command('spq', 'encode', '--out', out)}"):
        job = _job(given, out, (model, bits, device), shard_size, precision)
        _check_numbers(job, shard_size, max_pixels)
        report = _run(job, workers, _parsed(part), ray, threads)
    show(json.dumps(asdict(report)) if as_json else _report_text(report))


def _check_out(out: Path) -> None:
    """Refuse a local folder that holds other things than a job."""
    from spq.cli.checks import check_folder
    from spq.scale.job import FILE

    check_folder("--out", out)
    others = {entry.name for entry in out.iterdir()} if out.is_dir() else set[str]()
    foreign = [name for name in others if not re.fullmatch(r"\..*|job\.json|inputs|items|model-\w+", name)]
    if foreign and FILE not in others:
        raise ConfigError(f"--out {out} holds other files ({min(foreign)}); give a new folder")


def _parsed(part: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", part)
    if not match:
        raise ConfigError(f"--part {part} is no part; give for example 1/8 to 8/8")
    return int(match[1]), int(match[2])


def _job(
    given: Source, out: str, network: tuple[Path | None, int | None, str], shard_size: int | None, precision: str
) -> Job:
    """Begin the job or open it, and refuse options that are not those that it has begun with."""
    from spq.api import SPQ
    from spq.data.open import folders_of
    from spq.model.device import resolve_device
    from spq.scale import job as jobs
    from spq.scale.run_job import begin
    from spq.scale.urls import is_url

    folder, bits, device = network
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"--precision {precision} is unknown; give auto, fp32 or bf16")
    model = SPQ.load(folder, resolve_device(device)).truncate(bits) if folder else None
    if given.names:
        names = (found for name in given.names for found in ([name] if is_url(name) else folders_of(name)))
        job = begin(replace(given, names=tuple(names)), model, out, shard_size, precision)  # type: ignore[arg-type]
    else:
        job = jobs.open_job(out)
        if model:
            jobs.check_model(job, model.hash)
    jobs.check_precision(job, precision, device)
    return job


def _check_numbers(job: Job, shard_size: int | None, max_pixels: int | None) -> None:
    """Refuse numbers that are not those that the job has begun with."""
    if shard_size not in (None, job.shard_size):
        raise ConfigError(f"the job at {job.url} has input shards of {job.shard_size:,} pictures; omit --shard-size")
    if max_pixels not in (None, job.max_pixels):
        raise ConfigError(f"the job at {job.url} reads pictures of up to {job.max_pixels:,} pixels; omit --max-pixels")


def _run(job: Job, workers: int | None, part: tuple[int, int], ray: str | None, threads: int | None) -> RunReport:
    from spq.cli.progress import Stages
    from spq.common.parallel import cores
    from spq.scale.run_job import RunOptions, run

    each = threads if ray or not threads else max(1, threads // (workers or cores()))
    with Stages() as stages:
        return run(job, RunOptions(workers, each, part, ray), stages.stage)


def _show_status(out: str, as_json: bool) -> None:
    from spq.scale.finished import status

    state = status(out)
    if as_json:
        print(json.dumps(asdict(state)))
        return
    note(listed("unreadable", state.failed))
    show(_status_text(state))


def _status_text(state: JobStatus) -> str:
    from spq.cli.progress import duration

    of_all = f" of {state.total:,}" if state.total is not None else ""
    facts = [f"{state.pictures:,}{of_all} pictures", f"{len(state.failed):,} unreadable"]
    if state.done < state.shards:
        facts += [f"{state.rate:,.0f}/s"] * bool(state.rate)
        facts += [f"{duration(state.seconds_left)} left"] if state.seconds_left is not None else []
    return f"{printable(state.url)}: {state.done:,} of {state.shards:,} input shards, {', '.join(facts)}"


def _report_text(report: RunReport) -> str:
    done = f"{report.pictures:,} pictures in {report.encoded:,} input shards encoded, {report.unreadable:,} unreadable"
    return f"{printable(report.url)}: {done}; {report.done:,} of {report.shards:,} input shards are finished"
