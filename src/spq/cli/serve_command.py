"""`spq serve`: the search page and the HTTP API, of an index or of a collection without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spq.cli.describe import listed, passed_over
from spq.cli.indexing import (
    IndexTask,
    Patterns,
    check_same_source,
    command,
    index_beside,
    is_index,
    names_index,
    open_collection,
    some_of,
    update,
)
from spq.cli.options import SOURCES, Exclude, FollowLinks, Include, MaxPixels, Threads
from spq.cli.output import note
from spq.cli.stopping import AGAIN, when_stopped
from spq.common.files import can_be_written, lasting_cache
from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.index.shards.placement import Holder

FIRST = 2000  # pictures that are encoded before the page opens; the others follow while it is open


@when_stopped(f"the server had not started yet, {AGAIN}")
def serve(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="INDEX|IMAGES...", help=f"Index folder, URL of a published index, or pictures. {SOURCES}"
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 accepts connections from the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8765,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    watch: Annotated[
        bool | None,
        typer.Option("--watch/--no-watch", help="Update the index when its pictures change. Default with IMAGES."),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="With IMAGES: index folder. Default: beside the pictures, photos.index.")
    ] = None,
    exclude: Exclude = None,
    include: Include = None,
    follow_links: FollowLinks = None,
    token: Annotated[str, typer.Option(envvar="SPQ_TOKEN", help="Token that clients must send.")] = "",
    no_token: Annotated[bool, typer.Option("--no-token", help="Give access to everyone who can reach --host.")] = False,
    public_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of the page behind a proxy, such as https://photos.example/photos/."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another host name that clients use for this server; repeatable."),
    ] = None,
    threads: Threads = None,
    replicas: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that serve, each with its own copy of the model.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Let processes of a Ray cluster hold the shards; local starts one here."),
    ] = None,
    holders: Annotated[
        int | None, typer.Option(min=1, help="With --ray: processes that hold the shards. Default: one per machine.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(min=0.01, help="With --ray: seconds that a search waits for shards. Default: 2.")
    ] = None,
    max_pixels: MaxPixels = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for thumbnails. Default: in your cache folder.")] = None,
) -> None:
    """Serve a page to search the pictures, and an HTTP API. By default only this machine can reach it.

    With IMAGES, the first start makes an index, without training. Later starts use it again, and follow changes.
    A published index is fetched, and newer generations of it take its place without a restart.
    Clients upload query pictures or choose them by id. The server never fetches a picture from a URL.

    Example: spq serve photos/ --open

    Example: spq serve photos.index --open --watch

    Example: spq serve photos.index --replicas 4

    Example: spq serve s3://bucket/photos --replicas 4

    Example: spq serve photos.index --ray auto --holders 4
    """
    from spq.cli.checks import check_folder, check_serve
    from spq.cli.publishing import absent_pictures, fetch, names_published

    check_serve(host, token, no_token)
    check_folder("--cache", cache)
    if ray is None and (holders or deadline):
        raise ConfigError(
            "--holders and --deadline belong to --ray ADDRESS; omit them, or give the address of a Ray cluster"
        )
    is_published = any(map(names_published, images))
    has_own = is_published or (len(images) == 1 and names_index(images[0]))
    patterns = Patterns(exclude, include, follow_links)
    if has_own and (index or patterns != Patterns()):
        raise ConfigError(f"{images[0]} is an index; omit --index, --exclude and --include, or give its pictures")
    if is_published and (watch or len(images) > 1):
        raise ConfigError(
            f"{images[0]} is a published index; give it alone, without --watch, and publish it to update it"
        )
    from spq.web.server.app import Settings, check_address
    from spq.web.server.app import serve as run_server
    from spq.web.server.public_url import parse_public_url
    from spq.web.server.settings import default_cache

    follows = bool(watch) if has_own else watch is not False
    public, allowed = parse_public_url(public_url) if public_url else None, tuple(allow_host or ())
    settings = Settings(host, port, token, follows, public, allowed, cache=cache or default_cache())
    if max_pixels is not None:
        settings = replace(settings, max_pixels=max_pixels)
    note(_without_cache(settings.cache) if cache is None else "")
    newer = None
    if is_published:
        check_address(settings)
        published, folder = fetch(images[0])
        newer = published.newer
        settings = replace(settings, name=published.name)
        note(absent_pictures(folder))
    elif has_own:
        folder = Path(images[0])
    else:
        check_address(settings)
        folder = _index_of(images, index, patterns)
    with _holders(folder, ray, holders) as find:
        settings = replace(settings, find_holders=find, deadline=deadline or settings.deadline)
        if replicas == 1:
            run_server(folder, settings, open_, note, newer)
        else:
            from spq.web.server.replicas import serve_replicas

            serve_replicas(folder, settings, replicas, open_, note, newer)


@contextmanager
def _holders(folder: Path, ray: str | None, count: int | None) -> Iterator[Callable[[], Sequence[Holder]] | None]:
    """What finds the holders of an index, which are started; None without Ray.

    Raises:
        ConfigError: the index has no shards, or Ray is not installed. StoreError: the cluster cannot be reached.
    """
    if ray is None:
        yield None
        return
    from spq.index.manifest import SHARDED, read_manifest
    from spq.scale.ray_holders import started_holders

    if read_manifest(folder).format < SHARDED:
        raise ConfigError(
            f"index {folder} has no shards for --ray; run {command('spq', 'index', folder, '--to-shards')}"
        )
    with started_holders(ray, count) as started:
        note(f"{started.count} holders on the Ray cluster {started.address}")
        yield started.find


def _without_cache(thumbnails: Path) -> str:
    """A line for a user without a cache folder that lasts."""
    if lasting_cache():
        return ""
    if can_be_written(thumbnails):
        return f"no cache folder of yours can be written, so thumbnails are in {thumbnails}; --cache names another"
    return "no cache folder can be written, so thumbnails are made again for each request; --cache names one"


def _index_of(names: list[str], given: Path | None, patterns: Patterns) -> Path:
    """The index of a collection, made now if there is none. An existing one is brought up to date while it is served."""
    from spq.cli.checks import check_folder

    folder = given or index_beside(names)
    if not given:
        with suppress(OSError):  # the check says why
            folder.parent.mkdir(parents=True, exist_ok=True)
    check_folder("--index", folder)
    again = command("spq", "serve", *names, *(("--index", given) if given else ()), patterns=patterns)
    if is_index(folder):
        origin = check_same_source(folder, names)
        if origin.chosen(*patterns) != origin:
            update(IndexTask(folder, open_collection(names, patterns, folder), again=again))
        note(f"index: {folder}")
        return folder
    source = open_collection(names, patterns, None)
    note(passed_over(source.aside))
    note(listed("left out", [*source.unlisted, *source.unopened]))
    note(listed("note", source.remarks))
    first = some_of(source, FIRST)
    _, facts = update(IndexTask(folder, first, again=again))
    later = f"; the other {len(source) - len(first):,} follow while the page is open" if first is not source else ""
    note(f"index: {folder}, {facts['images']:,} pictures at {facts['bits']} bits{later}")
    train = command("spq", "train", *names, "--out", "MODEL", patterns=patterns)
    note(f"better codes: {train}, then {command('spq', 'index', folder, '--model', 'MODEL')}")
    return folder
