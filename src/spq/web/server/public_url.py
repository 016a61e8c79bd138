"""The address at which browsers reach a server that is behind a proxy."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from spq.errors import ConfigError
from spq.web.server.authority import parse_authority

PORTS = {"http": "80", "https": "443"}
OWN = ("api", "assets")  # first parts of the server's own paths


@dataclass(frozen=True)
class PublicUrl:
    """Scheme, host and port as a browser names them in an origin, and the path of the page, which begins and ends with /."""

    origin: str
    host: str
    path: str

    def __str__(self) -> str:
        return self.origin + self.path

    @property
    def is_secure(self) -> bool:
        return self.origin.startswith("https:")

    def own_path(self, path: str) -> str:
        """Return the path without that of the page, which some proxies leave there.

        >>> PublicUrl("https://a", "a", "/photos/").own_path("/photos/api/status")
        '/api/status'
        """
        if self.path == "/" or not path.startswith(self.path):
            return "/" if path == self.path.rstrip("/") else path
        return f"/{path.removeprefix(self.path)}"


def parse_public_url(text: str) -> PublicUrl:
    """Return the parts of an address such as `https://photos.example:8443/photos/`.

    Raises:
        ConfigError: it is none.

    >>> str(parse_public_url("HTTPS://Photos.example:443/photos"))
    'https://photos.example/photos/'
    """
    example = "give the address of the page as the browser shows it, such as https://photos.example/photos/"
    try:
        parts = urlsplit(text.strip())
        scheme, place = parts.scheme.lower(), parse_authority(parts.netloc.encode("idna").decode())
    except (ValueError, UnicodeError):
        raise ConfigError(f"`public_url` {text!r} is not an address; {example}") from None
    if scheme not in PORTS or place is None or parts.query or parts.fragment:
        raise ConfigError(f"`public_url` {text!r} is not the address of a page; {example}")
    path = f"/{parts.path.strip('/')}/".replace("//", "/")
    if path.split("/")[1] in OWN:
        raise ConfigError(f"`public_url` {text!r}: {path} is a path of the server itself; choose another one")
    host, port = place
    suffix = f":{port}" if port and port != PORTS[scheme] else ""
    return PublicUrl(f"{scheme}://{f'[{host}]' if ':' in host else host}{suffix}", host, path)
