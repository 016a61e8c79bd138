"""The server's log: few lines, and nothing in them that commands a terminal."""

from __future__ import annotations

import io
import logging

from spq.web.server.server_log import LINES, SECONDS, ServerLog


def record(text: str, *arguments: object, level: int = logging.WARNING, name: str = "a") -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, arguments, None)


def test_ten_thousand_messages_are_a_few_lines_and_their_number() -> None:
    stream, now = io.StringIO(), [0.0]
    log = ServerLog(stream, lambda: now[0])
    for number in range(10_000):
        log.handle(record("request %d is bad", number))
    log.handle(record("another kind", level=logging.ERROR))
    lines = stream.getvalue().splitlines()
    assert lines == [*(f"spq: request {number} is bad" for number in range(LINES)), "spq: another kind"]
    now[0] = SECONDS
    log.handle(record("later"))
    assert stream.getvalue().splitlines()[LINES + 1 :] == [
        "spq: 9,980 more messages of a (warning) were left out",
        "spq: later",
    ]


def test_a_message_is_one_line_that_commands_nothing() -> None:
    stream = io.StringIO()
    log = ServerLog(stream)
    log.handle(record("GET %s", "/\x1b[2J\r\nspq: fake \u202e"))
    assert stream.getvalue() == "spq: GET /\\x1b[2J\\x0d\\x0aspq: fake \\u202e\n"


def test_a_traceback_commands_nothing_either() -> None:
    stream = io.StringIO()
    log = ServerLog(stream)
    try:
        raise ValueError("\x1b]0;owned\x07")
    except ValueError as error:
        log.handle(
            logging.LogRecord("a", logging.ERROR, "", 0, "failed", None, (ValueError, error, error.__traceback__))
        )
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().startswith("spq: failed\nTraceback")
