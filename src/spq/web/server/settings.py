"""The settings of a server: where it listens, who may use it, and its limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spq.common.files import user_cache
from spq.common.parallel import cores
from spq.index.shards.placement import Holder
from spq.web.server.public_url import PublicUrl

MB = 1_000_000
HELD_THREADS = 16


def default_workers() -> int:
    """Return the number of cores, at most 8. More threads would only share the cores."""
    return max(1, min(8, cores()))


def default_cache() -> Path:
    """Return a folder of the user. An index may be read-only, and several indexes of the same pictures share thumbnails."""
    return user_cache() / "thumbnails"


@dataclass(frozen=True)
class Settings:
    """The limits protect a small machine. The command line has options for the most common settings.

    Attributes:
        token: token that clients must send; empty for none.
        public_url: address of the page behind a proxy, as browsers show it.
        allowed_hosts: other host names of the server, such as `photos.example`.
        workers: threads for searches; the same number makes thumbnails.
        waiting: requests that may wait for a worker. The answer to any more is 503.
        patience: seconds that a request may wait. Then the answer is 503.
        timeout: seconds that a request may take, without the wait.
        max_upload: bytes of a request.
        max_pictures: pictures of a request.
        max_pixels: pixels of each uploaded picture.
        body_seconds: seconds in which the body of a request must arrive.
        head_seconds: seconds in which the lines before it must arrive, and that a connection may be silent.
        max_connections: open connections; fewer if the system allows the process fewer files.
        max_connections_per_client: those of one address. Clients on this machine have no limit of their own.
        searches_per_client: searches that one address may have in work or waiting; the same clients have no limit.
        max_uploaded: bytes of all requests that arrive at the same time.
        max_kept: bytes of uploaded pictures that are kept in memory, so that clients need not send them again.
        max_decoded: pixels that are decoded at the same time, of uploads and for thumbnails.
        cache: folder of thumbnails.
        cache_bytes: its largest size.
        name: of the index, as the page shows it; by default that of its folder.
        watch: whether the index follows changes of its collection.
        watch_seconds: time between two checks of the collection; longer if a check is slow.
        find_holders: returns the processes that hold the shards of the index; by default this process has their codes. It can
            be sent to another process.
        deadline: seconds that a search waits for them.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = field(default="", repr=False)
    watch: bool = False
    public_url: PublicUrl | None = None
    allowed_hosts: tuple[str, ...] = ()
    workers: int = field(default_factory=default_workers)
    waiting: int = 64
    patience: float = 0.5
    timeout: float = 20.0
    max_upload: int = 32 * MB
    max_pictures: int = 16
    max_pixels: int = 50_000_000
    body_seconds: float = 30.0
    head_seconds: float = 10.0
    max_connections: int = 1000
    max_connections_per_client: int = 128
    searches_per_client: int = 16
    max_uploaded: int = 256 * MB
    max_kept: int = 64 * MB
    max_decoded: int = 50_000_000
    cache: Path = field(default_factory=default_cache)
    cache_bytes: int = 1000 * MB
    watch_seconds: float = 5.0
    name: str = ""
    find_holders: Callable[[], Sequence[Holder]] | None = field(default=None, repr=False)
    deadline: float = 2.0

    @property
    def search_threads(self) -> int:
        """Threads for searches. More than `workers` if other processes do the work: most of the time they only wait."""
        return max(self.workers, HELD_THREADS) if self.find_holders else self.workers

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("photos.example")
    (True, True, False, False)
    """
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
