"""What is finished, and the items of a finished job."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import DataError, StoreError
from spq.index.item_table import items_of, schema
from spq.model.model import Model
from spq.scale.finished import finished, finished_tables, status
from spq.scale.job import Job
from spq.scale.run_job import RunOptions, begin, run


@pytest.fixture
def job(photos: Path, tiny_model: Model, tmp_path: Path) -> Job:
    """A finished job of three input shards; one picture is broken."""
    (photos / "bag" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    job = begin(Source((str(photos),)), tiny_model, str(tmp_path / "job"), 25)
    run(job, RunOptions(workers=1))
    return job


def files(job: Job) -> list[Path]:
    return sorted((Path(job.url) / "items").iterdir())


def test_a_finished_job_gives_every_picture_once_and_in_order(job: Job) -> None:
    tables = list(finished_tables(job.url))
    assert [item.path for table in tables for item in items_of(table)] == open_images(job.source).ids
    assert all(table.schema.equals(schema(8), check_metadata=True) for table in tables)
    assert finished(job) == {number: file.name for number, file in enumerate(files(job))}


def test_an_unfinished_job_is_refused(job: Job) -> None:
    files(job)[1].unlink()
    with pytest.raises(DataError, match="is not finished: 2 of 3 input shards are, 1 is not; run it to its end first"):
        next(finished_tables(job.url))
    with pytest.raises(StoreError, match="no encoding job at"):
        next(finished_tables(job.url + "-not"))


def test_a_damaged_file_is_named(job: Job) -> None:
    file = files(job)[2]
    data = file.read_bytes()
    file.write_bytes(data[:-9] + b"x" + data[-8:])
    with pytest.raises(DataError, match=f"{file.name} is damaged: its content does not match its name; delete it, and"):
        list(finished_tables(job.url))


def test_a_file_of_another_job_or_shard_is_named(job: Job) -> None:
    first, second, _ = files(job)
    astray = second.with_name("00001" + first.name[5:])
    second.unlink()
    astray.write_bytes(first.read_bytes())
    with pytest.raises(DataError, match=f"{astray.name} is not of this job; delete it"):
        list(finished_tables(job.url))


def test_two_files_of_one_shard_are_named_both(job: Job) -> None:
    other = Path(job.url) / "items" / "00001-0123456789abcdef.parquet"
    other.write_bytes(b"?")
    names = sorted(file.name for file in files(job) if file.name.startswith("00001"))
    with pytest.raises(DataError, match=rf"shard 1 different codes: .*{names[0]} and {names[1]}; .*delete one"):
        finished(job)
    other.rename(other.with_name("00007-0123456789abcdef.parquet"))  # a number that the job does not have
    assert len(finished(job)) == 3


def test_the_status_counts_pictures_and_tells_rate_and_time_left(job: Job) -> None:
    first, second, third = files(job)
    third.unlink()
    for file, seconds in ((first, 1000), (second, 1010)):
        os.utime(file, (seconds, seconds))
    state = status(job.url)
    assert (state.done, state.shards, state.pictures, state.total) == (2, 3, 50, 61)
    assert [path for path, _ in state.failed] == ["bag/broken.jpg"]
    assert "broken.jpg" in state.failed[0][1]
    assert state.rate == pytest.approx(2.5)
    assert state.seconds_left == pytest.approx(11 / 2.5)
    second.unlink()
    assert status(job.url).seconds_left is None
    run(job, RunOptions(workers=1))
    assert (status(job.url).done, status(job.url).seconds_left) == (3, 0)
