"""Walk a folder: its pictures, and what lies beside them. Only files whose name says too little are opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from spq.common.text import name_to_id
from spq.data.formats import kind_of, may_surprise, starts_as_picture, suffix_of
from spq.data.rules import Rules, may_mount, own_folders

COUNTED = 5000  # entries of skipped folders that are looked at, to say how many pictures they have
EMPTY = "the folder is empty; if a disk belongs there, it is not mounted"
BROKEN = "what it links to is missing"
PICTURE, OTHER = "picture", "other picture"  # what `kind_of` returns
ALL = ("*",)
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # what describes pictures; other capital letters too
COLLECTIONS = {".parquet", ".tar"}  # they may hold pictures, and are given themselves
ARCHIVES = {".7z", ".rar", ".tgz", ".zip"}  # they may hold pictures, and are not opened
PLACEHOLDER = ".icloud"  # `.a.jpg.icloud` stands for a.jpg, which only Apple's servers have now
OF_SITES = "exported sites"  # what is passed over in them
Entry = os.DirEntry[str]


@dataclass
class Aside:
    """What lies beside the pictures of a collection. Paths are those of ids.

    Attributes:
        skipped: pictures that were passed over, by the name of their side folder; at least as many if `more`.
        links: linked folders that were not followed.
        other: files that are not read and may hold pictures, by suffix.
        absent: (folder, reason) of folders with nothing in them, whose disk may not be mounted.
        mounts: folders on another device than the folder above them.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    more: bool = False
    links: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    absent: list[tuple[str, str]] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)

    def add(self, other: Aside, prefix: str) -> None:
        """Add what lies beside another collection, whose ids get a prefix."""

        def below(path: str) -> str:
            return path if not prefix else prefix if path == "." else f"{prefix}/{path}"

        self.skipped += other.skipped
        self.more = self.more or other.more
        self.links += map(below, other.links)
        self.other += other.other
        self.absent += [(below(path), reason) for path, reason in other.absent]
        self.mounts += map(below, other.mounts)

    def as_ids(self) -> Aside:
        """The same with names as ids."""
        absent = [(name_to_id(name), reason) for name, reason in self.absent]
        links, mounts = (sorted(map(name_to_id, names)) for names in (self.links, self.mounts))
        return replace(self, links=links, absent=sorted(absent), mounts=mounts)


@dataclass
class Listing:
    """What a walk has found, as names below the root. Bytes that are not UTF-8 are surrogates, as in Python's file functions.

    Attributes:
        names: files in a picture format. irregular: such names that are no regular files. broken: links that lead nowhere.
        remote: pictures that are only on a server now. tables: what describes pictures, by its name.
        failed: folders that exist but cannot be listed.
        left_out: whether patterns left out a picture or a folder. is_empty: whether the root holds nothing, or side folders only.
        aside: what lies beside; its paths are names too.
    """

    names: list[str] = field(default_factory=list)
    irregular: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    failed: list[OSError] = field(default_factory=list)
    left_out: bool = False
    is_empty: bool = False
    aside: Aside = field(default_factory=Aside)


@dataclass(frozen=True)
class _Folder:
    """A folder to list: its path, its name below the root (empty for the root), and whether `include` takes all of it."""

    path: str
    below: str
    whole: bool
    device: int = 0


def walk(root: str, rules: Rules) -> Listing:
    """List the pictures below a folder. Names are in the order of the disk.

    Folders wait on a stack, so that none is too deep. Linked folders are listed last, so that a folder inside the collection
    keeps its own name, and each folder is listed once.
    """
    left_out, whole = rules.takes_root()
    run = _Walk(rules)
    run.listing.left_out = left_out
    if not left_out:
        device = os.stat(root).st_dev  # noqa: PTH116 (a Path may not hold it longer than the system allows)
        if os.stat(os.path.join(root, os.pardir)).st_dev != device:  # noqa: PTH116, PTH118
            run.listing.aside.mounts.append(".")
        run.stack.append(_Folder(root, "", whole, device))
    while run.stack or run.linked:
        if not run.stack:
            run.stack.append(run.linked.pop(run.linked.index(min(run.linked, key=lambda folder: folder.below))))
        folder = run.stack.pop()
        if run.is_new(folder):
            run.read(folder)
    _count_passed(run.listing.aside, run.passed)
    return run.listing


