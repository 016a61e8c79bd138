"""Replace a file in one step, so that a reader never sees half of it."""

from __future__ import annotations

import os
from pathlib import Path


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
