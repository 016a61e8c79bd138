"""What a holder does: it has the codes of some shards in memory, and answers questions about them.

It reads `manifest.json`, and the codes, ids and lists of its shards. It never opens the database: the server that asks reads the
tombstones there, and tells the holder which rows are dead. So the files may be on a shared file system, or copied to the machine.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from spq import __version__
from spq.data.decode import first_line
from spq.errors import SPQError
from spq.index.manifest import read_manifest
from spq.index.shards.lists import Lists, add_lists, read_lists
from spq.index.shards.shard import Shard
from spq.index.shards.shard_facts import ShardFacts
from spq.index.shards.shard_writer import Kind
from spq.pq.parts import Part
from spq.pq.questions import Key, Question, Reply, answer
from spq.pq.sums import Rows

KEPT_SECONDS = 60.0  # that a shard stays after it was wanted last: longer than any request
RETRY_SECONDS = 10.0  # until a shard that could not be read is tried again
TOP = 20  # answers of a usual search, for which a shard is prepared
FILES = ("codes.npy", "ids.npy")  # of a shard


@dataclass(frozen=True)
class Of:
    """The index whose shards are wanted. A holder that differs in any of this refuses.

    Attributes:
        key: of the manifest. model: hash of the model that made the codes. lists: hash of the lists; empty for none.
    """

    folder: Path
    key: str
    model: str
    kind: Kind
    lists: str = ""
    version: str = __version__


@dataclass(frozen=True, eq=False)
class Wanted:
    """Shards that a holder should have.

    Attributes:
        keys: of the shards, with digests of their dead rows.
        dead: dead rows that the holder said it does not know.
    """

    of: Of
    shards: tuple[ShardFacts, ...] = ()
    keys: tuple[Key, ...] = ()
    dead: dict[Key, Rows] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """What a holder has.

    Attributes:
        refusal: why it gives no answers about this index; empty if it does.
        ready: what it can be asked about. unknown: wanted keys whose dead rows it needs.
        names: shards that any server wants of it, loaded or not. failed: name -> why it cannot be read.
        pid: its process.
    """

    refusal: str = ""
    ready: frozenset[Key] = frozenset()
    unknown: frozenset[Key] = frozenset()
    names: frozenset[str] = frozenset()
    failed: dict[str, str] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)

    @property
    def loading(self) -> frozenset[str]:
        """Shards that are being loaded."""
        return self.names - {key.name for key in self.ready} - self.failed.keys()


@dataclass(eq=False)
class _Shard:
    """A shard that is wanted. part: None until it is loaded. lists: hash of those that it was loaded with."""

    wanted_at: float
    part: Part | None = None
    lists: str = ""
    failure: str = ""
    failed_at: float = 0.0


class Holding:
    """The shards of one holder, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: dict[str, _Shard] = {}
        self._dead: dict[Key, tuple[Rows, float]] = {}  # rows, and when they were wanted last
        self._lists: Lists | None = None  # that were read last
        self._is_of: Of | None = None  # the index that was compared last
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="spq-load")

    def hold(self, wanted: Wanted) -> State:
        """Load what is wanted, in a thread of its own, and let go of what no server has wanted for a while."""
        has_all = wanted.keys and all((held := self._shards.get(key.name)) and held.part for key in wanted.keys)
        if not has_all and (refusal := self._refusal(wanted.of)):
            return State(
                refusal
            )  # but a server may end with what it has, when another index takes the place of its own
        now, no_rows = time.monotonic(), np.empty(0, np.int64)
        with self._lock:
            self._dead |= {key: (rows, now) for key, rows in wanted.dead.items()}
            for key in wanted.keys:
                if key in self._dead or not key.dead:
                    self._dead[key] = (self._dead.get(key, (no_rows, now))[0], now)
            for facts in wanted.shards:
                self._want(wanted.of, facts, now)
            self._let_go(now)
            return State(
                ready=frozenset(key for key in self._dead if (s := self._shards.get(key.name)) and s.part),
                unknown=frozenset(key for key in wanted.keys if key not in self._dead),
                names=frozenset(self._shards),
                failed={name: shard.failure for name, shard in self._shards.items() if shard.failure},
            )

    def search(self, question: Question) -> Reply:
        """Answer a question. It depends on nothing but the question: shards never change, and it names the dead rows."""
        with self._lock:
            found = [self._part(key) for key in question.keys]
            has_lists = all(self._shards[k.name].lists in ("", question.lists) for k in question.keys if self._part(k))
        if unready := tuple(key for key, each in zip(question.keys, found, strict=True) if each is None):
            return Reply(unready=unready)
        parts, dead = zip(*(each for each in found if each is not None), strict=True)
        return answer(question, parts, dead, has_lists)

    def close(self) -> None:
        """End the thread that loads."""
        self._loader.shutdown(cancel_futures=True)

    def _part(self, key: Key) -> tuple[Part, Rows] | None:
        shard, dead = self._shards.get(key.name), self._dead.get(key)
        return (shard.part, dead[0]) if shard and shard.part and dead else None

    def _refusal(self, of: Of) -> str:
        """Why this holder gives no answers about an index; empty if it does."""
        if of == self._is_of:
            return ""
        if of.version != __version__:
            return f"it runs spq {__version__}, and the server {of.version}; install the same version on all machines"
        where = f"{of.folder} on {socket.gethostname()}"
        try:
            manifest = read_manifest(of.folder)
        except SPQError as error:
            return f"{error} (on {socket.gethostname()})"
        if manifest.model != of.model:
            return (
                f"{where} has codes of model {manifest.model}, and the server those of {of.model}; copy the index again"
            )
        if manifest.key != of.key:
            return f"{where} is another index than that of the server; copy the index again"
        self._is_of = of
        return ""

    def _want(self, of: Of, facts: ShardFacts, now: float) -> None:
        shard = self._shards.get(facts.name)
        if shard is None:
            shard = self._shards[facts.name] = _Shard(now)
            self._loader.submit(self._load, of, facts, shard)
        elif shard.failure and now - shard.failed_at > RETRY_SECONDS:
            shard.failed_at = now
            self._loader.submit(self._load, of, facts, shard)
        elif shard.part and of.lists and not shard.lists:
            shard.lists = of.lists
            self._loader.submit(self._add_lists, of, facts, shard.part)
        shard.wanted_at = now

    def _load(self, of: Of, facts: ShardFacts, shard: _Shard) -> None:
        if self._shards.get(facts.name) is not shard:
            return  # it was let go of before its turn
        try:
            part, shard.lists = Shard(of.folder, facts, of.kind).part(), of.lists
            self._add_lists(of, facts, part)
            part.scan.prepare(TOP)
        except Exception as error:  # of any kind: the thread goes on with the other shards
            shard.failure, shard.failed_at = first_line(error), time.monotonic()
            return
        shard.part, shard.failure = part, ""

    def _add_lists(self, of: Of, facts: ShardFacts, part: Part) -> None:
        if of.lists and (self._lists is None or self._lists.hash != of.lists):
            self._lists = read_lists(of.folder)
        if self._lists and self._lists.hash == of.lists:
            add_lists(self._lists, of.folder, [part], [facts.name])

    def _let_go(self, now: float) -> None:
        self._shards = {n: shard for n, shard in self._shards.items() if now - shard.wanted_at < KEPT_SECONDS}
        self._dead = {key: each for key, each in self._dead.items() if now - each[1] < KEPT_SECONDS}


def needed_files(shards: Iterable[ShardFacts]) -> tuple[ShardFacts, ...]:
    """The facts of shards, with those files alone that a holder reads."""
    return tuple(replace(facts, files=tuple(f for f in facts.files if f.name in FILES)) for facts in shards)
