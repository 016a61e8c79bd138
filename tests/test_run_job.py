"""Jobs from begin to end: by any executor the same bytes, also to and from a server like S3."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from object_store import BUCKET, s3_server
from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import ConfigError, DataError, StoreError
from spq.index.item_table import items_of
from spq.model.model import Model
from spq.scale import run_job
from spq.scale.finished import finished, finished_tables
from spq.scale.job import Job
from spq.scale.run_job import RunOptions, begin, run
from spq.scale.urls import Place
from spq.scale.worker_processes import Done, Failed


def job_at(out: object, photos: Path, model: Model) -> Job:
    return begin(Source((str(photos),)), model, str(out), 25)


def contents(job: Job) -> dict[str, bytes]:
    place = Place(job.url)
    return {name: place.read(f"items/{name}") for name in sorted(place.list("items"))}


@pytest.fixture
def expected(photos: Path, tiny_model: Model, tmp_path: Path) -> dict[str, bytes]:
    """The files of a job that ran in this process."""
    (photos / "bag" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    job = job_at(tmp_path / "expected", photos, tiny_model)
    report = run(job, RunOptions(workers=1))
    assert (report.encoded, report.pictures, report.unreadable, report.done, report.shards) == (3, 61, 1, 3, 3)
    return contents(job)


def test_two_processes_write_the_same_bytes(
    photos: Path, tiny_model: Model, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    job, seen = job_at(tmp_path / "job", photos, tiny_model), []
    run(job, RunOptions(workers=2), lambda *facts: seen.append(facts))
    assert contents(job) == expected
    assert seen[0] == ("encoding", 0, 61, 0)
    assert seen[-1] == ("encoding", 61, 61, 1)


def test_parts_write_the_same_bytes_and_each_its_own(
    photos: Path, tiny_model: Model, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    job = job_at(tmp_path / "job", photos, tiny_model)
    report = run(job, RunOptions(workers=1, part=(2, 2)))
    assert (list(finished(job)), report.encoded, report.done) == ([1], 1, 1)
    run(job, RunOptions(workers=1, part=(1, 2)))
    assert contents(job) == expected
    for part in ((0, 2), (3, 2)):
        with pytest.raises(ConfigError, match=rf"`part` {part[0]}/2 is none; give 1/2 to 2/2"):
            run(job, RunOptions(part=part))


def test_a_run_that_continues_encodes_what_is_missing_and_nothing_else(
    photos: Path, tiny_model: Model, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, numbers = job_at(tmp_path / "job", photos, tiny_model), []
    run(job, RunOptions(workers=1, part=(2, 3)))
    original = run_job.finish_shard

    def watched(url: str, checksum: str, threads: int, number: int) -> Done:
        numbers.append(number)
        return original(url, checksum, threads, number)

    monkeypatch.setattr(run_job, "finish_shard", watched)
    assert run(job, RunOptions(workers=1)).encoded == 2
    assert run(job, RunOptions(workers=1)).encoded == 0
    assert numbers == [0, 2]
    assert contents(job) == expected


def test_shards_that_fail_do_not_stop_the_others(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    job = job_at(tmp_path / "job", photos, tiny_model)
    path = open_images(photos).path(30)
    assert path
    data = path.read_bytes()
    path.write_bytes(data + b"more")
    words = (
        "an input shard failed, first number 1: .*has changed since the job began.*; 2 of 3 are finished: run the same"
    )
    with pytest.raises(DataError, match=words):
        run(job, RunOptions(workers=1))
    assert list(finished(job)) == [0, 2]


def test_an_error_that_all_shards_have_ends_a_run_at_once(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, asked = job_at(tmp_path / "job", photos, tiny_model), []

    def refused(*given: object) -> Done:
        asked.append(given[-1])
        raise ConfigError("other versions")

    monkeypatch.setattr(run_job, "finish_shard", refused)
    with pytest.raises(ConfigError, match="other versions"):
        run(job, RunOptions(workers=1))
    assert asked == [0]
    many = replace(job, inputs=list(job.inputs) * 10)
    outcomes = (Failed(number, DataError("no disk")) for number in range(30))
    counter = run_job._Counter(many, [], list(range(30)), None)
    assert len(run_job._collect(outcomes, run_job.RunReport(job.url), counter)) == run_job.MOST_FAILED  # type: ignore[arg-type]


def test_memory_is_not_for_several_processes(photos: Path, tiny_model: Model) -> None:
    job = job_at("memory://only-here", photos, tiny_model)
    with pytest.raises(ConfigError, match="other processes do not see memory://; set `workers` to 1"):
        run(job, RunOptions(workers=2))
    run(job)
    assert sum(map(len, finished_tables(job.url))) == 60


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket of a server like S3."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}"


def test_a_job_to_and_from_s3(s3: str, photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    for name in ("bag", "shirt"):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            tar.add(photos / name, name)
        Place(s3).put(f"tars/{name}.tar", sink.getvalue())
    for file in (photos / "bag").iterdir():
        Place(s3).put(f"photos/bag/{file.name}", file.read_bytes())
    local = begin(Source((str(photos),), include=("bag",)), tiny_model, str(tmp_path / "local"), 2)
    run(local, RunOptions(workers=1))
    codes = {i.path: (i.hash, i.code.tobytes()) for t in finished_tables(local.url) for i in items_of(t)}
    job = begin(Source((f"{s3}/photos",)), tiny_model, f"{s3}/one", 2)
    run(job, RunOptions(workers=1))
    assert {i.path: (i.hash, i.code.tobytes()) for t in finished_tables(job.url) for i in items_of(t)} == codes
    again = begin(Source((f"{s3}/photos",)), tiny_model, f"{s3}/two", 2)
    run(again, RunOptions(workers=1, part=(1, 2)))
    known, found = contents(job), contents(again)
    assert 0 < len(found) < len(known)
    assert found == {name: known[name] for name in found}
    tars = begin(Source((f"{s3}/tars/*.tar",)), tiny_model, f"{s3}/three")
    assert run(tars, RunOptions(workers=1)).shards == 2
    by_hash = {i.hash: i.code.tobytes() for t in finished_tables(tars.url) for i in items_of(t)}
    assert dict(codes.values()).items() <= by_hash.items()


def test_a_file_is_put_into_s3_once(s3: str) -> None:
    place, names = Place(f"{s3}/once"), [f"items/{n % 10}" for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda n: place.put(names[n], str(n).encode()), range(40)))
    assert sum(written) == 10
    assert [place.read(names[n]) for n in range(40) if written[n]] == [str(n).encode() for n in range(40) if written[n]]


def test_a_bucket_that_is_not_there_is_one_line(s3: str, photos: Path, tiny_model: Model) -> None:
    with pytest.raises(
        StoreError, match=r"s3://no-such-bucket.* cannot be reached: .*bucket.*; check the address"
    ) as raised:
        job_at("s3://no-such-bucket/job", photos, tiny_model)
    assert "\n" not in str(raised.value)


RAY = """if True:
    import os, sys
    from spq.cli import main as cli
    status = cli.run(sys.argv[1:])
    print(*(os.environ[f"RAY_{name}"] for name in ("USAGE_STATS_ENABLED", "AUTH_MODE")), len(os.environ["RAY_AUTH_TOKEN"]))
    sys.exit(status)"""


def test_ray_writes_the_same_bytes(photos: Path, tiny_model: Model, tmp_path: Path, expected: dict[str, bytes]) -> None:
    job = job_at(tmp_path / "job", photos, tiny_model)
    home = {"HOME": str(tmp_path)}
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | home
    command = [sys.executable, "-c", RAY, "encode", "--out", job.url, "--ray", "local", "--workers", "1"]
    ran = subprocess.run(command, env=given, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert "61 pictures in 3 input shards encoded, 1 unreadable; 3 of 3" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "0 token 64"
    assert contents(job) == expected
    assert not (tmp_path / ".ray").exists()  # no token is left
