"""The routes of the HTTP API about a whole collection: its map, and how many pictures share a value."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from spq.web.server import schemas
from spq.web.server.explore import Explore
from spq.web.server.problems import problems_of
from spq.web.server.schemas import MAX_WHERE
from spq.web.server.service import Service

Where = Annotated[str | None, Query(max_length=MAX_WHERE, description="As in spq search --where.")]


MAX_COLUMN = 200


def add_explore(router: APIRouter, service: Service) -> None:
    """Add the routes."""

    @router.get("/api/map", tags=["index"], response_model=schemas.Map, responses=problems_of(422, 503))
    async def collection_map(where: Where = None, method: Literal["pca", "neighbours"] | None = None) -> Any:
        """Positions of the pictures on a plane: all, or a fixed sample of 100,000.

        Pictures that are alike lie together, if the server has the library for it. The first request begins to compute this;
        until it is done, the map shows the plane of the largest variance. With `where`, the map has only the pictures that match
        it, at the same positions. Method `pca` is always ready.
        """
        return JSONResponse(await service.run_explore(Explore.map, where, method))

    waits: dict[int | str, dict[str, Any]] = {202: {"model": schemas.Computing, "description": "not ready yet"}}

    @router.get("/api/facets", tags=["index"], response_model=schemas.Facets, responses=waits | problems_of(422, 503))
    async def facet_counts(where: Where = None) -> Any:
        """Columns with their values, and how many pictures have each: all pictures, or those that `where` matches.

        Numbers come in ranges, folders at the first level that has several, times as years or months.
        """
        return JSONResponse(await service.run_explore(Explore.facets, where))

    @router.get(
        "/api/map/values",
        tags=["index"],
        response_model=schemas.MapValues,
        responses=waits | problems_of(404, 422, 503),
    )
    async def map_values(column: Annotated[str, Query(max_length=MAX_COLUMN)]) -> Any:
        """The value that each picture on the map has in a column of /api/facets."""
        return JSONResponse(await service.run_explore(Explore.colours, column))

    @router.get("/api/map/progress", tags=["index"], response_model=schemas.MapProgress, responses=problems_of(503))
    async def map_progress() -> Any:
        """How far the arrangement of the map by neighbours is."""
        return JSONResponse({"arranging": await service.run_explore(Explore.progress)})
