"""Features of whole pictures, by the bytes of the picture: computed once for training and for every index.

All that affects a feature is part of the name of its file: weights and structure of the backbone, input, precision and
the versions of the code that computes and decodes. A picture is known by a hash of its bytes, so it may be renamed or
lie in several collections. Each feature has a checksum: a damaged one counts as unknown. All files of the cache together
have a limit.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spq import __version__
from spq.common.files import clear_place, user_cache
from spq.common.locks import held
from spq.config import InputConfig, to_dict
from spq.data.decode import pixel_limit
from spq.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

FORMAT = 2  # in 1, a checksum covered the feature alone
CACHE_GB = 8.0  # of all feature files together; the environment variable SPQ_CACHE_GB replaces it
SUFFIXES = (".npy", ".sqlite")  # of training's views, and of whole pictures
_TABLE = """CREATE TABLE IF NOT EXISTS features (
    hash BLOB PRIMARY KEY, width INTEGER, height INTEGER, feature BLOB, checksum INTEGER)"""


_PROBE = "SELECT hash, width, height, feature, checksum FROM features LIMIT 1"


class Known(NamedTuple):
    """A feature (F,) float32, with width and height of the upright picture."""

    feature: NDArray[np.float32]
    width: int
    height: int


class FeatureStore:
    """The features of one frozen backbone, in one file. Threads and processes may share it.

    If the folder cannot be written, nothing is kept, and every picture is unknown.

    Attributes:
        damaged: how often a feature, or the whole file, was found damaged.
    """

    def __init__(self, key: str, folder: Path | None = None) -> None:
        self.file = (folder or cache_folder()) / f"{key}.sqlite"
        self._lock = threading.Lock()
        self._replaced, self.damaged = False, 0
        self._connection = self._open()

    def get(self, digest: bytes) -> Known | None:
        """Return what is known of the picture of this hash. One over the limit of pixels is unknown: it may be refused today."""
        statement = "SELECT feature, width, height, checksum FROM features WHERE hash = ?"
        with self._lock:
            try:
                row = self._connection.execute(statement, (digest,)).fetchone() if self._connection else None
            except sqlite3.Error as error:
                row = None
                self._replace(error)
        if row is None:
            return None
        if not isinstance(row[0], bytes) or _checksum(digest, *row[:3]) != row[3]:
            self.damaged += 1
            return None
        return Known(np.frombuffer(row[0], np.float32), row[1], row[2]) if row[1] * row[2] <= pixel_limit() else None

    def put(self, known: Iterable[tuple[bytes, Known]]) -> None:
        """Keep features, by hash. If the file is over the limit of the cache, the older half of it is dropped."""
        rows = []
        for digest, (feature, width, height) in known:
            data = feature.astype(np.float32).tobytes()
            rows.append((digest, width, height, data, _checksum(digest, data, width, height)))
        with self._lock:
            if self._connection is None or not rows:
                return
            try:
                self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)", rows)
                if self._used() > cache_limit():
                    half = "SELECT rowid FROM features ORDER BY rowid LIMIT (SELECT count(*) / 2 FROM features)"
                    self._connection.execute(f"DELETE FROM features WHERE rowid IN ({half})")
            except (sqlite3.Error, OSError) as error:  # a full disk: go on without
                self._connection = None
                self._replace(error)

    def _replace(self, error: Exception) -> None:
        """Begin a new file, once, if the database is damaged; what it had is computed again."""
        if type(error) is sqlite3.DatabaseError and not self._replaced:
            self._replaced, self.damaged = True, self.damaged + 1
            if self._connection:
                self._connection.close()
            with suppress(OSError):
                self.file.unlink()
            self._connection = self._open()

    def _used(self) -> int:
        """Bytes of the file that hold something; it never shrinks."""
        assert self._connection
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _open(self) -> sqlite3.Connection | None:
        for _ in range(2):
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                clear_place(self.file)
                make_room(self.file.parent, self.file.stat().st_size if self.file.exists() else 0, keep=self.file.stem)
                connection = sqlite3.connect(self.file, timeout=30, check_same_thread=False, isolation_level=None)
                connection.execute("PRAGMA synchronous = OFF")  # a cache: checksums find what a power cut damages
                connection.execute(_TABLE)
                connection.execute(_PROBE)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "no such column" not in str(error):
                    return None  # it cannot be written
                with suppress(OSError):
                    self.file.unlink()  # it is damaged
            except OSError:
                return None
            else:
                os.utime(self.file)  # the least recently used go first
                return connection
        return None


def _checksum(digest: bytes, data: bytes, width: object, height: object) -> int:
    """Return a checksum of all that is known of a picture: a row of another one is damage too."""
    return zlib.crc32(f"{width} x {height}".encode(), zlib.crc32(data, zlib.crc32(digest)))


def hash_of(data: bytes) -> bytes:
    """Return the hash by which caches and indexes know the bytes of a picture."""
    return hashlib.blake2b(data, digest_size=16).digest()


def features_key(backbone: nn.Module, pixels: InputConfig, channels_last: bool, precision: str) -> str:
    """Return a key of all that affects the features of a picture.

    Args:
        pixels: the input of the backbone. precision: fp32 or bf16.
    """
    digest = hashlib.sha256(weights_digest(backbone))
    settings = {
        "format": FORMAT,
        "network": repr(backbone),
        "input": to_dict(pixels),
        "computed": [channels_last, precision],
        "versions": [__version__, version("timm"), version("pillow")],  # code that computes and decodes
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:24]


def weights_digest(module: nn.Module) -> bytes:
    """Return a hash of all weights and their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def cache_folder() -> Path:
    """Return the folder of the feature files: in `$SPQ_CACHE`, else in `spq` of the user's cache folder."""
    return user_cache() / "features"


def cache_limit() -> float:
    """Return the bytes that all feature files together may take.

    Raises:
        ConfigError: SPQ_CACHE_GB is no number.
    """
    text = os.environ.get("SPQ_CACHE_GB", "")
    try:
        return 1e9 * float(text or CACHE_GB)
    except ValueError:
        raise ConfigError(f"SPQ_CACHE_GB must be a number, got {text!r}; give gigabytes, for example 8") from None


def make_room(folder: Path, needed: int, keep: str = "") -> None:
    """Delete the least recently used feature files until there is room for `needed` more bytes."""
    found: list[tuple[float, int, Path]] = []
    for file in (file for suffix in SUFFIXES for file in folder.glob(f"*{suffix}") if file.stem != keep):
        with suppress(OSError):  # another process has deleted it
            status = file.lstat()
            found.append((status.st_mtime, status.st_size, file))
    total = sum(size for _, size, _ in found) + needed
    for _, size, file in sorted(found):
        if total > cache_limit() and _delete(file):
            total -= size


def _delete(file: Path) -> bool:
    """Delete a feature file and its state; False if it cannot be deleted, or a process is computing it."""
    try:
        with held(file.with_suffix(".lock")):
            for suffix in (file.suffix, ".json"):  # not the lock: another process may wait for it
                file.with_suffix(suffix).unlink(missing_ok=True)
    except OSError:
        return False
    return True
