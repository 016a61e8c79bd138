"""`spq index`: build or update an index, compact it, verify it, back it up and restore it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spq.cli.backing_up import run_backup
from spq.cli.describe import counted, listed, passed_over
from spq.cli.failures import as_options
from spq.cli.from_encoded import Encoded, run_encoded
from spq.cli.indexing import IndexTask, Patterns, command, names_index, open_collection, update
from spq.cli.moving_items import Sharding, run_sharding
from spq.cli.options import SOURCES, AsJson, Device, Exclude, FollowLinks, Include, MaxPixels, ShorterBits, Threads
from spq.cli.output import note, show
from spq.cli.publishing import run_publish
from spq.cli.stopping import CONTINUE, when_stopped
from spq.common.text import printable
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.index.sync import SyncReport


@when_stopped(f"encoded pictures are kept, {CONTINUE}")
def index(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGES...", help=f"{SOURCES} Or an index, to update it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Index folder to write or to update.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model folder. Default: the index's own model, or codes without training.")
    ] = None,
    exclude: Exclude = None,
    include: Include = None,
    follow_links: FollowLinks = None,
    bits: ShorterBits = None,
    replace_: Annotated[
        bool, typer.Option("--replace", help="Index only IMAGES; without it, they are added to what OUT has already.")
    ] = False,
    keep_missing: Annotated[
        bool, typer.Option("--keep-missing", help="Keep pictures whose files no longer exist.")
    ] = False,
    remove_missing: Annotated[
        bool,
        typer.Option(
            "--remove-missing", help="Remove also pictures of folders that are empty or not mounted, however many."
        ),
    ] = False,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every picture again, also those of unchanged size and time.")
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Free unused disk space in the index.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check all of the index; exit status 1 if it has faults.")
    ] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="With --verify: read, hash and encode all pictures again, too.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what --verify finds: encode damaged pictures again, and no others.")
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Back up the index to a new file; others may write to it meanwhile."),
    ] = None,
    restore: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="Make a new index OUT of the file of a --backup, or of a --publish."),
    ] = None,
    encoded: Annotated[
        str | None, typer.Option(metavar="URL", help="Make a new index OUT, with shards, of a finished spq encode job.")
    ] = None,
    to_shards: Annotated[
        bool, typer.Option("--to-shards", help="Move the items of a large index into shards: files that never change.")
    ] = False,
    to_database: Annotated[
        bool, typer.Option("--to-database", help="Move the items of shards back into the database.")
    ] = False,
    lists: Annotated[
        bool,
        typer.Option("--lists", help="Make lists of similar codes in shards, for faster searches that are not exact."),
    ] = False,
    shard_items: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Items of a shard, at most; with --to-shards or --encoded. [default: 5,000,000]"
        ),
    ] = None,
    publish: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Publish the index in an object store or a shared folder, for spq serve URL."),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another process writes to OUT.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    as_json: AsJson = False,
) -> None:
    """Encode pictures into an index, or update an index.

    A new index without --model takes the best pretrained network on this machine, and needs no training.
    An update adds new pictures, encodes changed ones again and removes missing ones.
    Pictures in folders that cannot be read, are empty or not mounted are kept. More IMAGES are added to those of the index.
    An index alone, with --compact, --verify, --repair, --backup, --publish, --to-shards or --to-database, is not
    updated.

    Example: spq index photos/ --out photos.index

    Example: spq index photos/ --model photos.spq --out photos.index

    Example: spq index more-photos/ --out photos.index

    Example: spq index photos.index

    Example: spq index photos.index --verify

    Example: spq index photos.index --repair

    Example: spq index photos.index --backup photos.backup

    Example: spq index photos.index --to-shards

    Example: spq index --encoded s3://bucket/job --out photos.index

    Example: spq index photos.index --publish s3://bucket/photos
    """
    from spq.index.replacing import finish_replacing

    patterns = Patterns(exclude, include, follow_links)
    asks_update = model or rehash or replace_ or remove_missing or patterns != Patterns()
    if backup or restore:
        is_alone = not (asks_update or compact or verify or publish)
        run_backup(images or [], out, backup, restore, is_alone=is_alone, as_json=as_json)
        return
    asks_more = compact or verify or pictures or repair or to_shards or to_database or lists
    if publish is not None:
        is_alone = not (asks_update or asks_more or out or encoded or shard_items)
        run_publish(images or [], publish, is_alone, as_json)
        return
    if encoded is not None:
        run_encoded(Encoded(encoded, out, shard_items, not (images or asks_update or asks_more)), as_json)
        return
    finish_replacing(out or Path((images or [""])[0]))
    names, out = _places(images or [], out, asks_more)
    if to_shards or to_database or lists or shard_items is not None:
        is_alone = not (asks_update or compact or verify or pictures or repair)
        is_alone = is_alone and bool(names) and names_index(names[0])
        run_sharding(out, Sharding(to_shards, to_database, lists, shard_items, is_alone), wait, as_json)
        return
    if repair:
        _repair(out, model, wait, device, as_json)
        return
    only_checks = (compact or verify or pictures) and (not names or names_index(names[0])) and not asks_update
    if not only_checks and not names:
        raise ConfigError("give IMAGES, or an index with --compact or --verify; see spq index --help")
    report, facts = None, dict[str, Any]()
    if not only_checks:
        task = _task(names, out, patterns, replace_)
        again = f" {command('--model', model)}" if model else ""
        note(passed_over(task.source.aside))
        report, facts = update(
            replace(
                task,
                again=task.again + again,
                model=model,
                bits=bits,
                keep_missing=keep_missing,
                remove_missing=remove_missing,
                replace=replace_,
                rehash=rehash,
                wait=wait,
                device=device,
            )
        )
    sizes, facts = _compact(out, wait) if compact else (None, facts)
    faults, facts = _verify(out, facts, pictures) if verify or pictures else (None, facts)
    _print_all(out, report, facts, sizes, faults, as_json)
    if faults:
        raise typer.Exit(1)


def _places(images: list[str], out: Path | None, is_known: bool) -> tuple[list[str], Path]:
    """The collections, or the index that stands for its own; and the index folder.

    Args:
        is_known: the command is about an index that exists.
    """
    indexes = [name for name in images if names_index(name)]
    if indexes and (out is not None or len(images) > 1):
        raise ConfigError(f"{indexes[0]} is an index; give it alone to update it, or give pictures with --out INDEX")
    if not indexes and out is None:
        if len(images) == 1 and (is_known or not Path(images[0]).exists()):
            raise ConfigError(f"no index at {images[0]}; check the path, or give pictures with --out INDEX")
        raise ConfigError("give --out INDEX, the folder of the index; see spq index --help")
    return images, Path(indexes[0]) if indexes else out  # type: ignore[return-value]


def _task(names: list[str], out: Path, patterns: Patterns, replace: bool) -> IndexTask:
    """What to encode, from the command or from what the index remembers. This needs no torch."""
    from spq.cli.checks import check_folder
    from spq.index.format import has_index
    from spq.index.manifest import read_manifest

    if names_index(names[0]):
        read_manifest(out)  # raises if it is lost
        if replace:
            raise ConfigError(f"--replace needs the pictures that {out} shall have; give them with --out {out}")
        source = open_collection([], patterns, out)
        return IndexTask(out, source, again=command("spq", "index", out, patterns=patterns))
    source = open_collection(names, patterns, out, replace)
    check_folder("--out", out)
    if has_index(out):
        read_manifest(out)  # raises if the index is damaged
    words = ("spq", "index", *names, "--out", out, *(["--replace"] if replace else ()))
    return IndexTask(out, source, again=command(*words, patterns=patterns))


def _print_all(
    out: Path,
    report: SyncReport | None,
    facts: dict[str, Any],
    sizes: tuple[int, int] | None,
    faults: list[str] | None,
    as_json: bool,
) -> None:
    """Print what was done. sizes: bytes before and after compacting."""
    note(listed("note", report.remarks) if report else "")
    if as_json:
        shown = {"index": str(out)} | ({} if faults else facts | (asdict(report) if report else {}))
        print(
            json.dumps(shown | ({"bytes": sizes} if sizes else {}) | ({"faults": faults} if faults is not None else {}))
        )
    else:
        if report:
            _print_update(out, facts, report)
        if sizes:
            show(f"{out}: {sizes[0]:,} bytes before, {sizes[1]:,} after")
        if faults is not None:
            show("\n".join(map(printable, faults)) or f"{printable(str(out))}: no fault found")


def _compact(out: Path, wait: float) -> tuple[tuple[int, int], dict[str, Any]]:
    """Free unused disk space; returns bytes before and after, and facts of the index."""
    from spq.index.shards.open_store import open_store

    with open_store(out, wait) as store, store.writing():
        return store.compact(), store.info()


def _verify(out: Path, facts: dict[str, Any], pictures: bool) -> tuple[list[str], dict[str, Any]]:
    """Check the index; returns a line for each fault, and facts of an index without faults.

    Args:
        facts: facts of the index, if they are known already.
    """
    from spq.index.shards.open_store import open_store
    from spq.index.verify import faults

    found = list(faults(out, pictures))
    if facts or found:
        return found, facts
    with open_store(out) as store:
        return found, store.info()


@when_stopped("what was mended is kept, " + CONTINUE)
def _repair(out: Path, model: Path | None, wait: float, device: str, as_json: bool) -> None:
    """Mend the index, and print what was mended and what is left."""
    from spq.index.mend import repair

    given = None
    if model:
        from spq.api import SPQ
        from spq.model.device import resolve_device

        given = SPQ.load(model, resolve_device(device))
    done = repair(out, given, wait)
    if as_json:
        print(json.dumps({"index": str(out), **asdict(done)}))
    else:
        lines = [f"mended: {line}" for line in done.mended] + [f"left: {line}" for line in done.left]
        print("\n".join(map(printable, lines)) or f"{printable(str(out))}: no fault found")
    if not model and any("model" in line and "permission" not in line for line in done.left):
        note("to mend its copy of the model, give the model: --repair --model MODEL")
    if done.left:
        raise typer.Exit(1)


def _print_update(out: Path, facts: dict[str, Any], report: SyncReport) -> None:
    note(report.note)
    note(listed("not indexed", report.failed))
    note(as_options(listed("not checked", report.unseen), {"--remove-missing"}))
    show(_sync_text(out, facts, report))


def _sync_text(out: Path, facts: dict[str, Any], report: SyncReport) -> str:
    """What the update did, in one line."""
    done = [f"{getattr(report, key)} {key}" for key in ("added", "changed", "renamed", "removed", "unchanged")]
    done.append(f"{len(report.failed)} unreadable")
    done += [f"{report.recoded:,} with codes of the new model, without reading them"] * bool(report.recoded)
    done += [f"{report.described} with new metadata"] * bool(report.described)
    done += [f"{report.kept} kept without a file"] * bool(report.kept)
    return f"{printable(str(out))}: {counted(facts['images'], 'picture')} at {facts['bits']} bits ({', '.join(done)})"
