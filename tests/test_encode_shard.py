"""An input shard becomes the same bytes wherever it is encoded."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import ConfigError, DataError, ModelMismatchError, StoreError
from spq.index import encode
from spq.index.image_index import ImageIndex
from spq.index.item_table import items_of, schema
from spq.model import device
from spq.model.model import Model
from spq.scale.encode_shard import FACTS, ShardEncoder, encode_shard, finish_shard
from spq.scale.job import Job
from spq.scale.run_job import begin


def begun(photos: Path, model: Model, out: Path, **options: object) -> Job:
    return begin(Source((str(photos),)), model, str(out), 25, **options)  # type: ignore[arg-type]


def items(data: bytes) -> list[object]:
    return [replace(item, code=None) for item in items_of(pq.read_table(io.BytesIO(data)))]


def test_a_file_has_the_items_and_codes_of_an_index(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    (photos / "bag" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    job = begun(photos, tiny_model, tmp_path / "job")
    tables = [pq.read_table(io.BytesIO(encode_shard(job, number))) for number in range(3)]
    assert all(table.schema.equals(schema(8)) for table in tables)
    assert [len(table) for table in tables] == [25, 25, 11]
    found = [item for table in tables for item in items_of(table)]
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        for item in found:
            known = index.store.item(item.path)
            assert known is not None
            assert replace(item, code=None) == replace(known, code=None, id=0)
            assert (item.code is None) == (known.code is None) == (item.path == "bag/broken.jpg")
            np.testing.assert_array_equal(item.code, known.code)
        assert len(found) == len(index) + 1
    facts = json.loads(tables[1].schema.metadata[FACTS])
    assert facts == {"job": job.checksum, "shard": 1}


def test_the_bytes_depend_on_neither_threads_nor_caches(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a frozen backbone, whose features `spq index` keeps; and with a batch that is not full."""
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    frozen = replace(tiny_model.config, train=replace(tiny_model.config.train, frozen=True))
    job = begun(photos, Model(tiny_model.network, frozen), tmp_path / "job")
    here = encode_shard(job, 0)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(Model, "batch_size", 8)
    small = [ShardEncoder(job, threads).encode(0)[0] for threads in (1, 3)]
    assert small[0] == small[1]
    monkeypatch.undo()
    assert encode_shard(job, 0) == here


def test_equal_pictures_of_a_shard_have_one_code_and_those_of_others_do_not_matter(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (photos / "bag" / f"{number:03d}-again.png").write_bytes(min(photos.rglob("*.png")).read_bytes())
    job = begun(photos, tiny_model, tmp_path / "job")
    rng = np.random.default_rng(0)
    monkeypatch.setattr(Model, "batch_size", 4)
    monkeypatch.setattr(Model, "encode", lambda _, pixels, **__: rng.integers(0, 16, (len(pixels), 8)).astype(np.uint8))
    for item in (found := [*ShardEncoder(job).items(0)]):
        twins = {other.code.tobytes() for other in found if other.code is not None and other.hash == item.hash}
        assert len(twins) == 1
    assert len({item.hash for item in found}) < 25


def test_the_precision_is_decided_once_as_an_index_decides_it(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "resolve_precision", lambda *_: "bf16")
    monkeypatch.setattr(encode, "AGREEMENT", 0.5)
    assert begun(photos, tiny_model, tmp_path / "few").precision == "fp32"
    monkeypatch.setattr(encode, "CHECKED", 5)
    job = begun(photos, tiny_model, tmp_path / "bf16")
    assert job.precision == "bf16"
    images = open_images(photos)
    pictures = [images.image(position) for position in range(25)]
    codes = np.stack([item.code for item in ShardEncoder(job).items(0)])  # type: ignore[misc]
    np.testing.assert_array_equal(codes, tiny_model.encode(pictures, precision="bf16"))
    monkeypatch.setattr(encode, "AGREEMENT", 1.1)
    job = begun(photos, tiny_model, tmp_path / "fp32")
    assert job.precision == "fp32"
    codes = np.stack([item.code for item in ShardEncoder(job).items(0)])  # type: ignore[misc]
    np.testing.assert_array_equal(codes, tiny_model.encode(pictures))
    assert begun(photos, tiny_model, tmp_path / "given", precision="bf16").precision == "bf16"


def test_a_worker_with_other_versions_or_another_model_is_refused(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    job = begun(photos, tiny_model, tmp_path / "job")
    for name in ("decoder", "torch", "timm", "pyarrow"):
        other = replace(job, versions=job.versions | {name: "0.1"})
        with pytest.raises(ConfigError, match=rf"has begun with {name} 0\.1, here is {name} "):
            ShardEncoder(other)
    with pytest.raises(ConfigError, match="up to 1000 pixels, here is"):
        ShardEncoder(replace(job, versions=job.versions | {"decoder": job.versions["decoder"][:-16] + "1000 pixels"}))
    folder = tmp_path / "job" / f"model-{job.model}"
    folder.rename(tmp_path / "job" / "model-ffff")
    with pytest.raises(ModelMismatchError, match=f"encodes with model ffff, not with {job.model}"):
        ShardEncoder(replace(job, model="ffff"))
    with pytest.raises(StoreError, match=rf"model-{job.model}/model.safetensors is missing; copy it"):
        ShardEncoder(job)


def test_a_picture_that_changes_while_it_is_read_fails_the_shard(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begun(photos, tiny_model, tmp_path / "job")
    encoder = ShardEncoder(job)
    images = encoder._collection = open_images(job.source)
    original = images.decode

    def decode_and_touch(position: int, data: bytes, size_hint: int | None = None) -> object:
        path = images.path(position)
        assert path
        path.write_bytes(data + b"more")
        return original(position, data, size_hint)

    monkeypatch.setattr(images, "decode", decode_and_touch)
    with pytest.raises(DataError, match="was changed while it was read; run the job again"):
        encoder.encode(0)


def test_a_shard_that_two_workers_finish_is_written_once(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    job = begun(photos, tiny_model, tmp_path / "job")
    first = finish_shard(job.url, job.checksum, 1, 2)
    second = finish_shard(job.url, job.checksum, 2, 2)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.name == second.name
    assert (first.pictures, first.unreadable) == (10, 0)
    assert [file.name for file in (tmp_path / "job" / "items").iterdir()] == [first.name]
    with pytest.raises(StoreError, match="holds another job than a moment ago"):
        finish_shard(job.url, "0" * 32, 1, 2)
