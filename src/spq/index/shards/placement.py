"""Which holder has which shard, as a server sees it: shards are assigned and prepared, and holders are probed all the time.

A shard stays where it is, and a new one goes to the holder with the fewest codes. A holder that has lost its shards, since its
process was started again, gets them back at the next probe. Several servers may share holders: each takes over what the
holders have already.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from spq.errors import StoreError
from spq.index.shards.holding import KEPT_SECONDS, Of, State, Wanted, needed_files
from spq.index.shards.live import Live
from spq.index.shards.shard_facts import ShardFacts
from spq.pq.questions import Key, Question, Reply, Source, digest_of
from spq.pq.sums import Rows

PROBE_SECONDS = 0.5  # between two probes of a holder
BUSY_SECONDS = 0.1  # while one is loading
LATE_SECONDS = 3.0  # without an answer to a probe: the holder counts as down
START_SECONDS = 60.0  # for its first answer
PREPARE_SECONDS = 300.0  # that a new list of shards waits for holders that are loading
_LOG = logging.getLogger("spq.holders")


class Holder(Protocol):
    """A process that holds shards. name: for messages."""

    name: str

    def ask(self, question: Question) -> Future[Reply]:
        """`Holding.search`, somewhere else."""

    def hold(self, wanted: Wanted) -> Future[State]:
        """`Holding.hold`, somewhere else."""


@dataclass
class ShardCounts:
    """What is known of one shard, for the metrics.

    Attributes:
        holder: its number, from 0; None if the server itself has the shard. seconds: that answers of its holder took.
    """

    name: str
    items: int
    tombstones: int
    holder: int | None = None
    is_up: bool = True
    searches: int = 0
    failures: int = 0
    seconds: float = 0.0

    @property
    def is_held(self) -> bool:
        return self.holder is not None


@dataclass(frozen=True, eq=False)
class _Held:
    facts: ShardFacts
    dead: Rows


@dataclass(eq=False)
class _Slot:
    """One holder, as a source of answers.

    Attributes:
        why: it does not answer; empty while it does.
        replies: number of the last list of shards that it has answered to.
    """

    placement: Placement
    number: int
    holder: Holder
    state: State = field(default_factory=State)
    why: str = "it has not answered yet"
    was_heard: bool = False
    is_due: bool = False
    probed_at: float = 0.0
    pending: Future[State] | None = None
    replies: int = -1

    @property
    def is_settled(self) -> bool:
        """Whether nothing will change soon: it has all that it can have, or is down."""
        if self.why:
            return self.was_heard
        return self.replies == self.placement.version and not self.state.loading and not self.state.unknown

    def ask(self, question: Question) -> Future[Reply]:
        try:
            future = self.holder.ask(question)
        except Exception as error:  # of the library that sends
            future = Future()
            future.set_exception(error)
        future.add_done_callback(self._check)
        return future

    def note(self, question: Question, seconds: float, failure: str = "") -> None:
        self.placement.count(question.keys, seconds, failure)

    def look(self, seconds: float) -> None:
        self.placement.probe([self], seconds)

    def _check(self, future: Future[Reply]) -> None:
        if not future.cancelled() and (error := future.exception()):
            self.placement.lose(self, error)


class Placement:
    """The holders of one index. `close()` it when no search uses it any more.

    Attributes:
        has_been_whole: whether all shards could be searched at some time.
    Args:
        seconds: that a search may take.
    """

    def __init__(self, holders: Sequence[Holder], seconds: float = 2.0) -> None:
        self.seconds, self.version, self.has_been_whole = seconds, 0, False
        self._slots = [_Slot(self, number, holder) for number, holder in enumerate(holders)]
        self._changed = threading.Condition(threading.RLock())
        self._of: Of | None = None
        self._live: dict[Key, _Held] = {}
        self._before: dict[Key, _Held] = {}  # of earlier lists, which searches may use until `_before_until`
        self._before_until = math.inf
        self._assigned: dict[str, int] = {}
        self._counts: dict[str, ShardCounts] = {}
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="spq-holders", daemon=True)

    def prepare(self, of: Of, live: Sequence[Live]) -> None:
        """Make the holders ready for a list of shards. Holders that are down are not waited for.

        Raises:
            StoreError: at the first call, a holder refuses, or none answers.
        """
        if is_first := self._of is None:
            self._take_over(of)
        facts = needed_files(part.shard.facts for part in live)
        keys = [Key(part.shard.facts.name, digest_of(part.dead)) for part in live]
        if not is_first and self._of == of and keys == list(self._live):
            return
        with self._changed:
            self._before, self._before_until = self._before | self._live, math.inf
            self._live = {key: _Held(each, part.dead) for key, each, part in zip(keys, facts, live, strict=True)}
            sizes = {each.name: each.count for each in facts}
            self._assigned |= assign(sizes, self._assigned, len(self._slots))
            self._of, self.version = of, self.version + 1
        self.probe(self._slots, PREPARE_SECONDS)
        self._before_until = time.monotonic() + KEPT_SECONDS
        if is_first:
            self._check_first()

    def sources(self, keys: Sequence[Key]) -> list[tuple[Source, list[int]]]:
        """Holders that answer now, and the numbers of the keys that each has ready."""
        found: list[tuple[Source, list[int]]] = []
        for slot in self._slots:
            ready = frozenset() if slot.why else slot.state.ready
            numbers = [n for n, key in enumerate(keys) if key in ready and self._assigned.get(key.name) == slot.number]
            if numbers:
                found.append((slot, numbers))
        return found

    def is_whole(self) -> bool:
        """Whether all shards can be searched now."""
        with self._changed:
            return all(self._is_up(key) for key in self._live)

    def down(self) -> dict[str, str]:
        """Names of holders that do not answer, and of shards that they cannot read, with the reasons."""
        with self._changed:
            failed = {f"shard {name}": why for slot in self._slots for name, why in slot.state.failed.items()}
            return {f"holder {slot.holder.name}": slot.why for slot in self._slots if slot.why} | failed

    def shards(self) -> list[ShardCounts]:
        """The counts of each shard, by name."""
        with self._changed:
            for key, held in self._live.items():
                counts = self._counts_of(key.name)
                counts.items, counts.tombstones = held.facts.count - len(held.dead), len(held.dead)
                counts.holder, counts.is_up = self._assigned[key.name], self._is_up(key)
            names = sorted(key.name for key in self._live)
            self._counts = {name: self._counts[name] for name in names}
            return list(self._counts.values())

    def miss(self, keys: Sequence[Key]) -> None:
        """Count shards whose holders are down as searches that failed."""
        self.count(keys, 0.0, "its holder is down")

    def count(self, keys: Sequence[Key], seconds: float, failure: str) -> None:
        """Count a question."""
        with self._changed:
            for key in keys:
                counts = self._counts_of(key.name)
                counts.searches += 1
                counts.failures += bool(failure)
                counts.seconds += seconds

    def lose(self, slot: _Slot, error: BaseException) -> None:
        """A holder has failed. It is asked for nothing more, until it answers a probe."""
        with self._changed:
            self._set(slot, f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}")
            slot.is_due = True
            self._changed.notify_all()

    def probe(self, slots: Sequence[_Slot], seconds: float) -> None:
        """Ask holders what they have, and wait until nothing changes any more."""
        with self._changed:
            for slot in slots:
                slot.replies, slot.is_due = -1, True
            self._start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_ending or all(slot.is_settled for slot in slots), seconds)

    def close(self) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(5)

    def _take_over(self, of: Of) -> None:
        """Learn what the holders have already for other servers."""
        self._of = of
        self.probe(self._slots, START_SECONDS)
        for slot in reversed(self._slots):
            self._assigned |= dict.fromkeys(slot.state.names, slot.number)

    def _check_first(self) -> None:
        for slot in self._slots:
            if slot.state.refusal:
                raise StoreError(f"holder {slot.holder.name} refuses: {slot.state.refusal}")
        if all(slot.why for slot in self._slots):
            raise StoreError(f"no holder answers; {self._slots[0].holder.name}: {self._slots[0].why}")

    def _start(self) -> None:
        if not self._thread.is_alive():
            self._thread.start()

    def _run(self) -> None:
        """Probe the holders. All messages to them are sent by this thread."""
        while True:
            with self._changed:
                is_busy = any(not slot.is_settled for slot in self._slots)
                pause = BUSY_SECONDS if is_busy else PROBE_SECONDS
                self._changed.wait_for(lambda: self._is_ending or any(map(_can_be_sent, self._slots)), pause)
                if self._is_ending:
                    return
                now = time.monotonic()
                for slot in self._slots:
                    self._check_time(slot, now)
                due = [
                    slot
                    for slot in self._slots
                    if slot.pending is None and (slot.is_due or now - slot.probed_at >= pause)
                ]
            for slot in due:
                self._send(slot)

    def _check_time(self, slot: _Slot, now: float) -> None:
        waited = now - slot.probed_at
        if slot.pending is None or waited < (LATE_SECONDS if slot.was_heard else START_SECONDS):
            return
        slot.was_heard = True
        if not slot.why or waited > START_SECONDS:
            slot.pending = None  # its answer may never come: ask again
        self._set(slot, f"no answer for {LATE_SECONDS:g} s")
        self._changed.notify_all()

    def _send(self, slot: _Slot) -> None:
        with self._changed:
            assert self._of is not None
            if time.monotonic() > self._before_until:
                self._before = {}
            known = self._before | self._live
            keys = [key for key in known if self._assigned[key.name] == slot.number]
            held = [known[key] for key in keys]
            dead = {key: known[key].dead for key in slot.state.unknown if key in known}
            wanted = Wanted(self._of, tuple(each.facts for each in held), tuple(keys), dead)
            version, slot.is_due, slot.probed_at = self.version, False, time.monotonic()
        try:
            future = slot.holder.hold(wanted)
        except Exception as error:  # of the library that sends
            future = Future()
            future.set_exception(error)
        slot.pending = future
        future.add_done_callback(lambda done: self._heard(slot, done, version))

    def _heard(self, slot: _Slot, done: Future[State], version: int) -> None:
        with self._changed:
            if slot.pending is not done:
                return  # it is too late
            slot.pending, slot.was_heard, slot.replies = None, True, version
            if error := done.exception():
                self._set(slot, f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}")
            else:
                self._take(slot, done.result())
            slot.is_due |= bool(slot.state.unknown) or version != self.version
            self.has_been_whole |= version > 0 and self.is_whole()
            self._changed.notify_all()

    def _take(self, slot: _Slot, state: State) -> None:
        for name, why in state.failed.items():
            if slot.state.failed.get(name) != why:
                _LOG.warning("holder %s cannot read shard %s: %s", slot.holder.name, name, why)
        slot.state = state
        self._set(slot, state.refusal)

    def _set(self, slot: _Slot, why: str) -> None:
        """Set why a holder does not answer; empty if it does."""
        if why and why != slot.why:
            _LOG.warning("holder %s is down: %s", slot.holder.name, why)
        elif slot.why and not why:
            _LOG.info("holder %s answers", slot.holder.name)
        slot.why = why
        if why:
            slot.state = State(refusal=slot.state.refusal if slot.state.refusal == why else "")

    def _is_up(self, key: Key) -> bool:
        slot = self._slots[self._assigned[key.name]]
        return not slot.why and key in slot.state.ready

    def _counts_of(self, name: str) -> ShardCounts:
        return self._counts.setdefault(name, ShardCounts(name, 0, 0))


def _can_be_sent(slot: _Slot) -> bool:
    return slot.is_due and slot.pending is None


def assign(sizes: Mapping[str, int], known: Mapping[str, int], holders: int) -> dict[str, int]:
    """The number of a holder for each shard. Known ones stay, and each new one goes to the holder with the fewest codes.

    Args:
        sizes: codes of each shard.

    >>> assign({"a": 5, "b": 2, "c": 2, "d": 1}, {"c": 1}, 2)
    {'c': 1, 'a': 0, 'b': 1, 'd': 1}
    """
    places = {name: known[name] for name in sizes if known.get(name, holders) < holders}
    codes = [0] * holders
    for name, number in places.items():
        codes[number] += sizes[name]
    for name, size in sizes.items():
        if name not in places:
            places[name] = codes.index(min(codes))
            codes[places[name]] += size
    return places
