"""Access control, size limits and security headers: one ASGI layer around the whole app.

A page of another site can make a browser send requests to a server on 127.0.0.1. So a request must use a host name of this
server (an attacker can let another name lead to 127.0.0.1), and must not come from a page of another site. There is no
CORS, so such a page cannot read an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import socket
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spq.common.text import printable
from spq.web.inline import inline_hashes
from spq.web.server.authority import parse_authority
from spq.web.server.clients import Shares, origin_of
from spq.web.server.problems import BUSY, OverloadedError, ProblemError, problem
from spq.web.server.public_url import PORTS
from spq.web.server.refusal_page import guessed_url, refusal_page, wants_page
from spq.web.server.settings import Settings, is_address

PAGE = Path(__file__).parent.parent / "page" / "index.html"
POLICY = (  # a form of the page asks for a ZIP, so that the browser saves it while it arrives: form-action
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'{}; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, the form of a ZIP would not say from which page it comes
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
NOT_OWN = "requests from pages of other sites are not allowed"
OTHER_SITE = "other-site"  # the kind of that error
_LOG = logging.getLogger("spq.serve")
OPEN_PATHS = ("/", "/healthz", "/readyz", "/favicon.ico")  # open without a token, like `/assets/`
SEARCHES = ("/api/search", "/api/explain", "/api/browse", "/api/map", "/api/codewords")  # what search threads answer
ONCE = ("host", "origin", "sec-fetch-site", "authorization", "content-length", "content-type", "transfer-encoding")
OTHER_SITES = ("cross-site", "same-site")  # another port of 127.0.0.1 is the same site, but another server


class Guard:
    """An ASGI app that passes allowed requests on to another one."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.names = _names(settings)
        hashes = inline_hashes(PAGE.read_text("utf-8")) if PAGE.exists() else ""
        self.policy = POLICY.format(f" {hashes}" if hashes else "")
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
        send = _with_headers(send, self.policy, self._set_cookie(query_token))
        scope = self._with_own_path(scope)
        try:
            self._check(scope["method"], scope["path"], headers, query_token)
        except ProblemError as refusal:
            await self._refuse(refusal, scope["method"], headers)(scope, receive, send)
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

    def _with_own_path(self, scope: Scope) -> Scope:
        """Remove the path of the page, if the proxy has left it there."""
        url, path = self.settings.public_url, scope["path"]
        path = f"/{path.lstrip('/')}" if path.startswith("//") else path  # a proxy has replaced /photos by /
        path = url.own_path(path) if url else path
        return scope if path == scope["path"] else {**scope, "path": path, "raw_path": quote(path).encode()}

    def _check(self, method: str, path: str, headers: Headers, query_token: str) -> None:
        """Raises: ProblemError: the request is refused."""
        malformed = _malformed(path, headers)
        if malformed:
            raise ProblemError(400, malformed, {"Connection": "close"})
        host = parse_authority(headers["host"])
        if not host or not self._is_this_server(host[0]):
            raise ProblemError(
                421,
                f"unknown host name {host and host[0]}; use the address that the server printed, or {self._remedy(headers)}",
                kind="unknown-host",
            )
        is_static = method in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith("/assets/"))
        if not is_static and headers.get("sec-fetch-site") in OTHER_SITES:
            raise ProblemError(403, NOT_OWN, kind=OTHER_SITE)
        origin = headers.get("origin")
        if origin and not is_static and not self._is_own_page(origin, headers):
            raise ProblemError(403, f"{NOT_OWN}; if a proxy shows this page, {self._remedy(headers)}", kind=OTHER_SITE)
        if not self._may_enter(path, headers, query_token):
            remedy = "send Authorization: Bearer TOKEN, or open the page once with ?token=TOKEN"
            raise ProblemError(401, f"the token is missing or wrong; {remedy}", {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > 18 or int(length) > self.settings.max_upload):
            raise ProblemError(*_too_large(self.settings.max_upload))

    def _remedy(self, headers: Headers) -> str:
        """What to do so that the page works at another address; with the address, as far as it is known."""
        origin = headers.get("origin", "")
        scheme, _, place = origin.partition("://")
        is_page = scheme in PORTS and parse_authority(place) is not None
        url = f"{origin}/" if is_page else guessed_url(headers)
        return f"start it with --public-url {url} (the address of the page in the browser)"

    def _refuse(self, refusal: ProblemError, method: str, headers: Headers) -> Response:
        """The answer to a refused request: a page for a person, else a problem. What an option can change is logged."""
        is_address = refusal.kind in ("unknown-host", OTHER_SITE)
        if is_address and "--public-url" in refusal.detail:
            _LOG.warning("a request was refused: %s", printable(refusal.detail))
        if not wants_page(method, headers):
            return problem(refusal.status, refusal.detail, refusal.headers, refusal.kind)
        return refusal_page(refusal, guessed_url(headers) if is_address else "")

    def _is_this_server(self, host: str) -> bool:
        # The owner of a name can let it lead to this server; nobody can do that with an address, or with a name without a
        # dot, by which a proxy may know this server.
        is_ours = self.settings.public_url is not None and "." not in host and ":" not in host
        return host in self.names or is_ours or (not self.settings.is_local and is_address(host))

    def _is_own_page(self, origin: str, headers: Headers) -> bool:
        scheme, _, place = origin.partition("://")
        if scheme.lower() not in ("http", "https"):
            return False
        url = self.settings.public_url
        if place.lower() == headers["host"].lower() or (url and origin.lower() == url.origin):
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
        secure = "; Secure" if self.settings.public_url and self.settings.public_url.is_secure else ""
        return f"{self.cookie}={_digest(token, 'cookie')}; HttpOnly; SameSite=Strict; Path=/{secure}"


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
    if settings.public_url:
        given.add(settings.public_url.host)
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


def _with_headers(send: Send, policy: str, cookie: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Content-Security-Policy", policy)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if cookie:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return sending
