"""Host names in headers, read strictly: what is not exactly a name and a port is none."""

from __future__ import annotations

import ipaddress
import re

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,255}))(?::([0-9]{1,5}))?")


def parse_authority(text: str) -> tuple[str, str] | None:
    """Return (name, port) of a Host header, or of an origin after its scheme; the port may be empty. None if it is not valid.

    RFC 3986 admits more, such as user names and empty ports. No browser sends them to a server of pictures.

    >>> parse_authority("Photos.example:8443"), parse_authority("[::1]"), parse_authority("[0:0::1]:80")
    (('photos.example', '8443'), ('::1', ''), ('::1', '80'))
    >>> [parse_authority(text) for text in ("[::1]evil.example", "a:80@evil.example", "a:1:2", "a:", "a:65536", "[1]")]
    [None, None, None, None, None, None]
    """
    found = _AUTHORITY.fullmatch(text)
    if not found or int(found[3] or 0) > 65535:
        return None
    if not found[1]:
        return found[2].lower(), found[3] or ""
    try:
        return str(ipaddress.IPv6Address(found[1])), found[3] or ""
    except ValueError:
        return None
