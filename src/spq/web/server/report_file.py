"""The report of duplicates on disk, so that a server that is started again does not compare the pictures again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spq.common.checked_json import read_checked, write_checked
from spq.common.json_file import JsonError
from spq.common.locks import held
from spq.index.manifest import Manifest
from spq.index.store import Store

FORMAT = 1  # also to be raised when the comparison finds other groups
MOST_BYTES = 2**30
_LOG = logging.getLogger("spq.serve")
Report = dict[str, Any]


def collection_name(manifest: Manifest) -> str:
    """A name of the collection and the model of an index for files: the same for each copy of the index."""
    names = "\n".join([*manifest.origin.names, manifest.model])
    return hashlib.blake2b(names.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()


def state_of(store: Store) -> str:
    """What a report depends on, as text: two indexes with the same pictures and codes have the same."""
    digest = hashlib.blake2b(store.manifest.model.encode(), digest_size=16)
    for item in store.items():
        digest.update(f"{item.id} {item.hash.hex()} {item.path}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class ReportFile:
    """The last report of a collection, in a folder of the cache. Processes may share it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.path = folder, folder / f"{name}.json"

    def read(self) -> tuple[str, Report] | None:
        """The state of the index that the report is of, and the report; None if there is none that can be used."""
        try:
            content = read_checked(self.path, FORMAT, MOST_BYTES)
            return str(content["state"]), dict(content["report"])
        except (OSError, JsonError, LookupError, TypeError, ValueError):  # it is made again
            return None

    def write(self, state: str, report: Report) -> None:
        """Keep a report. Where nothing can be written, it is made again after a restart."""
        try:
            self._make_folder()
            write_checked(self.path, {"state": state, "report": report}, FORMAT)
        except OSError as error:
            _LOG.warning("the report of copies is not kept in %s: %s", self.folder, error.strerror or error)

    @contextmanager
    def making(self) -> Iterator[bool]:
        """Whether this process is the one that makes the report now; another one may be at it."""
        try:
            self._make_folder()
            lock = held(self.path.with_suffix(".lock"), stays=False)
            lock.__enter__()
        except BlockingIOError:
            yield False
            return
        except OSError:  # nothing can be written there, so there is nobody to wait for
            yield True
            return
        try:
            yield True
        finally:
            lock.__exit__(None, None, None)

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
