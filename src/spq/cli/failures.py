"""Errors as the command line shows them: one line and an exit status."""

from __future__ import annotations

import errno
import os
import re

from spq.common.files import is_scratch, user_cache


def explanation(error: Exception) -> tuple[str, int] | None:
    """One line and an exit status for errors of other libraries that a user can fix; None for all others."""
    if hasattr(error, "format_message"):  # an error of click, of which typer may carry its own copy
        message = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")
        command = getattr(getattr(error, "ctx", None), "command_path", "spq")
        return f"{message}; see {command} --help", 2
    if "inline_container" in str(error) or type(error).__name__ == "SafetensorError":
        # torch and safetensors hide the system's reason when a file cannot be written
        what = next(iter(getattr(error, "__notes__", ())), "writing the model or its checkpoint")
        return f"{what} failed; is the disk full?", 1
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):  # torch, on GPU and on CPU
        return "out of memory; close other programs, or use --device cpu", 1
    if isinstance(error, ImportError) and "failed to map segment" in str(error):  # a limit of memory, such as ulimit -v
        return "out of memory while a library was loaded; close other programs, or raise the limit of memory", 1
    if isinstance(error, MemoryError):
        return "out of memory; use fewer pictures, or a smaller --image-size", 1
    if isinstance(error, OSError):
        name = error.filename2 or error.filename  # the second one, of a copy, is where it is written to
        place = f": {name}" if name else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full{place}; free some space{_other_place(str(name))}", 1
        if error.errno == errno.EFBIG:
            return f"the disk, or a limit such as ulimit -f, allows no larger file{place}; use another place", 1
        return f"{error.strerror or error}{place}", 1
    return None


def _other_place(path: str) -> str:
    """The variable that gives a file another place, if it is of a cache or temporary."""
    if is_scratch(path):
        return ", or set TMPDIR to a folder on another disk"
    return ", or set SPQ_CACHE to a folder on another disk" if path.startswith(f"{user_cache()}{os.sep}") else ""


def as_options(message: str, options: set[str]) -> str:
    """Write the parameters that a library error names as command-line options.

    >>> as_options("`image_size` 7 is too small; see `Model.truncate`", {"--image-size"})
    '--image-size 7 is too small; see `Model.truncate`'
    """

    def option(match: re.Match[str]) -> str:
        name = f"--{match[1].replace('_', '-')}"
        return name if name in options else match[0]

    return re.sub(r"`(\w+)`", option, message)
