"""The addresses that spq serve prints, and the QR code for a phone."""

from __future__ import annotations

import re
import socket

import pytest

from spq.web.server.addresses import EVERYWHERE, address_of, notes_of, other_address, qr_code
from spq.web.server.public_url import parse_public_url
from spq.web.server.settings import Settings, is_address


def test_a_server_for_this_machine_has_one_address() -> None:
    assert address_of(Settings(token="a b"), 8765) == "http://127.0.0.1:8765/?token=a%20b"
    assert address_of(Settings("::1"), 80) == "http://[::1]:80/"
    assert notes_of(Settings(), 8765, is_terminal=True) == ""


@pytest.mark.parametrize("host", EVERYWHERE)
def test_a_server_for_the_network_names_the_address_of_this_machine_there(host: str) -> None:
    settings = Settings(host, token="secret")
    address = other_address(settings, 8765)
    assert address_of(settings, 8765) == "http://127.0.0.1:8765/?token=secret"
    if not address:
        pytest.skip("this machine is in no network")
    found = re.fullmatch(r"http://\[?([0-9a-f.:]+?)\]?:8765/\?token=secret", address)
    assert found
    assert is_address(found[1])
    assert found[1] != "127.0.0.1"
    socket.getaddrinfo(found[1], 8765)


def test_behind_a_proxy_others_use_its_address() -> None:
    settings = Settings(token="t", public_url=parse_public_url("https://photos.example/photos"))
    assert other_address(settings, 8765) == "https://photos.example/photos/?token=t"
    assert notes_of(settings, 8765, is_terminal=False) == "on other machines: https://photos.example/photos/?token=t\n"


def test_a_terminal_shows_a_code_that_a_camera_can_read() -> None:
    shown = notes_of(Settings("192.0.2.7", token="secret"), 8765, is_terminal=True)
    line, *rows = shown.splitlines()
    assert line == "on other machines: http://192.0.2.7:8765/?token=secret"
    text = [re.sub(r"\033\[[\d;]*m", "", row) for row in rows]
    assert len({len(row) for row in text}) == 1
    assert "".join(rows) == qr_code("http://192.0.2.7:8765/?token=secret").replace("\n", "")
    # three finder patterns: seven dark modules in each of the upper corners, and in the lower left one
    upper = text[1][2:-2]
    assert upper.startswith("█▀▀▀▀▀█")
    assert upper.endswith("█▀▀▀▀▀█")
    assert text[-2][2:9] in ("▀▀▀▀▀▀▀", "█▄▄▄▄▄█")
