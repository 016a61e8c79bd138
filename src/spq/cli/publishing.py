"""`spq index --publish`, and published indexes in the place of index folders."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from spq.cli.describe import counted
from spq.cli.failures import as_options
from spq.cli.indexing import command, names_index
from spq.cli.output import note, show
from spq.cli.stopping import when_stopped
from spq.common.files import expanded, user_cache
from spq.common.text import printable
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.scale.publish import PublishReport
    from spq.scale.published import PublishedIndex


def run_publish(names: Sequence[str], url: str, is_alone: bool, as_json: bool) -> None:
    """Publish an index at a URL.

    Args:
        names: what the command calls IMAGES. is_alone: whether no option asks for something else too.
    """
    from spq.cli.progress import Stages
    from spq.index.replacing import finish_replacing
    from spq.scale.publish import publish

    for name in names[:1]:
        finish_replacing(Path(name))
        if not Path(name).exists():
            raise ConfigError(f"no index at {name}; check the path")
    if not is_alone or len(names) != 1 or not names_index(names[0]):
        raise ConfigError(f"--publish {url} needs one index, and works alone: spq index INDEX --publish {url}")
    again = command("spq", "index", names[0], "--publish", url)
    with (
        when_stopped(f"what is published is whole, and what was uploaded is kept, go on with: {again}"),
        Stages() as stages,
    ):
        report = publish(Path(names[0]), url, stages.stage)
    note(report.note)
    if as_json:
        print(json.dumps({"index": names[0], **asdict(report)}))
    else:
        show(_report_text(report))


def _report_text(report: PublishReport) -> str:
    what = f"{printable(report.url)}: generation {report.generation}"
    if not report.is_new:
        return f"{what} is the index as it is now; nothing was uploaded"
    done = f"{counted(report.uploaded, 'file')} of {report.files:,} uploaded, {report.bytes_uploaded:,} bytes"
    return f"{what}, {counted(report.images, 'picture')} ({done})"


def names_published(name: str) -> bool:
    """Whether a name is a URL, or a folder with a published index: also one that is gone now, if the cache has it."""
    if "://" in name:
        return True
    folder = expanded(name)
    if not os.path.isdir(folder / "generations"):  # noqa: PTH112 (a Path may raise)
        return _is_gone(folder) and _is_cached(name)
    if names_index(name):
        return False
    from spq.scale.generation import is_published
    from spq.scale.urls import Place

    return is_published(Place(name))


def _is_gone(folder: Path) -> bool:
    """Whether a folder is not there, or is empty, as a place where a disk is mounted."""
    try:
        return not os.listdir(folder)  # noqa: PTH208 (a Path may raise)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _is_cached(name: str) -> bool:
    """Whether the cache has what was published at a place."""
    if not (user_cache() / "published").is_dir():
        return False
    from spq.scale.published import PublishedIndex

    return PublishedIndex(name, user_cache()).is_cached


def fetch(url: str) -> tuple[PublishedIndex, Path]:
    """A published index, and the folder of its newest generation, which is in the cache of this machine then."""
    from spq.cli.progress import counting
    from spq.scale.published import PublishedIndex

    published = PublishedIndex(url, user_cache())
    again = "what was downloaded is kept, run the same command to continue"
    with when_stopped(again), counting("downloading bytes") as progress:
        return published, published.fetch(lambda text: note(as_options(text, {"--publish"})), progress)


@contextmanager
def index_folder(name: str) -> Iterator[Path]:
    """The folder of an index: the name itself, or where a published one is fetched to, which stays there meanwhile."""
    if not names_published(name):
        yield Path(name)
        return
    published, folder = fetch(name)
    try:
        yield folder
    finally:
        published.close()


def absent_pictures(folder: Path) -> str:
    """A line about pictures that are not on this machine; empty if all collections are there."""
    from spq.index.manifest import read_manifest

    names = read_manifest(folder).origin.names
    absent = [name for name in names if not (is_named_set(name) or expanded(name).exists())]
    where = ", ".join(absent)
    return f"the pictures of {where} are not on this machine: hits have no pictures here" if absent else ""


def is_named_set(name: str) -> bool:
    """Whether a collection is one that any machine has, such as sample:test."""
    return ":" in name and "/" not in name and "\\" not in name
