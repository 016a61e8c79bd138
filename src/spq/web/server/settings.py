"""What a server is told beside the index: where it listens, who may ask, and how much."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from spq.common.parallel import cores

MB = 1_000_000


def default_workers() -> int:
    """As many as there are cores to search with, up to 8: more would only share them."""
    return max(1, min(8, cores()))


def default_cache() -> Path:
    """Of the user, not of the index: that may be read-only, and its thumbnails serve other indexes of the same pictures."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spq" / "thumbnails"


@dataclass(frozen=True)
class Settings:
    """Limits are such that a small machine stays upright; all can be set from Python, the most asked for by options.

    Attributes:
        token: what each request has to show; empty for none.
        allowed_hosts: further names under which the server may be asked, such as `photos.example`.
        workers: threads that search; as many more make thumbnails.
        waiting: requests that may wait for a worker; patience: seconds that each may wait. Beyond, the answer is 503.
        timeout: seconds after which a request is given up, waiting not counted.
        max_upload: bytes of a request; max_pictures and max_pixels: in all, and of each picture that is uploaded.
        body_seconds: that a request may take to come in.
        cache: folder of thumbnails; cache_bytes: how large it may grow.
        watch_seconds: between two looks at the collection, more where a look takes long.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = field(default="", repr=False)
    watch: bool = False
    allowed_hosts: tuple[str, ...] = ()
    workers: int = field(default_factory=default_workers)
    waiting: int = 64
    patience: float = 0.5
    timeout: float = 20.0
    max_upload: int = 32 * MB
    max_pictures: int = 16
    max_pixels: int = 50_000_000
    body_seconds: float = 30.0
    cache: Path = field(default_factory=default_cache)
    cache_bytes: int = 1000 * MB
    watch_seconds: float = 5.0

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("photos.example")
    (True, True, False, False)
    """
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
