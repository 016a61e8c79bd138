"""The connections of a server: how many there may be, how slow each may be, and which one ends to make room.

uvicorn alone waits without an end for a request that does not arrive, and for a client that does not read its answer.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from spq.web.server.clients import origin_of
from spq.web.server.problems import BUSY, MEDIA_TYPE, problem
from spq.web.server.settings import Settings

HEAD, BODY, WORK, ANSWER, REST = "head", "body", "work", "answer", "rest"  # what a connection does or waits for
CHECK_SECONDS = 0.5  # between two looks at all connections
REST_SECONDS = 5.0  # for the rest of a request that is answered already
ANSWER_SECONDS, ANSWER_RATE = 30.0, 10_000  # a client that takes longer must read so many bytes in each second
ANSWER_ROUND = (
    120.0  # seconds after which the count of these bytes begins again: a download may take hours, but not stop
)
SLOW = 1000  # bytes in a second; slower connections end when others need the room
YOUNG = 0.25  # seconds in which a body or an answer is not called slow
NOT_SENT = 262_144  # bytes of an answer that the system holds beside those on their way
MAX_UNSENT = 128_000_000  # bytes of answers that clients have not read yet
MAX_HEAD = 65_536  # bytes of a request's head
FILES = 8192  # open files that the server asks the system for
FILES_PER_CONNECTION = 4  # a socket and an upload's temporary file; the rest is for pictures, the index and new sockets
_PROBLEM = b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"the request is not valid HTTP/1.1"}'
NOT_HTTP = b"HTTP/1.1 400 Bad Request\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
    MEDIA_TYPE.encode(), len(_PROBLEM), _PROBLEM
)  # fmt: skip
BACKLOG = 512  # connections that may wait to be accepted


class Connection(H11Protocol):
    """A connection that knows how fast it is. `H11Protocol` parses its requests."""

    def __init__(self, group: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.group = group
        self.origin: str | None = None
        self.received = 0
        self._step: tuple[str, object] = (HEAD, None)  # phase, and the request that it belongs to
        self._since, self._mark = self.loop.time(), 0  # when the phase began, and its count of bytes then

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport = self._counted = cast(Any, _Counted(transport))
        _hold_little(transport.get_extra_info("socket"))
        self.origin = origin_of(self.client[0] if self.client else "")
        self.group.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.group.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.group.hold(self)

    def resume_writing(self) -> None:
        self.group.unsent.discard(self)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP, and end the connection. (uvicorn's own method fails during an answer, and for HEAD.)"""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # the app may still run
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        self.transport.write(NOT_HTTP)
        self.transport.close()

    @property
    def buffered(self) -> int:
        return int(self.transport.get_write_buffer_size())

    def speed(self, now: float) -> tuple[str, float, int]:
        """Return phase, the seconds since it began, and the bytes that have moved in it."""
        phase = self._phase()
        moved = self._counted.written - self.buffered if phase == ANSWER else self.received
        is_new_round = phase == ANSWER and now - self._since > ANSWER_ROUND
        if self._step != (phase, self.cycle) or is_new_round:
            self._step, self._since, self._mark = (phase, self.cycle), now, moved
        return phase, now - self._since, max(0, moved - self._mark)

    def is_late(self, now: float) -> bool:
        """Whether the client has taken longer than it may."""
        phase, seconds, moved = self.speed(now)
        if phase == ANSWER:
            return moved < ANSWER_RATE * (seconds - ANSWER_SECONDS)
        limits = {HEAD: self.group.settings.head_seconds, REST: REST_SECONDS}
        return seconds > limits.get(phase, seconds)

    def slow_since(self, now: float) -> float | None:
        """Return since when the server waits for a slow client; None if it does not. An honest head arrives at once."""
        phase, seconds, moved = self.speed(now)
        is_slow = phase == HEAD or (phase != WORK and seconds >= YOUNG and moved <= SLOW * seconds)
        return self._since if is_slow else None

    def _phase(self) -> str:
        if self.buffered:
            return ANSWER
        is_open = self.conn.their_state is h11.SEND_BODY
        if self.cycle is not None and not self.cycle.response_complete:
            return BODY if is_open else WORK
        return REST if is_open else HEAD


