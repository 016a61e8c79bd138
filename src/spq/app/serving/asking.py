"""What a search is asked, as JSON or as a form with pictures."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from spq.app.serving.library import Uploads
from spq.app.serving.problems import ProblemError, validation_detail
from spq.app.serving.schemas import Ask

A = TypeVar("A", bound=Ask)


def openapi_body(model: type[BaseModel]) -> dict[str, Any]:
    """Both forms that a search may come in."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    picture = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "properties": {
            "image": {**picture, "description": "Pictures to be like."},
            "negative_image": {**picture, "description": "Pictures not to be like."},
            "query": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": reference,
                "description": "The rest, as JSON.",
                "example": '{"top": 20, "where": "width >= 640"}',
            },
        },
    }
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


async def read(request: Request, model: type[A], max_pictures: int) -> tuple[Uploads, A]:
    """Pictures and query of a request.

    Raises:
        ProblemError: 415 or 422.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Uploads(), _parsed(await request.body(), model)
    if kind != "multipart/form-data":
        raise ProblemError(415, f"content type {kind or 'unknown'}; send multipart/form-data or application/json")
    try:
        async with request.form(max_files=max_pictures, max_fields=4) as form:
            return await _uploads(form), _parsed(_text(form), model)
    except (MultiPartException, HTTPException) as error:
        told = error.detail if isinstance(error, HTTPException) else error.message
        raise ProblemError(422, f"the form cannot be read: {told}") from None


async def _uploads(form: FormData) -> Uploads:
    unknown = sorted({name for name, _ in form.multi_items()} - {"image", "negative_image", "query"})
    if unknown:
        raise ProblemError(422, f"{unknown[0]}: no such field; there are image, negative_image and query")
    pictures: dict[str, list[bytes]] = {"image": [], "negative_image": []}
    for name, values in pictures.items():
        for part in form.getlist(name):
            if not isinstance(part, UploadFile):
                raise ProblemError(422, f"{name}: not a file; a field of a form needs a filename to be one")
            values.append(await part.read())
    return Uploads(pictures["image"], pictures["negative_image"])


def _text(form: FormData) -> str:
    values = form.getlist("query")
    if len(values) > 1 or not all(isinstance(value, str) for value in values):
        raise ProblemError(422, "query: give one field with JSON, not a file")
    return str(values[0]) if values else "{}"


def _parsed(text: str | bytes, model: type[A]) -> A:
    try:
        return model.model_validate(json.loads(text or "{}"))
    except ValidationError as error:
        raise ProblemError(422, validation_detail(error.errors())) from None
    except (ValueError, RecursionError) as error:
        raise ProblemError(422, f"not JSON: {error}") from None
