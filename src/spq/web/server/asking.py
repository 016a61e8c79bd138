"""Read the body of a search request: JSON, or a form with pictures."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, BinaryIO, TypeVar

from fastapi import Request
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from spq.web.server.clients import origin_of
from spq.web.server.kept_pictures import KeptPictures, Uploads
from spq.web.server.problems import ProblemError, validation_detail
from spq.web.server.schemas import Ask

A = TypeVar("A", bound=Ask)

PICTURES = ("image", "negative_image")  # fields of the form, as in `Uploads`
TEXTS = ("query", "id")
MAX_JSON = 1_000_000  # bytes


def openapi_body(model: type[Ask]) -> dict[str, Any]:
    """Describe both forms of a search request for OpenAPI."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    properties: dict[str, Any] = {
        "image": {**files, "description": "Query pictures: the answers should be like them."},
        "negative_image": {**files, "description": "Negative pictures: the answers should not be like them."},
        "query": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": reference,
            "description": "The rest, as JSON.",
            "examples": ['{"top": 20, "where": "width >= 640"}'],
        },
    }
    if "id" in model.model_fields:
        properties["id"] = {"type": "integer", "minimum": 0, "description": "Replaces the id in the query."}
    form = {"type": "object", "properties": properties}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


@asynccontextmanager
async def read_query(
    request: Request, model: type[A], max_pictures: int, kept: KeptPictures
) -> AsyncIterator[tuple[Uploads, A]]:
    """Read pictures and query of a request. Large pictures are temporary files, which are deleted afterwards.

    Args:
        kept: pictures that the query may name.

    Raises:
        ProblemError: 413, 415 or 422.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    origin = origin_of(request.client.host if request.client else "")
    if kind == "application/json":
        yield Uploads(origin=origin, kept=kept), _parsed(await _json(request), model)
    elif kind == "multipart/form-data":
        form = await _form(request, max_pictures)
        try:
            positive, negative = _files(form)
            yield Uploads(positive, negative, origin, kept), _parsed(_text(form, "query"), model, _text(form, "id"))
        finally:
            await form.close()
    else:
        raise ProblemError(415, f"content type {kind or 'unknown'}; send multipart/form-data or application/json")


async def _json(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_JSON:
            raise ProblemError(413, f"a query is at most {MAX_JSON / 1e6:g} MB of JSON", {"Connection": "close"})
    return b"".join(parts)


class _Parser(MultiPartParser):
    """Refuses a form without its last boundary: a part may be missing, and Starlette drops an incomplete one."""

    complete = False

    def on_end(self) -> None:
        self.complete = True

    async def parse(self) -> FormData:
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self.complete:
            raise MultiPartException("it ends early, without its last boundary; send all of it")


async def _form(request: Request, max_pictures: int) -> FormData:
    limits = {"max_files": max_pictures, "max_fields": len(TEXTS), "max_part_size": MAX_JSON}
    try:
        async with aclosing(request.stream()) as stream:
            return await _Parser(request.headers, stream, **limits).parse()
    except (MultiPartException, FormParserError) as error:  # too many parts, or no form
        raise ProblemError(422, f"the form cannot be read: {error}") from None


def _files(form: FormData) -> list[list[BinaryIO]]:
    """The files of each of `PICTURES`."""
    unknown = sorted({name for name, _ in form.multi_items()} - {*PICTURES, *TEXTS})
    if unknown:
        raise ProblemError(422, f"{unknown[0]}: no such field; fields are {', '.join((*PICTURES, *TEXTS))}")
    files: dict[str, list[BinaryIO]] = {}
    for name in PICTURES:
        parts = form.getlist(name)
        if not all(isinstance(part, UploadFile) for part in parts):
            raise ProblemError(422, f"{name}: not a file; send it with a filename")
        files[name] = [part.file for part in parts if isinstance(part, UploadFile)]
    return list(files.values())


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise ProblemError(422, f"{name}: give a plain field, not a file")
    return value


def _parsed(text: str | bytes, model: type[A], id_: str = "") -> A:
    """Parse and check a query.

    Args:
        id_: the form field `id`; it replaces the id in the query.
    """
    try:
        query = json.loads(text or "{}")
        if id_ and isinstance(query, dict):
            query["id"] = json.loads(id_)
        return model.model_validate(query)
    except ValidationError as error:
        raise ProblemError(422, validation_detail(error.errors())) from None
    except (ValueError, RecursionError) as error:
        raise ProblemError(422, f"not JSON: {error}") from None
