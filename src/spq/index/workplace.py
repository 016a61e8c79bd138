"""A place beside a target, for work that gets the name of the target when it is complete."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from spq.common.files import naming, sync_folder
from spq.common.locks import held
from spq.errors import ConfigError, StoreError

PART = ".spq-part"  # how folders of unfinished work end


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder, which gets the name of the target at the end of the block.

    Raises:
        ConfigError: the target exists. StoreError: another process makes the same target. OSError: it names the target.
    """
    check_unused(target)
    with workplace(target) as place:
        made = place / "new"
        made.mkdir()
        yield made
        give_name(made, target)


def check_unused(folder: Path) -> None:
    """Refuse a folder that holds something, and what is no folder.

    Raises:
        ConfigError: it exists.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise _exists(folder)


def _exists(folder: Path) -> ConfigError:
    return ConfigError(f"{folder} exists; give a new folder, so that nothing is replaced")


def give_name(made: Path, folder: Path) -> None:
    """Write a folder to the disk, and give it its name.

    Raises:
        ConfigError: the name is taken.
    """
    for part, _, names in os.walk(made):
        for name in names:
            with (Path(part) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(part))
    try:
        made.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise _exists(folder) from None
    sync_folder(folder.absolute().parent)


@contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """A folder beside the target, for one process at a time. It is deleted at the end, and so are those of killed ones.

    Raises:
        StoreError: another process makes the same target. OSError: it names the target, for example if the disk is full.
    """
    target = target.absolute()
    for left in target.parent.glob(f".*{PART}"):
        _delete_left(left)
    place = target.with_name(f".{target.name}{PART}")
    with ExitStack() as stack:
        try:
            _hold(place, stack)
        except BlockingIOError:
            raise StoreError(f"another process is writing {target}; wait for it to end") from None
        try:
            yield place
        except OSError as error:
            if not error.filename or str(error.filename).startswith(str(place)):
                raise OSError(error.errno, error.strerror, str(target)) from None
            raise
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _hold(place: Path, stack: ExitStack) -> None:
    """Make an empty folder and hold its lock."""
    for last in (False, False, True):
        with naming(place):
            place.mkdir(exist_ok=True)
        try:
            stack.enter_context(held(place / ".lock", wait=1))
        except FileNotFoundError:  # another process took it for a left one
            if last:
                raise
        else:
            break
    for entry in place.iterdir():
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _delete_left(place: Path) -> None:
    """Delete the folder of a killed process."""
    with suppress(OSError), held(place / ".lock"):
        shutil.rmtree(place)
