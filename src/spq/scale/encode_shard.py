"""One input shard becomes one Parquet file, the same to the byte wherever and whenever it is encoded."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from spq.data.decode import set_max_pixels
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import DataError, StoreError
from spq.index.encode import Encoder
from spq.index.item_table import to_table
from spq.index.items import Item
from spq.index.sync import metadata
from spq.scale.inputs import PictureRange, opened
from spq.scale.job import Job, check_versions, load_model, open_job
from spq.scale.urls import Place
from spq.scale.worker_processes import Done

if TYPE_CHECKING:
    from collections.abc import Iterator

ITEMS = "items"
LEVEL = 3  # of zstd
FACTS = b"spq"  # key of the metadata of a file: of which job and input shard it is


class ShardEncoder:
    """Encodes the input shards of one job.

    Args:
        threads: that read, decode and compute. The bytes do not depend on it.
    Raises:
        ConfigError: this machine has other versions than the job. ModelError, StoreError: its model cannot be loaded.
    """

    def __init__(self, job: Job, threads: int = 1) -> None:
        set_max_pixels(job.max_pixels)
        check_versions(job)
        self.job, self.threads, self.place = job, threads, Place(job.url)
        self.model = load_model(job)
        self._collection: ImageSet | None = None

    def items(self, number: int) -> Iterator[Item]:
        """Encode the pictures of an input shard, in their order. An unreadable one has a reason and no code.

        Raises:
            DataError: the pictures have changed since the job began, or are not there any more.
        """
        given = self.job.inputs[number]
        if isinstance(given, PictureRange) and self._collection is None:
            self._collection = open_images(self.job.source, known=())
        with opened(given, self.place, self._collection) as (images, positions, prefix):
            encoder = Encoder(images, self.model, _no_twin, self.threads, self.job.precision)
            with closing(encoder.encode(positions)) as encoded:
                for position, (item, _) in zip(positions, encoded, strict=True):
                    if item.code is not None and item.size < 0:
                        raise DataError(
                            f"{item.path} was changed while it was read; run the job again when it is at rest"
                        )
                    path = f"{prefix}/{item.path}" if prefix else item.path
                    yield replace(item, path=path, metadata=metadata(images, position))

    def encode(self, number: int) -> tuple[bytes, int, int]:
        """Return the Parquet file of an input shard, how many pictures it has, and how many of them are unreadable."""
        import pyarrow.parquet as pq

        table = to_table(self.items(number), self.job.num_codebooks)
        facts = json.dumps({"job": self.job.checksum, "shard": number})
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({FACTS: facts}), sink, compression="zstd", compression_level=LEVEL)
        return sink.getvalue(), len(table), table.column("code").null_count


def encode_shard(job: Job, number: int) -> bytes:
    """Return the Parquet file of an input shard: a table of items, as `spq.index.item_table` has them, without ids.

    The bytes depend on the job and the number alone.

    Raises:
        ConfigError: this machine has other versions than the job. DataError: the pictures have changed since it began.
        StoreError: a place cannot be reached.
    """
    return ShardEncoder(job).encode(number)[0]


def finish_shard(url: str, checksum: str, threads: int, number: int) -> Done:
    """Encode an input shard of the job at a URL, and write its file, unless it is there."""
    encoder = _encoder(url, checksum, threads)
    data, pictures, unreadable = encoder.encode(number)
    name = file_name(number, data)
    is_new = encoder.place.put(f"{ITEMS}/{name}", data)
    return Done(number, name, pictures, unreadable, is_new)


@lru_cache(1)
def _encoder(url: str, checksum: str, threads: int) -> ShardEncoder:
    """The encoder of this process: a model takes seconds to load."""
    job = open_job(url)
    if job.checksum != checksum:
        raise StoreError(f"{url} holds another job than a moment ago; start the command again")
    return ShardEncoder(job, threads)


def file_name(number: int, data: bytes) -> str:
    """The name of a file, by its content.

    >>> file_name(12, b"")
    '00012-e3b0c44298fc1c14.parquet'
    """
    return f"{number:05d}-{hashlib.sha256(data).hexdigest()[:16]}.parquet"


def _no_twin(_: bytes) -> None:
    """No picture has a twin outside of its shard: what others have encoded must not decide its code."""
