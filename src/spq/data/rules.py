"""Which files and folders of a collection are taken: the user's patterns, and side folders that no user wants."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache

from spq.common.patterns import Pattern, pattern
from spq.common.text import composed

# Folders that systems, disks and other programs make beside pictures. Compared without case. All hidden names belong to them.
SIDE_FOLDERS = {
    "@eadir", "@recycle", "@recently-snapshot", "@__thumb", "@tmp", "@sharesnap", "@synoeastream",
    "#recycle", "#snapshot", "~snapshot", "network trash folder", "temporary items",
    "$recycle.bin", "recycler", "recycled", "system volume information", "lost+found",
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r",
    "thumbs", "trash", "files_trashbin", "files_versions",
}  # fmt: skip
SIDE_STARTS = (".", "appdata_oc")  # hidden; previews of Nextcloud
SIDE_ENDS = (".lrdata",)  # previews of Lightroom
LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")  # of Apple's programs
ORIGINALS = {"originals", "masters"}  # folders of a library; its other folders hold smaller copies
SNAPSHOTS = ("snap", ".zfs")  # names that have this may mount a disk as soon as they are listed

SITE, SITE_FOLDERS = (
    "spq-site.json",
    ("thumbs", "content-*"),
)  # the mark of an exported site, and what it has of pictures
CACHE = "CACHEDIR.TAG"  # marks a folder that can be made again, for all programs; bford.info/cachedir
CACHE_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n"  # how its file begins
OWN = ({"manifest.json", "items.sqlite"}, {"config.json", "model.safetensors"})  # files that mark an index, a model
Names = Iterable[str]


@dataclass(frozen=True)
class Rules:
    """What is taken of one collection. `Source` explains the patterns.

    Attributes:
        prefix: with which the ids of this collection begin, if it is one of several; patterns may name it.
        root: absolute path of its folder; patterns may have all of it, or begin with its name.
        hits: patterns that have matched something so far.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    follow_links: bool = False
    prefix: str = ""
    root: str = ""
    hits: set[str] = field(default_factory=set, compare=False, repr=False)

    @cached_property
    def wanted(self) -> list[str]:
        """The patterns of `include` that limit the collection. Those that name a side folder only take it in too."""
        return [pattern for pattern in self.include if not _names_side(pattern)]

    @cached_property
    def named(self) -> list[str]:
        """The patterns of `include` that take in side folders."""
        return [pattern for pattern in self.include if _names_side(pattern)]

    def is_skipped(self, name: str, path: str) -> bool:
        """Whether a file or folder is left out by default. `include` takes it in by its name."""
        if not is_side(name):
            library = path[: -len(name) - 1] or self.root
            if not library.lower().endswith(LIBRARIES) or name.lower() in ORIGINALS:
                return False
        return not (self.named and self._matches(self.named, name, path))

    def is_excluded(self, name: str, path: str) -> bool:
        """Whether a pattern of `exclude` matches this file or folder itself."""
        return bool(self.exclude) and self._matches(self.exclude, name, path)

    def is_wanted(self, name: str, path: str) -> bool:
        """Whether a pattern of `include` matches this file or folder itself, or there is none."""
        return not self.wanted or self._matches(self.wanted, name, path)

    def takes(self, path: str) -> bool:
        """Whether a picture is taken, by its path alone."""
        steps = [*_steps(path)]
        is_left_out, is_whole = self.takes_root()
        if is_left_out or any(self.is_skipped(name, at) for name, at in steps):
            return False
        if any(self.is_excluded(name, at) for name, at in steps):
            return False
        return any(self.is_wanted(name, at) for name, at in steps) or is_whole

    def takes_root(self) -> tuple[bool, bool]:
        """Whether patterns leave out all of the collection by its prefix or path; and whether they take all of it."""
        steps = [(name, [at]) for name, at in _steps(self.prefix)] if self.prefix else []
        steps += [("", [tail for tail in _tails(self.root) if "/" in tail])] if self.root else []
        return (
            any(matches(self.exclude, name, paths, hits=self.hits) for name, paths in steps),
            not self.wanted or any(matches(self.wanted, name, paths, hits=self.hits) for name, paths in steps),
        )

    def _matches(self, patterns: Sequence[str], name: str, path: str) -> bool:
        paths = [path, f"{self.prefix}/{path}"] if self.prefix else [path]
        return matches(patterns, name, paths, self.root, self.hits)


