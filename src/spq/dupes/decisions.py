"""What the user has decided about groups of copies, in one file. Groups are known by the hashes of their pictures."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spq.common.checked_json import NewerFormatError, read_checked, write_checked
from spq.common.json_file import JsonError
from spq.common.locks import held
from spq.errors import DataError
from spq.index.format import DECISIONS, DECISIONS_LOCK

FORMAT = 1
MOST_BYTES = 2**28
WAIT = 10.0  # seconds for another process that writes
STEPS = 5  # earlier decisions of a group that can be restored, one by one
KEEP, APART, OPEN = "keep", "apart", "open"  # some are kept; they are no duplicates; not decided (any more)
_LOG = logging.getLogger("spq.serve")


@dataclass(frozen=True)
class Picture:
    """A picture of a group. hash: of its bytes, in hexadecimal digits."""

    hash: str
    path: str
    is_kept: bool


@dataclass(frozen=True)
class Decision:
    """A decision about one group.

    Attributes:
        revision: of the file, when this was written. batch: the same for all decisions of one step, which is undone as a whole.
        before: the decision that this one replaced.
    """

    choice: str
    pictures: tuple[Picture, ...] = ()
    revision: int = 0
    batch: int = 0
    time: str = ""
    before: Decision | None = None


@dataclass(frozen=True)
class Decisions:
    """All decisions, by key of the group. The revision grows with every change of the file."""

    revision: int
    groups: dict[str, Decision]


NONE = Decisions(0, {})
Changes = dict[str, Decision]


def group_key(hashes: Iterable[str]) -> str:
    """The key of a group of pictures: it does not depend on names, on ids, or on the order.

    >>> group_key(["02", "01"]) == group_key(["01", "02"]) != group_key(["01", "02", "02"])
    True
    """
    return hashlib.blake2b(" ".join(sorted(hashes)).encode(), digest_size=10).hexdigest()


class DecisionFile:
    """The file of decisions in a folder. Threads and processes may share it; of two decisions about a group the later one counts.

    A damaged file is renamed and kept. `remark` says so, as long as it is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / DECISIONS
        self._lock = threading.Lock()
        self._known: tuple[object, Decisions] = (None, NONE)  # the state of the file, and what it holds

    def read(self) -> Decisions:
        """All decisions; none if there is no file yet.

        Raises:
            DataError: the file cannot be read.
        """
        with self._lock:
            return self._read()

    def change(self, make: Callable[[Decisions], Changes]) -> Decisions:
        """Write some decisions, and return all.

        Args:
            make: returns the new decisions. Their revision, batch (if it is 0) and time are set here.
        Raises:
            DataError: the file cannot be read or written.
        """
        with self._lock:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with held(self.folder / DECISIONS_LOCK, WAIT, stays=False):
                    return self._changed(make)
            except OSError as error:
                raise DataError(f"decisions cannot be kept in {self.folder}: {error.strerror or error}") from None

    def _changed(self, make: Callable[[Decisions], Changes]) -> Decisions:
        before = self._read(is_locked=True)
        changes, revision = make(before), before.revision + 1
        if not changes:
            return before
        time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        stamped = {
            key: replace(new, revision=revision, batch=new.batch or revision, time=new.time or time)
            for key, new in changes.items()
        }
        now = Decisions(revision, {**before.groups, **stamped})
        groups = {key: _to_json(decision) for key, decision in now.groups.items()}
        write_checked(self.path, {"revision": revision, "groups": groups}, FORMAT)
        self._known = self._state(), now
        return now

    def remark(self) -> str:
        """One line about files that were damaged, if there are any."""
        try:
            damaged = sorted(self.folder.glob("decisions.damaged-*.json"))
        except OSError:
            return ""
        if not damaged:
            return ""
        return (
            f"The file of decisions was damaged. It is kept as {damaged[-1].name}; later decisions are in a new file."
        )

    def _state(self) -> object:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self, is_locked: bool = False) -> Decisions:
        try:
            state = self._state()
            if state is None:
                return NONE
            if state != self._known[0]:
                self._known = state, _from_content(read_checked(self.path, FORMAT, MOST_BYTES))
            return self._known[1]
        except FileNotFoundError:
            return NONE
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}; give yourself permission") from None
        except NewerFormatError as error:
            raise DataError(f"{self.path}: {error}") from None
        except (JsonError, LookupError, TypeError, ValueError) as error:
            return self._put_aside(
                str(error) if isinstance(error, JsonError) else "it is no list of decisions", is_locked
            )

    def _put_aside(self, why: str, is_locked: bool) -> Decisions:
        try:
            if not is_locked:
                with held(self.folder / DECISIONS_LOCK, WAIT, stays=False):
                    return self._read(is_locked=True)  # another process may have written it since
            aside = _free_name(self.folder)
            self.path.rename(aside)
        except OSError as error:
            raise DataError(
                f"{self.path} is damaged ({why}) and cannot be renamed: {error.strerror}; move it away"
            ) from None
        _LOG.warning("%s is damaged (%s); it is kept as %s", self.path, why, aside.name)
        return NONE


def _free_name(folder: Path) -> Path:
    number = 1
    while (aside := folder / f"decisions.damaged-{number}.json").exists():
        number += 1
    return aside


def undone(decisions: Decisions, batch: int) -> Changes:
    """The changes that undo one step. Groups that were decided again since stay as they are."""
    return {
        key: replace(now.before or Decision(OPEN), time="")
        for key, now in decisions.groups.items()
        if now.batch == batch
    }


def decided(before: Decision | None, choice: str, pictures: Sequence[Picture]) -> Decision:
    """A new decision that remembers some of those before it."""
    return Decision(choice, tuple(pictures), before=_shortened(before, STEPS))


def _shortened(decision: Decision | None, steps: int) -> Decision | None:
    if decision is None or not steps:
        return None
    return replace(decision, before=_shortened(decision.before, steps - 1))


def _to_json(decision: Decision) -> dict[str, Any]:
    return {
        "choice": decision.choice,
        "pictures": [[each.hash, each.path, each.is_kept] for each in decision.pictures],
        "revision": decision.revision,
        "batch": decision.batch,
        "time": decision.time,
        "before": _to_json(decision.before) if decision.before else None,
    }


def _from_content(content: Any) -> Decisions:
    return Decisions(int(content["revision"]), {str(k): _from_json(v) for k, v in content["groups"].items()})


def _from_json(table: dict[str, Any]) -> Decision:
    pictures = tuple(Picture(str(h), str(path), bool(kept)) for h, path, kept in table["pictures"])
    if table["choice"] not in (KEEP, APART, OPEN):
        raise ValueError(table["choice"])
    before = _from_json(table["before"]) if table["before"] else None
    return Decision(table["choice"], pictures, int(table["revision"]), int(table["batch"]), str(table["time"]), before)
