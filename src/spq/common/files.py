"""Files: cache folders of the user, and a file replaced in one step, so that a reader never sees half of it."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_numbers = itertools.count()  # of temporary files of this process, whose threads may replace the same file
FULL = 1 << 16  # bytes: a disk with less room than this counts as full
STREAMS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))  # stdout is a file there if it was sent to one
LIBRARIES = {  # what other libraries keep below the user's cache folder, by the variable that names another place
    "HF_HOME": "huggingface",
    "TORCH_HOME": "torch",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}


def user_cache() -> Path:
    """Return the folder of all that can be made again: `$SPQ_CACHE`, else `spq` of the user's cache folder.

    A user without a cache folder that can be written, as in some containers, gets a folder of temporary files. Writing fails
    below the returned path if no folder at all can be written.
    """
    return lasting_cache() or _temporary_cache()


def lasting_cache() -> Path | None:
    """Return the cache folder that is still there at the next login; None if the user has none that can be written."""
    if given := os.environ.get("SPQ_CACHE"):
        return Path(given)
    return next(filter(can_be_written, _places("spq")), None)


def cached_file(name: str) -> Path:
    """Return a file in a cache folder: where it is, also if nothing can be written there, else where it can be kept."""
    given = os.environ.get("SPQ_CACHE")
    there = () if given else (place / name for place in _places("spq") if _exists(place / name))
    return next(iter(there), user_cache() / name)


def has_plain_name(path: Path) -> bool:
    """Whether libraries that know names as UTF-8 alone open this file; others read its bytes."""
    try:
        return os.fsencode(path) == str(path).encode()
    except UnicodeEncodeError:
        return False


def why_shut(error: Exception) -> str:
    """Say why the system does not open a file that is there, and what to do; empty if the file itself is the reason."""
    if not isinstance(error, OSError) or error.errno in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        return ""
    remedy = "give yourself permission" if error.errno in (errno.EACCES, errno.EPERM) else "check its disk"
    return f"cannot be read: {error.strerror}; {remedy}"


def read_regular(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes. A pipe could wait for ever, a device could never end.

    Raises:
        OSError: the system does not open it. ValueError: it is something else, or larger.
    """
    check_regular(path)  # first, because opening some devices already acts on them
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{size:,} bytes are more than {most:,}")
        return file.read(most)


def check_regular(path: Path) -> None:
    """Refuse a folder, a pipe and a device.

    Raises:
        OSError: nothing is there, or it is a folder. ValueError: it is a pipe or a device.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise ValueError("it is not a regular file")


def clear_place(path: Path) -> None:
    """Delete what is in the place of a file of a cache: a link would be followed, a pipe would be waited for.

    Raises:
        OSError: it is a folder.
    """
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, f"{os.strerror(errno.EISDIR)}; delete it", str(path))
        if not stat.S_ISREG(mode):
            path.unlink()


def set_library_caches() -> None:
    """Give other libraries places for their caches where the usual ones are neither there nor can be made.

    Without this, some of them fail, and others write to the working directory.
    """
    for variable, name in LIBRARIES.items():
        usual = _places(name)[:1]  # libraries try no second one
        if variable not in os.environ and not any(_exists(place) or can_be_written(place) for place in usual):
            os.environ[variable] = str(user_cache() / name)


def _places(name: str) -> list[Path]:
    """Return a folder of this name in the user's cache folders. A relative path is none of them, as XDG demands."""
    found = [Path(os.environ.get("XDG_CACHE_HOME", ""))]
    with suppress(RuntimeError):  # no home
        found.append(Path.home() / ".cache")
    return [folder / name for folder in found if folder.is_absolute()]


def _temporary_cache() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    with suppress(OSError):  # no folder for temporary files
        folder = Path(tempfile.gettempdir()) / f"spq-{user}"
        if not folder.exists() or user == "user" or folder.stat().st_uid == user:  # else somebody else has made it
            return folder
    return Path(os.devnull) / "spq"


def scratch_place(needed: int) -> Path:
    """Return a folder for temporary files: that of the system, or a cache folder if there is no room for so many bytes.

    Raises:
        OSError: no such folder can be written.
    """
    found = []
    for place_of in (tempfile.gettempdir, user_cache):
        with suppress(OSError):  # it cannot be written
            place = Path(place_of())
            place.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(place).free if can_be_written(place) else 0
            if free >= needed:
                return place
            found += [(free, place)] * bool(free)
    if not found:
        raise OSError(errno.EROFS, "no folder for temporary files can be written; set TMPDIR to one with room")
    return max(found)[1]


