"""Whether a request comes from this machine: only such a browser may learn where pictures are, and open their folders."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from fastapi import Request

from spq.web.server.authority import parse_authority
from spq.web.server.settings import Settings, is_loopback

FORWARDED = ("forwarded", "via", "x-real-ip")  # with `x-forwarded-…`, what a proxy adds
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")  # without one, a machine with Linux shows no windows


def is_own_machine(request: Request, settings: Settings) -> bool:
    """Whether the browser is on this machine and asks the server directly, not through a proxy.

    The server has to listen on this machine alone, under no other name: with one, a proxy may be in between.
    """
    client = request.client.host if request.client else ""
    return (
        settings.is_local
        and not (settings.allowed_hosts or settings.public_url)
        and is_loopback(client)
        and request.scope.get("http_version") != "1.0"  # no browser; nginx asks so by default, without naming itself
        and is_direct(request.headers)
    )


def is_direct(headers: Mapping[str, str]) -> bool:
    """Whether headers name this machine, and no proxy.

    >>> is_direct({"host": "localhost:8765"}), is_direct({"host": "photos.example"})
    (True, False)
    >>> is_direct({"host": "127.0.0.1", "x-forwarded-for": "192.0.2.1"})
    False
    """
    host = parse_authority(headers.get("host", ""))
    is_forwarded = any(name in FORWARDED or name.startswith("x-forwarded-") for name in headers)
    return host is not None and is_loopback(host[0]) and not is_forwarded


def may_tell_location(request: Request, settings: Settings) -> bool:
    """Whether a request may learn absolute paths: it comes from this machine, or it had to name the token."""
    return bool(settings.token) or is_own_machine(request, settings)


def opener(platform: str = sys.platform) -> str | None:
    """Return the program that opens a folder; None if there is none."""
    if platform not in ("darwin", "win32") and not any(os.environ.get(name) for name in DISPLAYS):
        return None
    return which({"darwin": "open", "win32": "explorer"}.get(platform, "xdg-open"))


def command(program: str, file: Path, platform: str = sys.platform) -> list[str]:
    """Return the command that shows a file in its folder. On Linux no such command is everywhere: it opens the folder.

    >>> command("/usr/bin/xdg-open", Path("/photos/a.jpg"), "linux")
    ['/usr/bin/xdg-open', '/photos']
    >>> command("/usr/bin/open", Path("/photos/a.jpg"), "darwin")
    ['/usr/bin/open', '-R', '/photos/a.jpg']
    >>> command("explorer.exe", Path("a.jpg"), "win32")
    ['explorer.exe', '/select,a.jpg']
    """
    shown = {"darwin": ["-R", str(file)], "win32": [f"/select,{file}"]}
    return [program, *shown.get(platform, [str(file.parent)])]


def show_in_folder(program: str, file: Path) -> None:
    """Open the folder of a file in the file manager, which this does not wait for.

    Raises:
        OSError: the program does not start.
    """
    nothing = subprocess.DEVNULL
    started = subprocess.Popen(
        command(program, file), stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    )
    threading.Thread(target=started.wait, name="spq-folder", daemon=True).start()
