"""Who counts as one client, and how much each client may use at the same time."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter


class Shares:
    """What clients use at the same time, such as bytes: limited in all, and for each client that has an origin."""

    def __init__(self, most: float = math.inf, most_each: float = math.inf) -> None:
        self.most, self.most_each = most, most_each
        self.total = 0
        self._each: Counter[str] = Counter()

    def take(self, origin: str | None, amount: int = 1) -> bool:
        """Take some, unless it is too much. Return whether it was taken."""
        if self.total + amount > self.most or (origin and self._each[origin] + amount > self.most_each):
            return False
        self.total += amount
        if origin:
            self._each[origin] += amount
        return True

    def give_back(self, origin: str | None, amount: int = 1) -> None:
        self.total -= amount
        if origin:
            self._each[origin] -= amount
            if not self._each[origin]:
                del self._each[origin]


def origin_of(address: str) -> str | None:
    """Return what counts as one client: an IPv4 address, or the network that a provider gives to one customer.

    None for clients of this machine, which have no limit of their own: all that come through a proxy here have its address.

    >>> origin_of("10.0.0.7"), origin_of("2001:db8::1"), origin_of("::ffff:10.0.0.7"), origin_of("127.0.0.1")
    ('10.0.0.7', '2001:db8::/64', '10.0.0.7', None)
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None  # a Unix socket
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return None
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))
