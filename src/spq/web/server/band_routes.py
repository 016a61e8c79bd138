"""The route of the bands of similarity."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from spq.web.server import schemas
from spq.web.server.problems import problems_of
from spq.web.server.service import Service


class Reach(BaseModel):
    """The largest distances of two bands. copies, random: shares of altered copies and of random pairs that are very close."""

    very_close: float
    close: float
    copies: float
    random: float


class Bands(BaseModel):
    """The limits of the bands, from `copies` altered copies of the `pictures` that the index had.

    same: the largest `code_distance` of the same picture, which `same_copies` of the copies have, and `same_others` of the
    pictures to a different one; null if the codes cannot tell. picture, code: limits of `distance`, by what a search compares.
    """

    pictures: int
    copies: int
    same: float | None
    same_copies: float
    same_others: float
    picture: Reach
    code: Reach


class BandsAnswer(BaseModel):
    """bands: null if the collection is too small, or its pictures cannot be read."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"bands": None}]})

    bands: Bands | None


def add_bands(router: APIRouter, service: Service) -> None:
    """Add the route of the bands."""

    @router.get(
        "/api/bands",
        tags=["index"],
        response_model=BandsAnswer,
        responses={202: {"model": schemas.Computing, "description": "they are not ready yet"}, **problems_of(503)},
    )
    async def bands() -> Any:
        """What distances mean in this collection. The server calibrates it in the background, from the first request on."""
        with service.editions.use() as edition:
            found, _ = edition.calibration.get()
        return JSONResponse({"bands": None if found.bands is None else asdict(found.bands)})
