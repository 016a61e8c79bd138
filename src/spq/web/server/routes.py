"""The HTTP API: each route reads its request, runs the work in a thread, and returns the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from spq.errors import ImageError
from spq.index.store import Item
from spq.web.server import prometheus, schemas, thumbnail_cache
from spq.web.server.asking import openapi_body, read_query
from spq.web.server.band_routes import add_bands
from spq.web.server.chosen import add_chosen
from spq.web.server.edition import Edition
from spq.web.server.explore_routes import Where, add_explore
from spq.web.server.kept_pictures import Uploads
from spq.web.server.library import Library
from spq.web.server.problems import OverloadedError, ProblemError, problems_of
from spq.web.server.review_routes import add_review
from spq.web.server.schemas import MAX_NUMBER, MAX_TOP, Ask, AskWhy
from spq.web.server.service import Service
from spq.web.thumbnail import thumbnail_name

Id = Annotated[int, Path(alias="id", ge=0, le=MAX_NUMBER)]
IdAsked = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Number = Annotated[int, Path(ge=0, le=255)]
Offset = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Top = Annotated[int, Query(ge=1, le=MAX_TOP)]
Since = Annotated[int | None, Query(ge=0, le=MAX_NUMBER, description="Only items that changed after this generation.")]
Size = Annotated[int, Query(ge=16, le=thumbnail_cache.SIZES[-1])]

CACHE_SECONDS = 300  # a browser shows a picture for so long without a new request


SEARCH_ERRORS = problems_of(404, 408, 409, 413, 415, 422, 503)
LIST_ERRORS = problems_of(422, 503)
ITEM_ERRORS = problems_of(404, 422, 503)


def api(service: Service) -> APIRouter:
    """Return all routes for one service."""
    router = APIRouter()
    for add in (
        _add_server,
        _add_search,
        _add_items,
        add_chosen,
        add_bands,
        _add_index,
        add_review,
        add_explore,
        _add_model,
    ):
        add(router, service)
    return router


def _add_server(router: APIRouter, service: Service) -> None:
    @router.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Whether the server is up."""
        return {"status": "ok"}

    @router.get("/readyz", tags=["server"], responses=problems_of(503))
    async def readyz() -> dict[str, str]:
        """Whether a search would be answered now. Load balancers ask it: 503 while the server starts or ends."""
        if not service.is_ready:
            raise OverloadedError("the server is starting or ending; ask again in a second")
        return {"status": "ready"}

    @router.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses=problems_of())
    async def metrics_text() -> Response:
        """Counts for Prometheus."""
        return Response(service.metrics_text(), media_type=prometheus.TYPE)

    @router.get("/api/status", tags=["server"], response_model=schemas.Status, responses=problems_of(503))
    async def status() -> Any:
        """The served index, and the state of syncs. `generation` grows with every change of the index."""
        found = await service.run_short(lambda edition: edition.library.status())
        return {**found, **service.sync_facts()}


def _add_search(router: APIRouter, service: Service) -> None:
    most = service.settings.max_pictures

    @router.post(
        "/api/search",
        tags=["search"],
        response_model=schemas.Hits,
        responses=SEARCH_ERRORS,
        openapi_extra=openapi_body(Ask),
    )
    async def search(request: Request) -> Any:
        """The items most like pictures or other items, nearest first. The items of the query are left out."""
        async with read_query(request, Ask, most, service.kept) as (uploads, ask):
            return JSONResponse(await service.run_query(Library.search, uploads, ask))

    @router.post(
        "/api/explain",
        tags=["search"],
        response_model=schemas.Explanation,
        responses=SEARCH_ERRORS,
        openapi_extra=openapi_body(AskWhy),
    )
    async def explain_search(request: Request) -> Any:
        """What each codebook adds to the distance of item `id` from the query."""
        async with read_query(request, AskWhy, most, service.kept) as (uploads, ask):
            return JSONResponse(await service.run_query(Library.explain_ask, uploads, ask))

    @router.get("/api/explain", tags=["search"], response_model=schemas.Explanation, responses=ITEM_ERRORS)
    async def explain(query_id: IdAsked, id: IdAsked) -> Any:  # noqa: A002 (the API's word)
        """What each codebook adds to the distance of item `id` from item `query_id`."""
        return JSONResponse(await service.run_search(Library.explain, Uploads(), Ask(ids=[query_id]), id))


