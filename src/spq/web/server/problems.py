"""Errors as `application/problem+json` (RFC 9457): a status, and one line that says what is wrong."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from spq.common.text import printable
from spq.errors import ConfigError, ImageError, ModelMismatchError, ShardsMissingError, SPQError, TimeLimitError

MEDIA_TYPE = "application/problem+json"
DESCRIPTIONS = {
    400: "the request is malformed",
    401: "the token is missing or wrong",
    403: "the request comes from a page of another site",
    404: "no such item",
    408: "the request did not arrive in time",
    409: "a picture that the query names is not kept any more; send it again",
    413: "the request is too large",
    415: "neither multipart/form-data nor JSON",
    421: "the host name is not one of this server's",
    422: "an invalid value, or a picture that cannot be read",
    500: "an internal error of the server",
    503: "the server is busy; try again after Retry-After seconds",
}
BUSY = "the server has no room for this request now; try again in a second"
_WHERE = re.compile(r"^(--where|`where`): ")  # the request names the filter already
_LOG = logging.getLogger("spq.serve")


class ProblemError(Exception):
    """An error answer."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, kind: str = "") -> None:
        """Args: kind: a name by which programs tell this error from others of the same status."""
        super().__init__(detail)
        self.status, self.detail, self.headers, self.kind = status, detail, dict(headers or {}), kind


class OverloadedError(ProblemError):
    """The server is busy; the client can try again soon."""

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(503, detail, {"Retry-After": str(retry_after)})


class ComputingError(Exception):
    """What was requested is still computed. The answer is no error: 202 with these facts.

    Attributes:
        stage: what is done now. done, total: of this stage.
    """

    def __init__(self, stage: str, done: int, total: int) -> None:
        super().__init__(stage)
        self.stage, self.done, self.total = stage, done, total


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, kind: str = "") -> Response:
    """Return the answer for an error."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    content = {
        "type": f"urn:spq:{kind}" if kind else "about:blank",
        "title": title,
        "status": status,
        "detail": printable(detail),
    }
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the errors of a route: these, and those of every route."""
    schema = {"$ref": "#/components/schemas/Problem"}
    every = sorted({400, 401, 403, 421, 500, *statuses})
    return {
        status: {"description": DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in every
    }


def install(app: FastAPI) -> None:
    """Answer all errors of an app as problems."""
    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(ComputingError, _of_computing)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(SPQError, _of_spq)
    app.add_exception_handler(ClientDisconnect, _of_disconnect)
    app.add_exception_handler(Exception, _of_internal_error)


def validation_detail(errors: Any) -> str:
    """Return the first of pydantic's errors in one line, and the number of the others."""
    first, *more = errors
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    text = f"{where}: {first['msg']}" if where else str(first["msg"])
    return f"{text} (and {len(more)} more)" if more else text


def _of_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem(error.status, error.detail, error.headers, error.kind)


def _of_computing(_: Request, error: Exception) -> Response:
    assert isinstance(error, ComputingError)
    content = {"state": "computing", "stage": error.stage, "done": error.done, "total": error.total}
    return JSONResponse(content, 202, {"Retry-After": "1"})


def _of_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(422, validation_detail(error.errors()))


def _of_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), error.headers)


def _of_spq(_: Request, error: Exception) -> Response:
    if isinstance(error, ConfigError | ImageError):
        detail = str(error).replace("raise `max_pixels`", "start spq serve with a larger --max-pixels")
        return problem(422, _WHERE.sub("", detail))
    if isinstance(error, ShardsMissingError):
        return problem(503, str(error).replace("`partial` answer", "partial answer"), {"Retry-After": "1"})
    if isinstance(error, TimeLimitError):
        return problem(503, "the search takes too long; ask for less", {"Retry-After": "5"})
    if isinstance(error, ModelMismatchError):
        return problem(503, "the index has another model since a moment ago; try again", {"Retry-After": "1"})
    _LOG.error("%s", error)  # it names folders, which a client should not learn
    return problem(500, "the index could not be read; see the server log")


def _of_disconnect(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; 499 in logs and metrics means that the client disconnected


def _of_internal_error(_: Request, error: Exception) -> Response:
    _LOG.error("internal error", exc_info=error)
    return problem(500, "internal error; see the server log")
