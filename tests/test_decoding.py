"""Room for pixels: how many are decoded at the same time."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from spq.web.server import decoding
from spq.web.server.decoding import DecodeRoom, decoded_pixels
from spq.web.server.problems import OverloadedError
from web import jpeg, png


def test_the_header_says_how_many_pixels_are_decoded() -> None:
    assert decoded_pixels(png((400, 300)), None, 10**6) == 120_000
    assert decoded_pixels(png((400, 300)), 64, 10**6) == 120_000
    assert decoded_pixels(jpeg((1600, 1600)), 128, 10**7) == 200 * 200  # decoded at 1/8
    assert decoded_pixels(jpeg((1600, 1600)), None, 10**6) == 10**6  # at most the limit is decoded
    assert decoded_pixels(b"nothing", None, 10**6) == 10**6
    assert decoded_pixels(b"", 64, 10**6) == 10**6


def test_no_more_pixels_are_held_at_a_time_than_there_is_room_for() -> None:
    room, data, most = DecodeRoom(25_000), png((100, 100)), []
    together = threading.Barrier(2)

    def use(_: int) -> None:
        with room.hold(data):
            together.wait(30)  # two fit
            most.append(room.used)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert max(most) == 20_000
    assert room.used == 0


def test_a_picture_larger_than_the_room_is_decoded_alone_and_others_are_told_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "WAIT_SECONDS", 0.05)
    room = DecodeRoom(5000)
    with room.hold(png((100, 100))), pytest.raises(OverloadedError) as caught, room.hold(png((2, 2))):
        pass
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    with room.hold(png((2, 2))):
        assert room.used == 4
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "GIF")
    with pytest.raises(KeyError), room.hold(buffer.getvalue()):
        raise KeyError
    assert room.used == 0  # also after an error