def can_be_written(folder: Path) -> bool:
    """Whether files can be written to a folder, or the folder can be made."""
    place = next((place for place in (folder, *folder.absolute().parents) if _exists(place)), folder)
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (a Path raises where a folder may not be entered)


def absolute(path: Path) -> Path:
    """Return the absolute path without `..`. Links stay as they are, except in a path with `..`: there they are followed.

    >>> absolute(Path("/photos/2024/../new.jpg")).as_posix()
    '/photos/new.jpg'
    """
    return path.resolve() if ".." in path.parts else path.absolute()


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


def is_scratch(path: str) -> bool:
    """Whether a path is in a folder that `scratch_place` may return."""
    places = [user_cache()]
    with suppress(OSError):  # none can be written
        places.append(Path(tempfile.gettempdir()))
    return any(path == str(place) or path.startswith(f"{place}{os.sep}spq-") for place in places)


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Name the place in errors of writing to it. The system names it only if it cannot be opened."""
    try:
        yield
    except Exception as error:
        if full := _full(error, place):
            raise full from None
        _name(error, place)
        raise


def _name(error: BaseException, place: Path) -> None:
    if isinstance(error, OSError):
        error.filename = error.filename or str(place)
    else:
        error.add_note(f"writing {place}")  # torch and others hide the system's reason


def remove_stale(folder: Path, *names: str, is_locked: bool = True) -> None:
    """Delete the parts of files that killed processes have left beside files of these names.

    Args:
        is_locked: the caller holds the lock of the one writer of these files, so nobody else is writing them now. Otherwise a
            part stays if a process with its number runs.
    """
    part = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.(\d+)(-\d+)?")
    with suppress(OSError):  # no folder, or one that cannot be listed or written
        for file in folder.iterdir():
            if (found := part.fullmatch(file.name)) and not _may_be_written(int(found[2]), is_locked):
                file.unlink()


def _may_be_written(pid: int, is_locked: bool) -> bool:
    return pid == os.getpid() if is_locked else is_running(pid)


def is_full(place: Path) -> bool:
    """Whether the disk of a path has no room left."""
    there = next((path for path in (place, *place.absolute().parents) if _exists(path)), place)
    try:
        return shutil.disk_usage(there).free < FULL
    except OSError:
        return False


def _full(error: BaseException, place: Path) -> OSError | None:
    """The error of a full disk, where torch raises a RuntimeError without the system's reason."""
    if isinstance(error, RuntimeError) and is_full(place):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
    return None


def is_running(pid: int) -> bool:
    """Whether a process runs, as far as can be known."""
    if os.name == "nt":  # where this would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def reserve(file: IO[bytes], size: int, place: Path) -> None:
    """Take room on the disk, where the system can: if a disk is full, writing to a memory map would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with naming(place):
            os.posix_fallocate(file.fileno(), 0, size)


class Replacing:
    """A context that gives a temporary path. At its end the new file replaces the target, or what the target links to.

    A reader sees the old file or the new one. After an error the target stays as it was. What is no regular file, such as a
    pipe or `/dev/stdout`, is not replaced: the content is written into it.
    """

    def __init__(self, target: Path) -> None:
        self.target = Path(os.path.realpath(target))
        self.is_stream = target.exists() and (not target.is_file() or target.parent in STREAMS)
        if self.is_stream:
            self.target = target
        folder = scratch_place(0) if self.is_stream else self.target.parent
        self.temporary = folder / f".{target.name}.{os.getpid()}-{next(_numbers)}"  # as `remove_stale` knows them

    def __enter__(self) -> Path:
        remove_stale(self.temporary.parent, self.target.name, is_locked=False)
        with suppress(OSError):  # a link there would be followed
            self.temporary.unlink()
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            full = _full(error, self.target)  # before the room of what was written is free again
            self._fail(error)
            if full:
                raise full from None
            return
        try:
            self._finish()
        except OSError as failure:
            self._fail(failure)
            raise

    def _finish(self) -> None:
        with self.temporary.open("rb") as file:
            if self.is_stream:
                with self.target.open("ab") as stream:
                    shutil.copyfileobj(file, stream)
            else:
                os.fsync(file.fileno())
        if self.is_stream:
            self.temporary.unlink()
        else:
            self.temporary.replace(self.target)

    def _fail(self, error: BaseException) -> None:
        """Name the target in the error, and delete what was written."""
        if isinstance(error, OSError) and error.filename == str(self.temporary):
            error.filename = None
        _name(error, self.target)
        with suppress(OSError):
            self.temporary.unlink()
