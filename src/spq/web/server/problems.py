"""Every error as `application/problem+json` (RFC 9457): its status, and one line that says what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from spq.common.text import printable
from spq.errors import ConfigError, ImageError, SPQError, TimeLimitError

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger("spq.serve")


class ProblemError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


class OverloadedError(ProblemError):
    """Too much to do at once; worth another try soon."""

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(503, detail, {"Retry-After": str(retry_after)})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer itself."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    content = {"type": "about:blank", "title": title, "status": status, "detail": printable(detail)}
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make all errors of an app problems."""
    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(SPQError, _of_spq)
    app.add_exception_handler(ClientDisconnect, _of_leaving)
    app.add_exception_handler(Exception, _of_mistake)


def validation_detail(errors: Any) -> str:
    """The first of pydantic's errors in one line, and how many more there are."""
    first, *more = errors
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    text = f"{where}: {first['msg']}" if where else str(first["msg"])
    return f"{text} (and {len(more)} more)" if more else text


def _of_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem(error.status, error.detail, error.headers)


def _of_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(422, validation_detail(error.errors()))


def _of_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), error.headers)


def _of_spq(_: Request, error: Exception) -> Response:
    if isinstance(error, ConfigError | ImageError):
        return problem(422, str(error).removeprefix("`where`: "))
    if isinstance(error, TimeLimitError):
        return problem(503, "given up; ask for less", {"Retry-After": "5"})
    _LOG.error("%s", error)  # of the index or the collection: it names folders, which are no business of who asks
    return problem(500, "the index could not be read; the server's own output says why")


def _of_leaving(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; of the log and the metrics, where proxies call it so


def _of_mistake(_: Request, error: Exception) -> Response:
    _LOG.error("a mistake of spq", exc_info=error)
    return problem(500, "a mistake of spq; the server's own output has the details")
