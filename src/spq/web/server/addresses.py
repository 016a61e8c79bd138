"""The addresses at which a server can be reached, as text and as a code for the camera of a phone."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import quote

import segno

from spq.web.server.settings import Settings, is_loopback

EVERYWHERE = ("0.0.0.0", "::")
OUTSIDE = {
    "0.0.0.0": (socket.AF_INET, "192.0.2.1"),
    "::": (socket.AF_INET6, "2001:db8::1"),
}  # of documents; nothing is sent
BLACK_ON_WHITE, RESET = "\033[30;107m", "\033[0m"


def address_of(settings: Settings, port: int) -> str:
    """Return the address of the page on this machine, with the token."""
    return _page("127.0.0.1" if settings.host in EVERYWHERE else settings.host, port, settings)


def other_address(settings: Settings, port: int) -> str:
    """Return the address for other machines: that of the proxy, or of this machine in its network. Empty if there is none."""
    if settings.public_url:
        return f"{settings.public_url}{_query(settings)}"
    if settings.host in EVERYWHERE:
        host = _own_address(*OUTSIDE[settings.host])
        return _page(host, port, settings) if host else ""
    return "" if settings.is_local else address_of(settings, port)


def notes_of(settings: Settings, port: int, is_terminal: bool) -> str:
    """Return lines for the user: the address for other machines, and its QR code if that can be shown."""
    address = other_address(settings, port)
    if not address:
        return ""
    line = f"on other machines: {address}\n"
    return line + qr_code(address) if is_terminal else line


def warning_of(settings: Settings) -> str:
    """A line for a server that other machines can reach."""
    if settings.is_local:
        return ""
    who = f"everyone who can reach {settings.host}{' and has the token' if settings.token else ''}"
    return f"warning: {who} can see all pictures of this index; the connection is not encrypted"


def qr_code(text: str) -> str:
    """Return lines that show a QR code on a terminal, black on white whatever its colours are."""
    rows = [list(map(bool, row)) for row in segno.make(text, micro=False, error="l").matrix_iter(border=2)]
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    halves = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    lines = ("".join(halves[pair] for pair in zip(*rows[at : at + 2], strict=True)) for at in range(0, len(rows), 2))
    return "".join(f"{BLACK_ON_WHITE}{line}{RESET}\n" for line in lines)


def _page(host: str, port: int, settings: Settings) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{_query(settings)}"


def _query(settings: Settings) -> str:
    return f"?token={quote(settings.token, safe='')}" if settings.token else ""


def _own_address(family: socket.AddressFamily, outside: str) -> str:
    """Return the address of this machine in its network; empty without one."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((outside, 9))  # chooses a way, and sends nothing
        host = str(probe.getsockname()[0])
        return "" if is_loopback(host) or host in EVERYWHERE else host
    return ""