def is_side(name: str) -> bool:
    """Whether a name is one that no user gives to pictures.

    >>> [is_side(name) for name in ("@eaDir", ".thumbnails", "Thumbs.db", "A Previews.lrdata", "2024", "*.jpg")]
    [True, True, True, True, False, False]
    """
    lower = name.lower()
    return lower in SIDE_FOLDERS or lower.startswith(SIDE_STARTS) or lower.endswith(SIDE_ENDS)


def own_folders(names: set[str]) -> tuple[str, ...]:
    """Patterns of subfolders that spq or a cache has made, by the names in a folder; `*` is all of the folder.

    >>> own_folders({"spq-site.json", "thumbs", "a.jpg"}), own_folders({"a.jpg", "config.json"})
    (('thumbs', 'content-*'), ())
    """
    if CACHE in names or any(marks <= names for marks in OWN):
        return ("*",)
    return SITE_FOLDERS if SITE in names else ()


def holds_own(folder: str, name: str, is_root: bool) -> bool:
    """Whether spq or a cache has made this subfolder, or all that is in the folder if `name` is empty.

    It looks for a few files, and lists nothing. `file_of` needs that. The root itself was given by the user.
    """
    marks = {CACHE, SITE, *(mark for marks in OWN for mark in marks)}
    patterns = own_folders({mark for mark in marks if os.path.exists(f"{folder}/{mark}")})  # noqa: PTH110 (quicker)
    return any(fnmatchcase(name, pattern) for pattern in patterns if not (is_root and pattern == "*"))


def may_mount(name: str) -> bool:
    """Whether listing a folder may mount disks: folders of snapshots do so."""
    return any(part in name.lower() for part in SNAPSHOTS)


def matches(patterns: Sequence[str], name: str, paths: Names, root: str = "", hits: set[str] | None = None) -> bool:
    """Whether a pattern matches a name, or, if it has a `/`, one of the paths.

    Args:
        root: folder of the collection; a pattern may begin with its name or path.
        hits: each pattern that matches is added.

    >>> matches(["*.gif"], "b.gif", ["a/b.gif"]), matches(["a/*"], "b", ["a/b"]), matches(["b"], "b.gif", ["b/b.gif"])
    (True, True, False)
    >>> matches(["photos/a"], "a", ["a"], "/data/photos"), matches(["/data/photos/a"], "a", ["b/a"], "/data/photos")
    (True, False)
    """
    found = False
    for text in patterns:
        if found and (hits is None or text in hits):
            continue
        for wanted in _readings(text, root):
            if any(map(wanted.fits, paths if wanted.has_folders else (name,))):
                found = True
                if hits is not None:
                    hits.add(text)
    return found


@lru_cache(10_000)
def _readings(text: str, root: str) -> list[Pattern]:
    """What a pattern means: itself, and what is left without the path of the collection at its begin, or the end of it."""
    wanted = pattern(text)
    places = _tails(composed(root).lower()) if wanted.has_folders else ()
    rests = (wanted.text[len(p) :] for p in places if wanted.text.lower().startswith(f"{p}/"))
    return [wanted, *map(pattern, rests)]


def _tails(root: str) -> list[str]:
    """The ways to name a folder by the end of its path.

    >>> _tails("/data/b/photos")
    ['data/b/photos', 'b/photos', 'photos']
    """
    parts = root.strip("/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts)) if parts[start]]


def _names_side(pattern: str) -> bool:
    """
    >>> [_names_side(pattern) for pattern in ("@eaDir", "a/#rec*", ".cache", "*", "a*", "l*")]
    [True, True, True, False, False, False]
    """
    last = pattern.strip("/").rpartition("/")[2].lower()
    begins = last.startswith(("@", "#", "$", "~")) and any(fnmatchcase(side, last) for side in SIDE_FOLDERS)
    return begins or is_side(last)


def _steps(path: str) -> Iterable[tuple[str, str]]:
    """Name and path of each folder on the way to a file, and of the file."""
    end = -1
    while end < len(path):
        begin, end = end + 1, path.find("/", end + 1)
        end = len(path) if end < 0 else end
        yield path[begin:end], path[:end]
