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
    try:
        return Path.home() / ".cache" / "spq"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"spq-{os.getuid()}"


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
