"""Access control, size limits and security headers: one ASGI layer around the whole app.

A page of another site can make a browser send requests to a server on 127.0.0.1. So a request must use a host name of this
server (an attacker can let another name lead to 127.0.0.1), and must not come from a page of another site. There is no
CORS, so such a page cannot read an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spq.web.server.authority import parse_authority
from spq.web.server.clients import Shares, origin_of
from spq.web.server.problems import BUSY, OverloadedError, ProblemError, problem
from spq.web.server.settings import Settings, is_address

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, the form of a ZIP would not say from which page it comes
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
OPEN_PATHS = ("/", "/healthz", "/readyz", "/favicon.ico")  # open without a token, like `/assets/`
SEARCHES = ("/api/search", "/api/explain", "/api/browse", "/api/map", "/api/codewords")  # what search threads answer
ONCE = ("host", "origin", "sec-fetch-site", "authorization", "content-length", "content-type", "transfer-encoding")
OTHER_SITES = ("cross-site", "same-site")  # another port of 127.0.0.1 is the same site, but another server


class Guard:
    """An ASGI app that passes allowed requests on to another one."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.names = _names(settings)
        self.searches = Shares(most_each=settings.searches_per_client)
        self.uploaded = Shares(settings.max_uploaded, settings.max_uploaded / 2)  # bytes of requests in work
        self.cookie = (
            f"spq_{_digest(settings.token, 'name')[:8]}"  # cookies ignore ports, so each token has its own cookie name
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query_token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        send = _with_headers(send, self._set_cookie(query_token))
        refusal = self._refusal(scope["path"], headers, query_token)
        if refusal:
            await problem(*refusal)(scope, receive, send)
            return
        origin = origin_of((scope.get("client") or ("",))[0])
        searches = int(scope["path"].startswith(SEARCHES))
        if not self.searches.take(origin, searches):
            await problem(503, BUSY, {"Retry-After": "1"})(scope, receive, send)
            return
        body = _Body(receive, self.settings, self.uploaded, origin)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.uploaded.give_back(origin, body.size)
            self.searches.give_back(origin, searches)

    def _refusal(self, path: str, headers: Headers, query_token: str) -> tuple[int, str, dict[str, str]] | None:
        malformed = _malformed(path, headers)
        if malformed:
            return 400, malformed, {"Connection": "close"}
        host = parse_authority(headers["host"])
        if not host or not self._is_this_server(host[0]):
            detail = "unknown host name; use the address that the server printed, or start it with --allow-host NAME"
            return 421, detail, {}
        if path not in OPEN_PATHS and headers.get("sec-fetch-site") in OTHER_SITES:
            return 403, "requests from pages of other sites are not allowed", {}
        origin = headers.get("origin")
        if origin and not self._is_own_page(origin, headers):
            return 403, "requests from pages of other sites are not allowed", {}
        if not self._may_enter(path, headers, query_token):
            remedy = "send Authorization: Bearer TOKEN, or open the page once with ?token=TOKEN"
            return 401, f"the token is missing or wrong; {remedy}", {"WWW-Authenticate": "Bearer"}
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > 18 or int(length) > self.settings.max_upload):
            return _too_large(self.settings.max_upload)
        return None

    def _is_this_server(self, host: str) -> bool:
        # the owner of a name can let it lead to this server; nobody can do that with an address
        return host in self.names or (not self.settings.is_local and is_address(host))

    def _is_own_page(self, origin: str, headers: Headers) -> bool:
        scheme, _, place = origin.partition("://")
        if scheme.lower() not in ("http", "https"):
            return False
        if place.lower() == headers["host"].lower():
            return True
        # A proxy may send its own address as the host; --allow-host names the page that the browser shows. Another port is
        # another server, unless the browser says that the page is from the server that it asks.
        name, port = parse_authority(place) or ("", "")
        allowed = {host.lower() for host in self.settings.allowed_hosts}
        is_vouched = not port or headers.get("sec-fetch-site") == "same-origin"
        return place.lower() in allowed or (bool(name) and name in allowed and is_vouched)

    def _may_enter(self, path: str, headers: Headers, query_token: str) -> bool:
        token = self.settings.token
        if not token:
            return True
        if query_token and not _same(query_token, token):
            return False
        if path in OPEN_PATHS or path.startswith("/assets/") or query_token:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _same(bearer.strip(), token)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, _digest(token, "cookie"))

    def _set_cookie(self, query_token: str) -> str:
        token = self.settings.token
        if not (token and query_token and _same(query_token, token)):
            return ""
        return f"{self.cookie}={_digest(token, 'cookie')}; HttpOnly; SameSite=Strict; Path=/"


class _Body:
    """The body of one request. It counts bytes and time while the body arrives."""

    def __init__(self, receive: Receive, settings: Settings, uploaded: Shares, origin: str | None) -> None:
        self._receive, self.limit, self.seconds = receive, settings.max_upload, settings.body_seconds
        self._uploaded, self._origin = uploaded, origin
        self.size, self.complete = 0, False
        self._end = 0.0

    async def receive(self) -> Message:
        if self.complete:
            return await self._receive()  # waits until the client disconnects
        now = asyncio.get_running_loop().time()
        self._end = self._end or now + self.seconds
        try:
            async with asyncio.timeout_at(self._end):
                message = await self._receive()
        except TimeoutError:
            detail = f"the request did not arrive within {self.seconds:g} s"
            raise ProblemError(408, detail, {"Connection": "close"}) from None
        self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        size = len(message.get("body", b""))
        if self.size + size > self.limit:
            raise ProblemError(*_too_large(self.limit))
        if not self._uploaded.take(self._origin, size):
            raise OverloadedError(BUSY)
        self.size += size
        return message


def _too_large(limit: int) -> tuple[int, str, dict[str, str]]:
    detail = f"the request is over the limit of {limit / 1e6:g} MB; send smaller or fewer pictures"
    return 413, detail, {"Connection": "close"}


def _names(settings: Settings) -> set[str]:
    given = {(parse_authority(host) or (host.lower(),))[0] for host in settings.allowed_hosts}
    names = {"localhost", "127.0.0.1", "::1", settings.host.lower(), *given}
    return names if settings.is_local else names | {socket.gethostname().lower()}


def _malformed(path: str, headers: Headers) -> str:
    """Return what is wrong with a request, whoever sends it; empty if it is well-formed."""
    twice = [name for name in ONCE if len(headers.getlist(name)) > 1]
    if twice:
        return f"the header {twice[0]} is sent twice"
    if parse_authority(headers.get("host", "")) is None:
        return "the header Host is missing, or not a name with or without a port"
    return "" if path.startswith("/") else "the path must begin with /; this server is not a proxy"


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))


def _digest(token: str, purpose: str) -> str:
    return hashlib.sha256(f"spq {purpose} {token}".encode("utf-8", "replace")).hexdigest()


def _with_headers(send: Send, cookie: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            if cookie:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return sending