class _Counted:
    """A transport that counts what is written to it."""

    def __init__(self, transport: Any) -> None:
        self._transport, self.written = transport, 0

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connections:
    """All connections of one server. Use it on its event loop.

    When there are too many, the one that has been slow for the longest time ends. So clients that send a request and read its
    answer get in, however many others are silent.

    Args:
        files: how many files the process may have open.
    Attributes:
        ended: slow connections that the server has ended. refused: new ones that found no room.
    """

    def __init__(self, settings: Settings, files: int) -> None:
        self.settings = settings
        self.ended = self.refused = 0
        self.most = max(1, min(settings.max_connections, files // FILES_PER_CONNECTION))
        self.backlog = min(BACKLOG, max(1, files // FILES_PER_CONNECTION))
        self.open: dict[Connection, None] = {}  # in the order of their start
        self.unsent: set[Connection] = set()  # with more unsent bytes than the system takes
        self._by_origin: Counter[str] = Counter()
        self._slow: deque[Connection] = deque()  # found when there was no room, the slowest first
        self._is_checking = False

    def new(self, **arguments: Any) -> Connection:
        """Return the protocol of a new connection, as uvicorn asks for it."""
        return Connection(self, **arguments)

    def add(self, connection: Connection) -> None:
        """Take a new connection, and end a slow one if there are too many. If none is slow, the new one will be refused."""
        self.open[connection] = None
        loop, origin = connection.loop, connection.origin
        if not self._is_checking:
            self._is_checking = True
            loop.call_later(CHECK_SECONDS, self._check, loop)
        has_room = True
        if origin is not None:
            self._by_origin[origin] += 1
            if self._by_origin[origin] > self.settings.max_connections_per_client:
                own = [other for other in self.open if other.origin == origin and other is not connection]
                has_room = self._end_first(deque(_slow_first(own, loop.time())), loop.time())
        if has_room and len(self.open) > self.most:
            has_room = self._make_room(connection, loop.time())
        if not has_room:
            self.refused += 1
            connection.app = _refuse

    def discard(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.unsent.discard(connection)
        if connection in self.open:
            del self.open[connection]
            if connection.origin is not None:
                self._by_origin[connection.origin] -= 1
                if not self._by_origin[connection.origin]:
                    del self._by_origin[connection.origin]

    def hold(self, connection: Connection) -> None:
        """Note that a client does not read fast enough, and end the slowest if such answers need too much memory."""
        self.unsent.add(connection)
        total, now = sum(other.buffered for other in self.unsent), connection.loop.time()
        for other in sorted(self.unsent, key=lambda other: -other.speed(now)[1]):
            if total <= MAX_UNSENT:
                break
            total -= other.buffered
            self._end(other)

    def _make_room(self, new: Connection, now: float) -> bool:
        if not self._end_first(self._slow, now):
            self._slow.extend(_slow_first((other for other in self.open if other is not new), now))
            return self._end_first(self._slow, now)
        return True

    def _end_first(self, slow: deque[Connection], now: float) -> bool:
        """End the first connection that is still open and slow. Return whether there was one."""
        while slow:
            other = slow.popleft()
            if other in self.open and other.slow_since(now) is not None:
                self._end(other)
                return True
        return False

    def _check(self, loop: Any) -> None:
        """End the connections that are late, from time to time while there are any."""
        now = loop.time()
        for connection in [connection for connection in self.open if connection.is_late(now)]:
            self._end(connection)
        self._is_checking = bool(self.open)
        if self._is_checking:
            loop.call_later(CHECK_SECONDS, self._check, loop)

    def _end(self, connection: Connection) -> None:
        self.ended += 1
        self.discard(connection)  # now, because the transport tells it later
        connection.transport.abort()


def server_of(app: ASGIApp, connections: Connections, is_shared: bool = False) -> Server:
    """Return a server of an app whose connections are limited.

    Args:
        is_shared: other processes accept connections of the same socket. Then it takes one at a time: asyncio would take as
            many as may wait, and keep them from processes that are free.
    """
    config = uvicorn.Config(
        app,
        http=connections.new,  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # any client can send them
        backlog=1 if is_shared else connections.backlog,
        loop="asyncio" if is_shared else "auto",
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=5,
    )
    return Server(config, connections.backlog)


class Server(uvicorn.Server):
    """A server that a second Ctrl-C ends at once. uvicorn would print tracebacks of what it cuts off."""

    def __init__(self, config: uvicorn.Config, backlog: int) -> None:
        super().__init__(config)
        self._backlog, self._is_stopped = backlog, False

    def stop(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal at a time when uvicorn handles none: the server ends as soon as it is up."""
        self._is_stopped = True

    async def on_tick(self, counter: int) -> bool:
        self.should_exit |= self._is_stopped
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(self._backlog)  # asyncio has set how many may wait to how many it takes at a time

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os.write(2, b"spq: stopped; the index is as it was committed\n")
            os._exit(128 + sig)
        super().handle_exit(sig, frame)


def raise_file_limit() -> int:
    """Let this process open more files, if the system allows it. Return how many it may open."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return FILES
    soft, hard = (FILES if n == resource.RLIM_INFINITY else n for n in resource.getrlimit(resource.RLIMIT_NOFILE))
    wanted = min(FILES, hard)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        except (OSError, ValueError):  # macOS has a lower limit of its own
            return soft
    return max(soft, wanted)


def _hold_little(connection: Any) -> None:
    """Let the system hold few bytes that it has not sent yet, so that it takes more whenever the client reads some."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if connection is not None and option is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, NOT_SENT)


def _slow_first(connections: Iterable[Connection], now: float) -> list[Connection]:
    """Return the slow ones of some connections, those that have been slow for the longest time first."""
    found = [(since, n, each) for n, each in enumerate(connections) if (since := each.slow_since(now)) is not None]
    return [each for _, _, each in sorted(found, key=lambda entry: entry[:2])]


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": "1", "Connection": "close", "Cache-Control": "no-store"}
    await problem(503, BUSY, headers)(scope, receive, send)