def _add_items(router: APIRouter, service: Service) -> None:
    picture: dict[str, Any] = {"tags": ["items"], "response_class": Response}
    same: dict[int | str, dict[str, Any]] = {304: {"description": "the client has it already"}}

    @router.get(
        "/api/items/{id}/thumbnail",
        responses={200: {"content": {thumbnail_cache.TYPE: {}}}, **same, **ITEM_ERRORS},
        **picture,
    )
    async def thumbnail(request: Request, id_: Id, size: Size = 256) -> Response:
        """The picture, upright, its longer side `size` pixels or the next larger size that the server makes."""
        made = thumbnail_cache.round_size(size)

        def get(edition: Edition) -> Response:
            item = edition.library.item(id_)
            return _picture(item, made, request, lambda: (edition.thumbnails.get(item, made), thumbnail_cache.TYPE))

        return await service.run_short(get)

    @router.get(
        "/api/items/{id}/image", responses={200: {"content": {"image/*": {}}}, **same, **ITEM_ERRORS}, **picture
    )
    async def image(request: Request, id_: Id) -> Response:
        """The bytes of the original, or a PNG if browsers do not show its format."""

        def get(edition: Edition) -> Response:
            item = edition.library.item(id_)
            return _picture(item, 0, request, lambda: edition.pictures.original(item))

        return await service.run_original(get)


def _add_index(router: APIRouter, service: Service) -> None:
    computing: dict[int | str, dict[str, Any]] = {
        202: {"model": schemas.Computing, "description": "order `unusual` is not ready yet"}
    }

    @router.get("/api/browse", tags=["index"], response_model=schemas.Items, responses=computing | LIST_ERRORS)
    async def browse(
        offset: Offset = 0,
        top: Top = 100,
        where: Where = None,
        order: Literal["id", "path", "time", "new", "unusual", "random"] = "id",
        since: Since = None,
        seed: Offset = 0,
    ) -> Any:
        """A page of all items. The orders `time` and `new` (added or changed) start with the latest.

        Order `unusual` starts with the items that are farthest from their tenth neighbour. Each `seed` gives one order `random`.
        """
        return JSONResponse(await service.run_search(Library.browse, offset, top, where, order, since, seed))


def _add_model(router: APIRouter, service: Service) -> None:
    @router.get("/api/codewords", tags=["model"], response_model=schemas.Codewords, responses=LIST_ERRORS)
    async def codewords(where: Where = None) -> Any:
        """How many items use each codeword."""
        return JSONResponse(await service.run_search(Library.codewords, where))

    @router.get("/api/codewords/{m}/{k}", tags=["model"], response_model=schemas.CodewordItems, responses=ITEM_ERRORS)
    async def codeword(m: Number, k: Number, offset: Offset = 0, top: Top = 100, where: Where = None) -> Any:
        """A page of the items that use codeword k of codebook m, the most typical first."""
        return JSONResponse(await service.run_search(Library.codeword, m, k, offset, top, where))


def _picture(item: Item, size: int, request: Request, get: Callable[[], tuple[bytes, str]]) -> Response:
    """Return a picture of an item, or 304 if the client has it already.

    Args:
        get: returns bytes and media type.
    """
    known = request.headers.get("if-none-match", "")
    tag = f'"{thumbnail_name(item, size)}"'
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={CACHE_SECONDS}", "Content-Disposition": "inline"}
    if known.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in known.split(",")]:
        return Response(status_code=304, headers=headers)
    try:
        data, kind = get()
    except ImageError as error:
        raise ProblemError(404, str(error)) from None
    return Response(data, headers=headers, media_type=kind)
