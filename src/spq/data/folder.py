"""A folder of pictures: recursive, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath

from spq.common.files import absolute
from spq.common.text import name_to_id
from spq.data.formats import (
    NEEDS_EXTRA,
    NEEDS_HEIF,
    kind_of,
    may_surprise,
    needs_heif,
    read_file,
    register_heif,
    starts_as_picture,
    suffix_of,
)
from spq.data.image_set import ImageSet, changed_at, limited
from spq.data.metadata import describe
from spq.data.rules import Rules, holds_own
from spq.data.walk import ARCHIVES, BROKEN, COLLECTIONS, PICTURE, Aside, walk
from spq.errors import AbsentError, DataError, ShutError

NOT_REGULAR = "not a regular file"
REMOTE = "it is in iCloud and not on this disk; download it"

DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # of Windows


class FolderImages(ImageSet):
    """All pictures below a folder.

    Hidden files and folders are passed over, and so are side folders of other programs, links to folders, and what `rules`
    leave out. `aside` says what that was.

    There may be none, if `rules` leave out all.

    Labels come from the tables beside the pictures, else they are the names of the folders that the pictures are in. Training
    never reads labels.
    """

    def __init__(self, name: str, root: Path, rules: Rules | None = None) -> None:
        rules = replace(rules or Rules(), root=root.absolute().as_posix())
        before = _identity(name, root)
        found = walk(str(root), rules)
        found.names.sort(key=lambda name: name.split("/"))
        maybe = (name for name in found.names if suffix_of(name) in NEEDS_EXTRA or may_surprise(name))
        closed = set() if register_heif() else {name for name in maybe if needs_heif(root / name)}
        self.names = [name for name in found.names if name not in closed]
        ids = [name_to_id(name) for name in self.names]
        unlisted = sorted((_below(root, error), error.strerror or str(error)) for error in found.failed)
        unopened = [(name_to_id(name), NEEDS_HEIF) for name in found.names if name in closed]
        unopened += [(name_to_id(name), NOT_REGULAR) for name in sorted(found.irregular)]
        unopened += [(name_to_id(name), BROKEN) for name in sorted(found.broken)]
        unopened += [(name_to_id(name), REMOTE) for name in sorted(set(found.remote).difference(found.names))]
        if _identity(name, root) != before:  # the list may be incomplete, and the rest would count as deleted
            raise DataError(f"{name} was replaced while it was listed; try again")
        if not (ids or found.left_out):
            raise AbsentError(
                f"no pictures in {name}; {_hint(unlisted, unopened, found.aside, found.is_empty)}", bool(unlisted)
            )
        self.root = root
        absent = [path for path, _ in found.aside.absent if not suffix_of(path)]
        told = describe(root, ids, found.tables, [*absent, *(path for path, _ in unlisted)], found.left_out)
        super().__init__(name, ids, told.labels, told.class_names, told.metadata)
        self.remarks = told.remarks
        self.unlisted, self.unopened, self.aside = unlisted, unopened, found.aside.as_ids()

    def read(self, position: int) -> bytes:
        return read_file(self.root / self.names[position])

    def stat(self, position: int) -> tuple[int, int]:
        size, mtime_ns, _ = self.status(position)
        return size, mtime_ns

    def status(self, position: int) -> tuple[int, int, int]:
        path = f"{self.root}/{self.names[position]}"
        try:
            status = os.stat(path)  # noqa: PTH116 (a Path is slower than the call)
        except OSError as error:
            raise ShutError(f"cannot read {path}: {error.strerror}") from None
        return status.st_size, changed_at(status), limited(status.st_ctime_ns)

    def path(self, position: int) -> Path | None:
        return absolute(self.root) / self.names[position]


def _identity(name: str, root: Path) -> tuple[int, int]:
    """Return device and inode of a folder; they change, for example, when a disk is unmounted from it.

    Raises:
        DataError: the folder does not exist or cannot be listed; os.walk would skip it silently.
    """
    try:
        os.scandir(root).close()
        status = root.stat()
    except FileNotFoundError:
        raise AbsentError(f"the folder no longer exists: {name}; it was removed while it was opened") from None
    except OSError as error:
        reason = f"cannot list {name}: {error.strerror}; make the folder readable"
        raise AbsentError(reason, is_there=True) from None
    return status.st_dev, status.st_ino


def file_of(root: Path, id_: str, rules: Rules | None = None) -> Path | None:
    """Find the file of an id without listing the folder; None if there is no such picture, or only the list can find it.

    It never returns a file that the list does not have: left out by rules, outside the folder, or behind a link to a folder.
    """
    rules = replace(rules or Rules(), root=root.absolute().as_posix())
    parts = id_.split("/")
    is_plain = "\\" not in id_ and "\0" not in id_ and not any(part in ("", ".", "..") for part in parts)
    if not is_plain or not leads_below(root, parts):
        return None
    path = root.joinpath(*parts)
    if not (kind_of(path.name) == PICTURE or may_surprise(path.name)) or not rules.takes(id_):
        return None
    above = list(path.parents)[: len(parts)][::-1]  # the root first
    if any(parent.is_symlink() for parent in above[1:]):
        return None
    below = [parent.name for parent in above[1:]]
    is_own = any(holds_own(str(f), name, f == root) for f, name in zip(above, [*below, ""], strict=True))
    if is_own or not path.is_file():
        return None
    return path if kind_of(path.name) == PICTURE or starts_as_picture(path) else None


def leads_below(root: PurePath, parts: Sequence[str]) -> bool:
    r"""Whether names are files below a folder, by the rules of its system: on Windows, `C:a` is on a drive and `nul` a device.

    >>> from pathlib import PurePosixPath, PureWindowsPath
    >>> leads_below(PureWindowsPath(r"D:\photos"), ["C:a.jpg"]), leads_below(PurePosixPath("/photos"), ["C:a.jpg"])
    (False, True)
    """
    if root.joinpath(*parts).parts != (*root.parts, *parts):
        return False
    names = (part.partition(".")[0].rstrip().lower() for part in parts)
    return not isinstance(root, PureWindowsPath) or not (":" in "".join(parts) or DEVICES.intersection(names))


def _below(root: Path, error: OSError) -> str:
    """Return the folder of an error as an id; `.` if the system does not name it."""
    return name_to_id(Path(error.filename or root).relative_to(root).as_posix())


def _hint(unlisted: list[tuple[str, str]], unopened: list[tuple[str, str]], aside: Aside, is_empty: bool) -> str:
    """What to do about a folder without pictures."""
    if unlisted:
        return (
            f"{len(unlisted)} of its folders cannot be listed, {unlisted[0][0]}: {unlisted[0][1]}; make them readable"
        )
    if unopened:
        return NEEDS_HEIF if unopened[0][1] == NEEDS_HEIF else f"{unopened[0][0]}: {unopened[0][1]}"
    held = sorted(COLLECTIONS.intersection(aside.other))
    if held:
        return f"it has {' and '.join(held)} files, which are collections: give these files themselves"
    if packed := sorted(ARCHIVES.intersection(aside.other)):
        return f"it has {' and '.join(packed)} files; unpack them"
    if aside.other:
        return f"it has files of {', '.join(sorted(aside.other)[:3])}, which spq does not read; convert them to JPEG or PNG"
    if aside.links:
        return f"it has links to folders, such as {aside.links[0]}; set `follow_links` to list them"
    if aside.skipped:
        return f"those in {min(aside.skipped)} are passed over; name it in `include` to take them"
    return (
        "it is empty: mount its disk, or give a folder with pictures"
        if is_empty
        else "give a folder with JPEG or PNG files"
    )
