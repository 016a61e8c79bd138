"""`spq index --backup` and `--restore`: an index as one file, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spq.cli.describe import counted
from spq.cli.indexing import names_index
from spq.cli.stopping import AGAIN, when_stopped
from spq.common.text import printable
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.index.backup import Contents


def run_backup(
    names: Sequence[str], out: Path | None, backup: Path | None, restore: str | None, is_alone: bool, as_json: bool
) -> None:
    """Back up an index, or make a new one of a backup.

    Args:
        names: what the command calls IMAGES. is_alone: whether no option asks for something else too.
    """
    if (backup and restore) or not is_alone:
        raise ConfigError(f"--{'backup' if backup else 'restore'} works alone; omit the other options")
    if backup:
        _report(_back_up(names, out, backup), backup, as_json)
    elif restore:
        _report(_restore(names, restore, out), out, as_json)


@when_stopped(f"nothing was written and the index is as it was, {AGAIN}")
def _back_up(names: Sequence[str], out: Path | None, file: Path) -> Contents:
    from spq.cli.checks import check_file
    from spq.cli.progress import Stages
    from spq.index.backup import back_up

    given = [*names, *([str(out)] if out else [])]
    if len(given) == 1 and not Path(given[0]).exists():
        raise ConfigError(f"no index at {given[0]}; check the path")
    if len(given) != 1 or not names_index(given[0]):
        raise ConfigError(f"--backup {file} needs one index: spq index INDEX --backup {file}")
    check_file("--backup", file)
    with Stages() as stages:
        return back_up(Path(given[0]), file, stages.stage)


@when_stopped(f"nothing was written, {AGAIN}")
def _restore(names: Sequence[str], source: str, out: Path | None) -> Contents:
    from spq.cli.checks import check_folder
    from spq.cli.progress import Stages
    from spq.cli.publishing import index_folder, names_published
    from spq.index.backup import restore, restore_folder
    from spq.index.workplace import check_unused

    if names or not out:
        raise ConfigError(f"--restore {source} needs a new folder: spq index --restore {source} --out INDEX")
    check_folder("--out", out)
    if names_published(source):
        check_unused(out)  # before it is fetched
        with index_folder(source) as folder, Stages() as stages:
            return restore_folder(folder, out, stages.stage)
    with Stages() as stages:
        return restore(Path(source), out, stages.stage)


def _report(contents: Contents, place: Path | None, as_json: bool) -> None:
    """Print what was written."""
    facts = {"images": contents.images, "bytes": contents.bytes, "model": contents.model}
    if as_json:
        print(json.dumps({"out": str(place), **facts}))
    else:
        print(
            f"{printable(str(place))}: {counted(contents.images, 'item')}, {contents.bytes:,} bytes, checked and complete"
        )