class _Walk:
    """A walk under way.

    Attributes:
        stack, linked: folders that are still to list; the linked ones follow when the stack is empty.
        passed: (name to report, entry) of what was passed over.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.listing, self.passed = Listing(), list[tuple[str, Entry]]()
        self.stack: list[_Folder] = []
        self.linked: list[_Folder] = []
        self._seen: set[tuple[int, int]] = set()

    def is_new(self, folder: _Folder) -> bool:
        """Whether a folder was not listed yet. It may be if links are followed, which may also lead in a circle."""
        if not self.rules.follow_links:
            return True
        try:
            status = os.stat(folder.path)  # noqa: PTH116 (as above)
        except OSError:
            return True  # the listing says why
        key = status.st_dev, status.st_ino
        is_new = not status.st_ino or key not in self._seen
        self._seen.add(key)
        return is_new

    def read(self, folder: _Folder) -> None:
        try:
            with os.scandir(folder.path) as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError):
            return  # it has vanished
        except OSError as error:
            error.filename = folder.path
            self.listing.failed.append(error)
            return
        own = own_folders({entry.name for entry in entries})
        if folder.below and own == ALL:
            self.passed += [(os.path.basename(folder.path), entry) for entry in entries]  # noqa: PTH119 (as above)
            return
        is_empty = True
        for entry in entries:
            below = f"{folder.below}/{entry.name}" if folder.below else entry.name
            if own and own != ALL and any(fnmatchcase(entry.name, pattern) for pattern in own) and _is_folder(entry):
                self.passed.append((OF_SITES, entry))
                is_empty = False
                continue
            if self.rules.is_skipped(entry.name, below):
                self._pass(entry, below)
                continue
            is_empty = False
            self._place(folder, entry, below)
        if is_empty and folder.below:
            self.listing.aside.absent.append((folder.below, EMPTY))
        self.listing.is_empty = self.listing.is_empty or (is_empty and not folder.below)

    def _place(self, folder: _Folder, entry: Entry, below: str) -> None:
        """Note an entry as what it is: a table, a folder or a picture."""
        if entry.name.lower() in TABLES:
            if not self.rules.is_excluded(entry.name, below):
                self.listing.tables.append(below)
        elif _is_folder(entry):
            self._enter(folder, entry, below)
        elif kind := _kind(entry):
            self._take(folder, entry, below, kind)

    def _pass(self, entry: Entry, below: str) -> None:
        name = _of_placeholder(entry.name)
        if name and kind_of(name) == PICTURE:
            self.listing.remote.append(below[: -len(entry.name)] + name)
        elif not entry.name.startswith("._") and not self.rules.is_excluded(entry.name, below):  # files of macOS
            self.passed.append((entry.name if _is_folder(entry) else "hidden files", entry))

    def _enter(self, folder: _Folder, entry: Entry, below: str) -> None:
        """Put a subfolder on the stack."""
        aside, rules = self.listing.aside, self.rules
        if rules.is_excluded(entry.name, below):
            self.listing.left_out = True
            return
        if entry.is_symlink() and not rules.follow_links:
            aside.links.append(below)
            return
        try:
            device = entry.stat().st_dev
        except OSError:
            if entry.is_symlink():
                self._note_broken(below)
                return
            device = folder.device  # the listing says why
        if device != folder.device:
            aside.mounts.append(below)
        whole = rules.is_wanted(entry.name, below) or folder.whole
        (self.linked if entry.is_symlink() else self.stack).append(_Folder(entry.path, below, whole, device))

    def _take(self, folder: _Folder, entry: Entry, below: str, kind: str) -> None:
        """Note a file in a picture format, unless patterns leave it out."""
        rules, listing = self.rules, self.listing
        if rules.is_excluded(entry.name, below) or not (rules.is_wanted(entry.name, below) or folder.whole):
            listing.left_out = True
            return
        if kind == OTHER:
            listing.aside.other[suffix_of(entry.name)] += 1
        elif _is_broken(entry):
            self._note_broken(below)
        elif _is_regular(entry):
            listing.names.append(below)
        else:
            listing.irregular.append(below)

    def _note_broken(self, below: str) -> None:
        """Note a link that leads nowhere: its target may be on a disk that is not mounted."""
        self.listing.broken.append(below)
        self.listing.aside.absent.append((below, BROKEN))


def _kind(entry: Entry) -> str:
    """As `kind_of`; a file whose name says too little is what it begins as, and one that holds files is another."""
    if suffix_of(entry.name) in COLLECTIONS | ARCHIVES:
        return OTHER
    return PICTURE if may_surprise(entry.name) and starts_as_picture(entry.path) else kind_of(entry.name)


def _is_folder(entry: Entry) -> bool:
    """Whether an entry is a folder or a link to one. A broken link without a suffix was probably one."""
    with suppress(OSError):  # a link that leads in a circle
        if entry.is_dir():
            return True
    return not suffix_of(entry.name) and _is_broken(entry)


def _of_placeholder(name: str) -> str:
    """Return the name of the picture that a placeholder stands for; empty if it is none.

    >>> _of_placeholder(".IMG_1.HEIC.icloud"), _of_placeholder(".IMG_1.HEIC")
    ('IMG_1.HEIC', '')
    """
    return name[1 : -len(PLACEHOLDER)] if name.startswith(".") and name.endswith(PLACEHOLDER) else ""


def _is_broken(entry: Entry) -> bool:
    """Whether an entry is a link that leads nowhere, or in a circle."""
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110 (as above)


def _is_regular(entry: Entry) -> bool:
    """False for pipes, sockets and devices."""
    try:
        return entry.is_file()
    except OSError:
        return True


def _count_passed(aside: Aside, passed: list[tuple[str, Entry]]) -> None:
    """Count pictures in what was passed over, up to a limit: there may be a side folder for each picture."""
    left = COUNTED
    for label, entry in passed:
        for name in _files_below(entry):
            aside.skipped[label] += kind_of(name) == PICTURE
            left -= 1
            if left < 0:
                aside.more, aside.skipped = True, +aside.skipped
                return
    aside.skipped = +aside.skipped  # without those that have none


def _files_below(entry: Entry) -> Iterator[str]:
    """Names of an entry itself, or of what is in this folder; folders have empty names.

    Links are not followed, and no disk is mounted.
    """
    stack = [entry]
    while stack:
        top = stack.pop()
        is_folder = _is_folder(top)
        yield "" if is_folder else top.name
        if is_folder and not top.is_symlink() and not may_mount(top.name):
            with suppress(OSError), os.scandir(top.path) as found:  # only root may list lost+found
                stack += found
