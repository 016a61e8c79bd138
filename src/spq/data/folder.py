"""A folder of pictures: recursive, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath, PureWindowsPath

from spq.common.text import name_to_id
from spq.data.formats import EXTENSIONS, NEEDS_EXTRA, NEEDS_HEIF, needs_heif, read_file, register_heif
from spq.data.image_set import ImageSet, changed_at
from spq.data.metadata import describe
from spq.errors import DataError, ImageError

DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # of Windows


class FolderImages(ImageSet):
    """All pictures below a folder. Hidden files and folders are skipped, and links to folders are not followed.

    Labels come from the tables beside the pictures, else they are the names of the folders that the pictures are in. Training
    never reads labels.
    """

    def __init__(self, name: str, root: Path) -> None:
        before = _identity(name, root)
        failed: list[OSError] = []
        found = sorted(_walk(root, EXTENSIONS, failed.append), key=lambda name: name.split("/"))
        maybe = [] if register_heif() else [name for name in found if _suffix(name) in NEEDS_EXTRA]
        closed = {name for name in maybe if needs_heif(root / name)}
        self.names = [name for name in found if name not in closed]
        ids = [name_to_id(name) for name in self.names]
        unlisted = sorted((_below(root, error), error.strerror or str(error)) for error in failed)
        unopened = [(name_to_id(name), NEEDS_HEIF) for name in found if name in closed]
        if _identity(name, root) != before:  # the list may be incomplete, and the rest would count as deleted
            raise DataError(f"{name} was replaced while it was listed; try again")
        if not ids:
            raise DataError(f"no pictures in {name}; {_hint(unlisted, unopened)}")
        self.root = root
        told = describe(root, ids)
        super().__init__(name, ids, told.labels, told.class_names, told.metadata)
        self.remarks = told.remarks
        self.unlisted, self.unopened = unlisted, unopened

    def read(self, position: int) -> bytes:
        return read_file(self.root / self.names[position])

    def stat(self, position: int) -> tuple[int, int]:
        path = f"{self.root}/{self.names[position]}"
        try:
            status = os.stat(path)  # noqa: PTH116 (a Path is slower than the call)
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}") from None
        return status.st_size, changed_at(status)

    def path(self, position: int) -> Path | None:
        return (self.root / self.names[position]).absolute()


def _identity(name: str, root: Path) -> tuple[int, int]:
    """Return device and inode of a folder; they change, for example, when a disk is unmounted from it.

    Raises:
        DataError: the folder does not exist or cannot be listed; os.walk would skip it silently.
    """
    try:
        os.scandir(root).close()
        status = root.stat()
    except FileNotFoundError:
        raise DataError(f"the folder no longer exists: {name}; it was removed while it was opened") from None
    except OSError as error:
        raise DataError(f"cannot list {name}: {error.strerror}; make the folder readable") from None
    return status.st_dev, status.st_ino


def file_of(root: Path, id_: str) -> Path | None:
    """Find the file of an id without listing the folder; None if there is no such picture, or only the list can find it.

    It never returns a file that the list does not have: hidden, outside the folder, or behind a link to a folder.
    """
    parts = id_.split("/")
    is_plain = "\\" not in id_ and "\0" not in id_ and all(part and not part.startswith(".") for part in parts)
    if not is_plain or not leads_below(root, parts):
        return None
    path = root.joinpath(*parts)
    is_picture = path.suffix.lower() in EXTENSIONS
    behind_link = any(parent.is_symlink() for parent in list(path.parents)[: len(parts) - 1])
    return path if is_picture and not behind_link and path.is_file() else None


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


def _walk(root: Path, extensions: frozenset[str], on_error: Callable[[OSError], None]) -> Iterator[str]:
    """Yield file names below root. Bytes that are not UTF-8 become surrogates, as Python's file functions expect.

    Args:
        on_error: called for each folder that exists but cannot be listed.
    """

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            on_error(error)

    for folder, folders, files in os.walk(root, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(folder).relative_to(root).as_posix()
        for file in files:
            if not file.startswith(".") and _suffix(file) in extensions:
                yield file if prefix == "." else f"{prefix}/{file}"


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower()


def _below(root: Path, error: OSError) -> str:
    """Return the folder of an error as an id; `.` if the system does not name it."""
    return name_to_id(Path(error.filename or root).relative_to(root).as_posix())


def _hint(unlisted: list[tuple[str, str]], unopened: list[tuple[str, str]]) -> str:
    if unlisted:
        return (
            f"{len(unlisted)} of its folders cannot be listed, {unlisted[0][0]}: {unlisted[0][1]}; make them readable"
        )
    return NEEDS_HEIF if unopened else "give a folder with JPEG or PNG files"
