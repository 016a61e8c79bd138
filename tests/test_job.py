"""The file of a job, and what is refused because it is another job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spq.data.decode import pixel_limit
from spq.data.source import Source
from spq.errors import ConfigError, ModelMismatchError, StoreError
from spq.model.model import Model
from spq.scale import run_job
from spq.scale.job import FILE, Job, load_model, open_job, read_job
from spq.scale.run_job import begin
from spq.scale.urls import Place


@pytest.fixture
def job(photos: Path, tiny_model: Model, tmp_path: Path) -> Job:
    return begin(Source((str(photos),)), tiny_model, str(tmp_path / "job"), 25)


def other_model(model: Model) -> Model:
    half = replace(model.config.quantizer, num_codebooks=4, prefixes=())
    return Model(model.network.truncated(half), replace(model.config, quantizer=half))


def test_a_job_comes_back_from_its_file_and_is_the_same_in_another_place(
    job: Job, photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    assert open_job(job.url) == job
    again = begin(Source((str(photos),)), tiny_model, str(tmp_path / "other"), 25)
    assert (again.checksum, again.url == job.url) == (job.checksum, False)
    assert (job.pictures, len(job.inputs), job.num_codebooks) == (60, 3, 8)
    assert (job.precision, job.device, job.max_pixels) == ("fp32", "cpu", pixel_limit())
    assert load_model(job).hash == tiny_model.hash


def test_the_same_job_continues(job: Job, photos: Path, tiny_model: Model) -> None:
    before = (Path(job.url) / FILE).read_bytes()
    assert begin(Source((str(photos),)), tiny_model, job.url) == job
    assert begin(Source((str(photos),)), None, job.url) == job
    assert (Path(job.url) / FILE).read_bytes() == before


def test_another_model_other_pictures_and_other_options_are_refused(job: Job, photos: Path, tiny_model: Model) -> None:
    source = Source((str(photos),))
    with pytest.raises(ModelMismatchError, match=f"encodes with model {job.model}, not with .*; give that model, or"):
        begin(source, other_model(tiny_model), job.url)
    with pytest.raises(ConfigError, match=r"it encodes .*photos, not .*bag; give another `out`"):
        begin(Source((str(photos / "bag"),)), tiny_model, job.url)
    with pytest.raises(ConfigError, match=r"it encodes .*photos, not .*without \*\.png"):
        begin(Source((str(photos),), ("*.png",)), tiny_model, job.url)
    with pytest.raises(ConfigError, match="encodes with `precision` fp32, not bf16; omit it"):
        begin(source, tiny_model, job.url, precision="bf16")
    with pytest.raises(ConfigError, match=r"has 3 input shards, and .* would make 6 now"):
        begin(source, tiny_model, job.url, 10)
    first = min(photos.rglob("*.png"))
    data = first.read_bytes()
    first.write_bytes(data + b"more")
    with pytest.raises(ConfigError, match="have changed since it began, first in input shard 0; give another `out`"):
        begin(source, tiny_model, job.url)


def test_of_two_that_begin_at_once_one_wins_and_the_other_continues_it(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = Source((str(photos),)), str(tmp_path / "job")
    first = begin(source, tiny_model, out, 25)
    monkeypatch.setattr(run_job, "read_job", lambda place: None)  # as if it was not there yet
    assert begin(source, tiny_model, out, 25) == first
    with pytest.raises(ModelMismatchError, match="encodes with model"):
        begin(source, other_model(tiny_model), out, 25)


def test_a_damaged_or_newer_file_is_refused(job: Job) -> None:
    file = Path(job.url) / FILE
    table = json.loads(file.read_text())
    wrong = [
        (
            json.dumps(table | {"precision": "bf16"}),
            "its checksum does not match; begin the job again in another place",
        ),
        (file.read_text()[:-20], "is damaged: no JSON"),
        ("[1]", "is damaged: it is no table"),
        (json.dumps(table | {"format": 9, "spq_version": "9.1"}), "is of spq 9.1, .*continue the job with spq 9.1"),
    ]
    for text, words in wrong:
        file.write_text(text)
        with pytest.raises(StoreError, match=words):
            open_job(job.url)


def test_a_place_without_a_job_says_so(tmp_path: Path, photos: Path) -> None:
    assert read_job(Place(str(tmp_path))) is None
    with pytest.raises(StoreError, match=r"no encoding job at .*: it has no job.json; check the address"):
        open_job(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no encoding job at .*; give a `model` to begin one"):
        begin(Source((str(photos),)), None, str(tmp_path))
