"""An index that was published at a URL, fetched into a cache of this machine, and followed.

    CACHE/published/HASH/00000012-CHECK/       the index folder of generation 12, complete
    CACHE/published/HASH/00000012-CHECK.json   what it consists of
    CACHE/published/HASH/parts/                what was downloaded of the next one
    CACHE/published/HASH/in-use/               a locked file for each process and the generation that it uses

Processes of a machine share the cache. The one that holds the lock fetches; generations that nobody uses are deleted.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from spq.common.files import Replacing, read_regular, sync_folder
from spq.common.json_file import MOST_BYTES
from spq.common.locks import held
from spq.common.timeout import answer_within
from spq.errors import DataError, SPQError, StoreError
from spq.index.shards.open_store import open_store
from spq.scale.download import Progress, download, part_name
from spq.scale.generation import (
    AGAIN,
    Generation,
    foreign_entry,
    list_generations,
    parse_generation,
    read_generation,
)
from spq.scale.urls import CHUNK, Place

LOOK_SECONDS = 5.0  # between two looks for a newer generation
FIRST_PAUSE, LAST_PAUSE = 10.0, 600.0  # before a generation that could not be fetched is tried again
GRACE = 60.0  # seconds that a generation stays after it was used: requests may still read it
ANSWER_SECONDS = 30.0  # that a start waits for the URL, if the cache has a generation
TRIES = 3  # of fetching the newest generation, while others are published
LOCK, PARTS, NEW, OLD, IN_USE = ".lock", "parts", ".new", ".old-", "in-use"
_numbers = itertools.count()  # of the generations that this process uses
Note = Callable[[str], None]
_LOG = logging.getLogger("spq.serve")


class PublishedIndex:
    """The index at a URL, for one process. It keeps what it uses until `close`.

    Args:
        cache: folder for the index, shared with other processes.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url, self.cache = url, cache
        self.place = Place(url)
        self.root = cache / "published" / hashlib.sha256(self.place.url.encode()).hexdigest()[:16]
        self._next_look = 0.0
        self._used: dict[str, ExitStack] = {}
        self._served: dict[str, float] = {}  # when a generation was last seen to be served
        self._last: tuple[object, Generation] | None = None  # what was known of a file, and what it held
        self._failure = ""  # of the last look
        self._failed, self._again, self._pause = (
            "",
            0.0,
            0.0,
        )  # a generation that could not be fetched, when to try it again

    def __reduce__(self) -> tuple[type[Self], tuple[str, Path]]:
        return type(self), (self.url, self.cache)  # another process has locks of its own

    def fetch(self, note: Note = lambda _: None, progress: Progress = lambda *_: None) -> Path:
        """Return the folder of the newest generation, fetched now if it is not in the cache.

        If that fails, and the cache has an earlier one, that one is returned.

        Args:
            note: called with a warning then.
        Raises:
            StoreError, DataError: the URL cannot be reached, has no published index, or a damaged one; and the cache has none.
        """
        self._make_root()
        try:
            newest = _within(ANSWER_SECONDS if self._cached() else math.inf, self._newest)
            with held(self.root / LOCK, math.inf):
                return self._kept(self._fetched(newest, progress))
        except (SPQError, OSError) as error:
            with held(self.root / LOCK, math.inf):
                if not (cached := self._cached()):
                    raise
                why = error if isinstance(error, SPQError) else error.strerror or error
                note(f"warning: {why}; generation {int(cached[:8])} of the cache is used")
                return self._kept(cached)

    def newer(self, serving: Path) -> Path | None:
        """Return the folder of another generation than the served one, if the URL has one by now. It is complete.

        At most one call in `LOOK_SECONDS` asks the URL. A generation that cannot be fetched is tried again after longer and
        longer pauses, since it may be large.

        Raises:
            SPQError, OSError: as `fetch`; the served generation stays in the cache. A failure that stays the same is raised once.
        """
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + LOOK_SECONDS
        self._served[serving.name] = now
        try:
            newest = self._newest()
            if newest.stem == self._failed and now < self._again:
                return None
            stem = self._taken_over(serving, newest, now)
        except BlockingIOError:  # another process fetches it
            return None
        except (SPQError, OSError) as error:
            if self._failure == str(error):
                return None
            self._failure = str(error)
            raise
        if self._failure:
            _LOG.info("%s can be read again", self.place.url)
        self._failure, self._pause = "", 0.0
        return None if stem == serving.name else self.root / stem

    def _taken_over(self, serving: Path, newest: Generation, now: float) -> str:
        """The name of the newest generation, which is fetched now if it is not in the cache, and kept."""
        self._make_root()
        with held(self.root / LOCK):
            if (self.root / serving.name).is_dir():
                self._use(serving.name)
            try:
                stem = self._fetched(newest, lambda *_: None)
            except (SPQError, OSError):
                self._pause = min(2 * self._pause or FIRST_PAUSE, LAST_PAUSE)
                self._failed, self._again = newest.stem, time.monotonic() + self._pause
                raise
            self._release(serving.name, stem, now)
            self._kept(stem)
            return stem

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.place.url.rstrip("/").rpartition("/")[2]

    @property
    def is_cached(self) -> bool:
        """Whether the cache has a generation, so that `fetch` does not need the URL."""
        return self._cached() is not None

    def close(self) -> None:
        """Use none any more."""
        for used in self._used.values():
            used.close()
        self._used.clear()

    def _make_root(self) -> None:
        (self.root / IN_USE).mkdir(parents=True, exist_ok=True)

    def _fetched(self, newest: Generation, progress: Progress) -> str:
        """The name of the newest generation, which is in the cache then. The caller holds the lock."""
        for _ in range(TRIES):
            if self._is_whole(newest):
                return newest.stem
            try:
                self._obtain(newest, progress)
            except FileNotFoundError as error:
                before, newest = newest, self._newest()
                if before == newest:
                    raise StoreError(str(error)) from None
            else:
                return newest.stem
        raise StoreError(f"{self.place.url}: new generations are published faster than they can be downloaded")

    def _newest(self) -> Generation:
        """The newest generation at the URL. Its file is read again only if it has changed.

        Raises:
            StoreError: there is none. DataError: it is damaged.
        """
        for _ in range(TRIES):
            found = list_generations(self.place)
            if not found:
                foreign = foreign_entry(self.place)
                there = f", but something else ({foreign})" if foreign else ""
                raise StoreError(f"no published index at {self.place.url}{there}; check the address, or `publish` one")
            number, facts = max(found.items())
            key = number, facts.get("size"), facts.get("ETag") or facts.get("mtime") or facts.get("etag")
            if self._last and self._last[0] == key:
                return self._last[1]
            with suppress(FileNotFoundError):  # deleted since it was listed
                generation = read_generation(self.place, number, facts)
                self._last = key, generation
                return generation
        raise StoreError(f"{self.place.url} changes all the time; try again")

    def _is_whole(self, generation: Generation) -> bool:
        """Whether the cache has all files of a generation, in their sizes."""
        folder = self.root / generation.stem
        return all(_has_size(folder / file.path, file.size) for file in generation.files)

    def _obtain(self, generation: Generation, progress: Progress) -> None:
        """Make the folder of a generation: link what the cache has, and download the rest."""
        known, parts = self._known_files(), self.root / PARTS
        missing = [file for file in generation.files if (file.size, file.check) not in known]
        download(self.place, missing, parts, progress)
        new = self.root / NEW
        shutil.rmtree(new, ignore_errors=True)
        for file in generation.files:
            target = new / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(known.get((file.size, file.check)) or parts / part_name(file), target)
        self._check_opens(new, generation)
        for folder, _, _ in os.walk(new):
            sync_folder(Path(folder))
        with Replacing(self._facts(generation.stem)) as temporary:
            temporary.write_bytes(generation.to_bytes())
        self._drop(generation.stem)
        new.rename(self.root / generation.stem)
        sync_folder(self.root)
        shutil.rmtree(parts, ignore_errors=True)

    def _check_opens(self, folder: Path, generation: Generation) -> None:
        """Refuse files that are not those of one index.

        Raises:
            DataError: they do not open.
        """
        where = f"{self.place.url}/{generation.name}"
        try:
            with open_store(folder) as store:
                model = store.manifest.model
        except StoreError as error:
            raise DataError(f"the index of {where} does not open: {error}") from None
        if model != generation.model:
            raise DataError(f"{where} is damaged: it names model {generation.model}, its index {model}; {AGAIN}")

    def _known_files(self) -> dict[tuple[int, str], Path]:
        """Files in the cache by size and checksum."""
        known = {}
        for stem in self._stems():
            with suppress(OSError, ValueError, SPQError):
                facts = read_regular(self._facts(stem), MOST_BYTES)
                for file in parse_generation(facts, int(stem[:8]), str(self._facts(stem))).files:
                    path = self.root / stem / file.path
                    if _has_size(path, file.size):
                        known[file.size, file.check] = path
        return known

    def _facts(self, stem: str) -> Path:
        return self.root / f"{stem}.json"

    def _stems(self) -> list[str]:
        """The names of complete generations in the cache, in the order of their numbers."""
        return sorted(path.name for path in self.root.glob("[0-9]*-*") if path.is_dir())

    def _cached(self) -> str | None:
        """The newest generation in the cache."""
        return max(self._stems(), key=lambda stem: (self.root / stem).stat().st_mtime_ns, default=None)

    def _kept(self, stem: str) -> Path:
        """The folder of a generation, which is used from now on; what nobody uses is deleted. The caller holds the lock."""
        folder = self._use(stem)
        self._tidy(stem)
        return folder

    def _use(self, stem: str) -> Path:
        """Keep others from deleting a generation. The caller holds the lock."""
        if stem not in self._used:
            self._used[stem] = stack = ExitStack()
            name = f"{stem}.{os.getpid()}-{next(_numbers)}"
            stack.enter_context(held(self.root / IN_USE / name, stays=False))
        return self.root / stem

    def _release(self, serving: str, newest: str, now: float) -> None:
        """Stop using what was served for the last time a while ago: requests may read on for some seconds."""
        for stem in [*self._used]:
            if stem not in (serving, newest) and now - self._served.get(stem, -GRACE) >= GRACE:
                self._used.pop(stem).close()
                self._served.pop(stem, None)

    def _tidy(self, newest: str | None) -> None:
        """Delete what nobody uses. The caller holds the lock."""
        for left in self.root.glob(f"{OLD}*"):
            shutil.rmtree(left, ignore_errors=True)
        for stem in self._stems():
            if stem == newest or self._is_used(stem):
                continue
            with suppress(OSError):  # Windows keeps what is open
                self._drop(stem)
                self._facts(stem).unlink(missing_ok=True)

    def _drop(self, stem: str) -> None:
        """Delete a generation, if it is there."""
        if (self.root / stem).exists():
            (self.root / stem).rename(self.root / f"{OLD}{stem}")  # a part of it never looks whole
            shutil.rmtree(self.root / f"{OLD}{stem}", ignore_errors=True)

    def _is_used(self, stem: str) -> bool:
        """Whether a process uses a generation. Locks of killed ones are free, and are deleted."""
        for file in (self.root / IN_USE).glob(f"{stem}.*"):
            try:
                with held(file, stays=False):
                    pass
            except BlockingIOError:
                return True
        return False


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk has no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        with source.open("rb") as old, target.open("wb") as new:
            shutil.copyfileobj(old, new, CHUNK)
            new.flush()
            os.fsync(new.fileno())


def _within(seconds: float, ask: Callable[[], Generation]) -> Generation:
    if math.isinf(seconds):
        return ask()
    try:
        return answer_within(seconds, ask)
    except TimeoutError as error:
        raise StoreError(f"the URL cannot be reached: {error}") from None
