"""Which input shards are finished, known from the names of the files alone; and the items in them."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spq.errors import DataError
from spq.index.item_table import items_of, schema
from spq.scale.encode_shard import FACTS, ITEMS
from spq.scale.inputs import facts_of
from spq.scale.job import Job, open_job
from spq.scale.urls import Place

if TYPE_CHECKING:
    import pyarrow as pa

READERS = 16  # files that are read at the same time for a status
RECENT = 50  # files whose times tell the rate
_NAME = re.compile(r"(\d{5,})-([0-9a-f]{16})\.parquet")


@dataclass
class JobStatus:
    """How far a job is.

    Attributes:
        done, shards: input shards that are finished, and all.
        pictures: in finished shards. total: of all shards, or None if that is not known before the files are opened.
        failed: (path, reason) of unreadable pictures.
        rate: pictures a second, by the times of the last files; 0 if there are less than two.
        seconds_left: at that rate; None if it is not known.
    """

    url: str
    done: int
    shards: int
    pictures: int = 0
    total: int | None = None
    failed: list[tuple[str, str]] = field(default_factory=list)
    rate: float = 0.0
    seconds_left: float | None = None


def finished(job: Job) -> dict[int, str]:
    """The file of each finished input shard, by its number.

    Raises:
        DataError: two workers have written different files for one shard.
    """
    return {number: name for number, (name, _) in _listed(job).items()}


def _listed(job: Job) -> dict[int, tuple[str, dict[str, Any]]]:
    found: dict[int, tuple[str, dict[str, Any]]] = {}
    for name, info in sorted(Place(job.url).list(ITEMS).items()):
        if not (match := _NAME.fullmatch(name)) or int(match[1]) >= len(job.inputs):
            continue
        number = int(match[1])
        if number in found:
            raise DataError(
                f"two workers gave input shard {number} different codes: {job.url}/{ITEMS}/{found[number][0]} and {name}; "
                "their processors may round differently: delete one of the two files"
            )
        found[number] = name, info
    return dict(sorted(found.items()))


def finished_tables(url: str) -> Iterator[pa.Table]:
    """Yield the items of a finished job, one table for each input shard, in their order. Ids are 0.

    Raises:
        StoreError: there is no job. DataError: it is not finished, or a file is damaged.
    """
    job = open_job(url)
    names, place = finished(job), Place(url)
    missing = next((number for number in range(len(job.inputs)) if number not in names), None)
    if missing is not None:
        raise DataError(
            f"the job at {url} is not finished: {len(names):,} of {len(job.inputs):,} input shards are, "
            f"{missing} is not; run it to its end first"
        )
    for number, name in names.items():
        yield _read(job, place, number, name)


def _read(job: Job, place: Place, number: int, name: str) -> pa.Table:
    import pyarrow.parquet as pq

    where = f"{place.url}/{ITEMS}/{name}"
    remedy = "delete it, and run the job again"
    try:
        data = place.read(f"{ITEMS}/{name}")
    except FileNotFoundError:
        raise DataError(f"{where} has vanished; run the job again") from None
    if hashlib.sha256(data).hexdigest()[:16] != _hash_in(name):
        raise DataError(f"{where} is damaged: its content does not match its name; {remedy}")
    table = pq.read_table(io.BytesIO(data))
    facts = json.loads((table.schema.metadata or {}).get(FACTS, b"{}"))
    if facts != {"job": job.checksum, "shard": number} or not table.schema.equals(schema(job.num_codebooks)):
        raise DataError(f"{where} is not of this job; {remedy}")
    return table.replace_schema_metadata()


def _hash_in(name: str) -> str:
    match = _NAME.fullmatch(name)
    assert match
    return match[2]


def status(url: str) -> JobStatus:
    """How far the job at a URL is, also while others work on it.

    Raises:
        StoreError: there is no job. DataError: a file is damaged.
    """
    job = open_job(url)
    files, place = _listed(job), Place(url)
    state = JobStatus(job.url, len(files), len(job.inputs), total=job.pictures)
    counts: dict[int, int] = {}
    with ThreadPoolExecutor(READERS) as pool:
        for number, (count, failed) in pool.map(lambda n: (n, _facts(job, place, n, files[n][0])), files):
            counts[number] = count
            state.failed += failed
    state.pictures = sum(counts.values())
    times = sorted((facts_of(info)[2] / 1e9, counts[number]) for number, (_, info) in files.items())[-RECENT:]
    seconds = times[-1][0] - times[0][0] if times else 0
    state.rate = sum(count for _, count in times[1:]) / seconds if seconds > 0 else 0.0
    if state.done == state.shards:
        state.seconds_left = 0.0
    elif state.rate:
        mean = state.pictures / state.done
        left = state.total - state.pictures if state.total is not None else mean * (state.shards - state.done)
        state.seconds_left = left / state.rate
    return state


def _facts(job: Job, place: Place, number: int, name: str) -> tuple[int, list[tuple[str, str]]]:
    """How many pictures a file has, and (path, reason) of the unreadable ones."""
    table = _read(job, place, number, name)
    unreadable = table.filter(table.column("code").is_null())
    return len(table), [(item.path, item.reason) for item in items_of(unreadable)]
