"""Files: the user's cache folder, and a file replaced in one step, so that a reader never sees half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """Return the folder of all that can be made again: `$SPQ_CACHE`, else `spq` of the user's cache folder.

    A user without a home, as in some containers, gets a folder of temporary files.
    """
    if given := os.environ.get("SPQ_CACHE"):
        return Path(given)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "spq"
    if has_home():
        return Path.home() / ".cache" / "spq"
    return Path(tempfile.gettempdir()) / f"spq-{os.getuid()}"


def has_home() -> bool:
    """Whether the system knows a home of this user."""
    try:
        return bool(Path.home())
    except RuntimeError:
        return False


def expanded(path: str) -> Path:
    """Return the path with `~` as the user's home. A folder that is called `~name` stays what it is.

    >>> expanded("~no such user/photos").as_posix()
    '~no such user/photos'
    """
    given = Path(path)
    if given.exists():
        return given
    try:
        return given.expanduser()
    except RuntimeError:  # no such user, or no home
        return given


def sync_folder(folder: Path) -> None:
    """Write the names of a folder to the disk, where the system can: Windows opens no folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Replacing:
    """A context that gives a temporary path beside the target. At its end the new file replaces the target.

    A reader sees the old file or the new one. After an error the target stays as it was.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".{target.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.temporary.unlink(missing_ok=True)
            return
        with self.temporary.open("rb") as file:
            os.fsync(file.fileno())
        self.temporary.replace(self.target)
