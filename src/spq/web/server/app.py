"""Serve an index as a web page and an HTTP API. Nothing is global: several apps may exist at the same time."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spq import __version__
from spq.errors import ConfigError, SPQError
from spq.index.image_index import ImageIndex
from spq.web.server import problems, schemas
from spq.web.server.addresses import address_of, notes_of, warning_of
from spq.web.server.edition import Newer
from spq.web.server.guard import Guard
from spq.web.server.peers import Peers
from spq.web.server.prometheus import Metrics
from spq.web.server.refusal_page import guessed_url, refusal_page, wants_page
from spq.web.server.routes import api
from spq.web.server.server_log import ServerLog
from spq.web.server.service import Service
from spq.web.server.settings import Settings
from spq.web.server.zipped import zipped

__all__ = ["Settings", "create_app", "serve"]
CLOSING = {"Connection": "close", "Retry-After": "1"}
BACKLOG = 256  # connections that may wait
PAGE = Path(__file__).parent.parent / "page"
ABOUT = """Search pictures by picture. Ids are those of hits; errors are problem+json (RFC 9457). Send pictures, not addresses:
this server downloads nothing."""


def create_app(
    index: ImageIndex, settings: Settings | None = None, newer: Newer | None = None, peers: Peers | None = None
) -> FastAPI:
    """Return the ASGI app of an open index. The caller closes the index after the app has ended.

    Args:
        newer: as `Editions` explains it.
        peers: of an app that is one of several replicas.
    """
    settings = settings or Settings()
    service = Service(index, settings, newer, peers)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        telling = asyncio.create_task(service.tell_peers())
        yield
        telling.cancel()
        service.stop()

    app = FastAPI(title="spq", version=__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    problems.install(app)
    app.add_exception_handler(404, _not_found)
    app.include_router(api(service))
    _add_page(app)
    _add_schemas(app)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(_CountRequests, metrics=service.metrics)
    return app


def serve(
    folder: Path, settings: Settings, open_page: bool, note: Callable[[str], None], newer: Newer | None = None
) -> None:
    """Serve an index until Ctrl-C.

    Args:
        newer: as `Editions` explains it.
    Raises:
        ConfigError: the port is in use, or the address is not of this machine.
        StoreError, ModelError: the index or its model cannot be opened.
    """
    log_to_stderr()
    with listen(settings.host, settings.port) as listener:
        port = listener.getsockname()[1]
        address = address_of(settings, port)
        note(warning_of(settings))
        with ImageIndex.open(folder) as index:
            app = create_app(index, settings, newer)
            note(f"{len(index):,} pictures at {address}  (Ctrl-C ends)")
            sys.stderr.write(notes_of(settings, port, sys.stderr.isatty()))
            if open_page:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            run(app, listener, settings)
        note("stopped")


def run(app: FastAPI, listener: socket.socket, settings: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve an app until Ctrl-C.

    The network loads meanwhile, which takes seconds. Only a search by an uploaded picture has to wait for it.

    Args:
        on_ready: called when the network is loaded.
    Raises:
        ModelError, StoreError: the network does not load.
    """
    from spq.web.server.connections import Connections, raise_file_limit, server_of

    _use_one_thread()
    service: Service = app.state.service
    service.connections = connections = Connections(settings, raise_file_limit())
    server, failures = server_of(app, connections, is_shared=service.peers is not None), list[Exception]()

    def warm() -> None:
        try:
            service.warm()
            on_ready()
        except (SPQError, OSError) as error:
            failures.append(error)
            server.should_exit = True
        except Exception:  # such as an import while Python ends
            if not has_ended.is_set():
                raise

    service.is_warming, has_ended = True, threading.Event()
    warming = threading.Thread(target=warm, name="spq-warm", daemon=True)
    warming.start()
    with _handling_signals(server.stop):
        server.run([listener])
        has_ended.set()
        warming.join(5)
    if failures:
        raise failures[0]


def _use_one_thread() -> None:
    """Let torch use one thread: each search uses one core, and more threads would wait for each other."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    else:  # it is loaded later
        os.environ["OMP_NUM_THREADS"] = "1"


def check_address(settings: Settings) -> None:
    """Refuse an address that cannot be used, before minutes are spent on an index to serve there.

    Raises:
        ConfigError: the port is in use, or the address is not of this machine.
    """
    listen(settings.host, settings.port).close()


def log_to_stderr() -> None:
    """Log the messages of spq, and only the warnings of libraries."""
    logging.basicConfig(level=logging.WARNING, handlers=[ServerLog()])
    logging.getLogger("spq").setLevel(logging.INFO)


@contextmanager
def _handling_signals(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `stop` for a signal before uvicorn handles signals, and after its end, when it sends what it handled once more."""
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that waits for connections.

    Raises:
        ConfigError: the port is in use, or the address is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)[0]
        # without the protocol asyncio would leave Nagle's algorithm on, and each answer would wait 40 ms
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is in use; end the other program, or choose another `port`"
            ) from None
        number = error.errno or 0  # below 0 if the name is unknown
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; choose another `host` or `port`") from None
    return listener


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        if not (PAGE / "index.html").exists():
            raise problems.ProblemError(404, "this installation has no page; the API is at /openapi.json")
        return zipped(FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"}), request.headers)

    if PAGE.is_dir():
        app.mount("/assets", GZipMiddleware(_Assets(directory=PAGE)), name="assets")


class _Assets(StaticFiles):
    """The files of the page, smaller by gzip. A browser checks each time whether they have changed."""

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return zipped(response, Headers(scope=scope))


def _not_found(request: Request, error: Exception) -> Response:
    """Answer a person who opens an address that is none: mostly a proxy has left its own path there."""
    if wants_page(request.method, request.headers):
        return refusal_page(problems.ProblemError(404, "there is no such page"), guessed_url(request.headers))
    return problems.problem(404, str(getattr(error, "detail", "Not Found")))


def _add_schemas(app: FastAPI) -> None:
    """Add the models that routes parse themselves to the OpenAPI document."""
    known = app.openapi

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            document = known()
            components = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (schemas.Ask, schemas.AskWhy, schemas.Problem):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                components.update(schema.pop("$defs", {}))
                components[model.__name__] = schema
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


class _CountRequests:
    """Counts and times every request, also refused ones."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            if not status:
                await problems.problem(503, "the server is ending; send the request again", CLOSING)(
                    scope, receive, sending
                )
        except BaseException:
            status = status or 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.observe(route, scope["method"], status, time.perf_counter() - start)
