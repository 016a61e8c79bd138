"""`spq serve`: the search page and the HTTP API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spq.cli.failures import AGAIN, when_stopped
from spq.cli.options import IndexFolder, Threads
from spq.cli.output import note
from spq.common.files import has_home


@when_stopped(f"the server had not started yet, {AGAIN}")
def serve(
    index: IndexFolder,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 accepts connections from the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8765,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Update INDEX when its pictures change.")] = False,
    token: Annotated[str, typer.Option(envvar="SPQ_TOKEN", help="Token that clients must send.")] = "",
    no_token: Annotated[bool, typer.Option("--no-token", help="Give access to everyone who can reach --host.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another host name of this server.")
    ] = None,
    threads: Threads = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for thumbnails. Default: in your cache folder.")] = None,
) -> None:
    """Serve a page to search the pictures, and an HTTP API. By default only this machine can reach it.

    Clients upload query pictures or choose them by id. The server never fetches a picture from a URL.

    Example: spq serve photos.index --open --watch
    """
    from spq.cli.checks import check_folder, check_serve

    check_serve(host, token, no_token)
    check_folder("--cache", cache)
    from spq.web.server.app import Settings
    from spq.web.server.app import serve as run_server

    settings = Settings(host, port, token, watch, tuple(allow_host or ()))
    if cache is not None:
        settings = replace(settings, cache=cache)
    elif not has_home():
        note(f"you have no home folder, so thumbnails are kept in {settings.cache}; --cache names another")
    run_server(index, settings, open_, note)
