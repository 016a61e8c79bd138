"""The HTTP API: each route reads what it is asked, has it done in a worker thread, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from spq.errors import ImageError
from spq.index.store import Item
from spq.web.server import prometheus, schemas, thumbnail_cache
from spq.web.server.asking import openapi_body, read_query
from spq.web.server.jobs import RETRY_SECONDS
from spq.web.server.library import Uploads
from spq.web.server.problems import MEDIA_TYPE, ProblemError
from spq.web.server.schemas import MAX_NUMBER, MAX_TOP, MAX_WHERE, Ask, AskWhy
from spq.web.server.service import Service
from spq.web.thumbnail import thumbnail_name
from spq.web.view import facts

Id = Annotated[int, Path(alias="id", ge=0, le=MAX_NUMBER)]
IdAsked = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Number = Annotated[int, Path(ge=0, le=255)]
Offset = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Top = Annotated[int, Query(ge=1, le=MAX_TOP)]
Where = Annotated[str | None, Query(max_length=MAX_WHERE, description="As in spq search --where.")]
Since = Annotated[int | None, Query(ge=0, le=MAX_NUMBER, description="Only what came after this generation.")]
Size = Annotated[int, Query(ge=16, le=thumbnail_cache.SIZES[-1])]

TOLD = {
    401: "the token is missing or wrong",
    403: "asked from another site",
    404: "no such item",
    408: "the request did not come in in time",
    413: "the request is too large",
    415: "neither multipart/form-data nor JSON",
    421: "asked under a name that is not this server's",
    422: "a value that cannot be meant, or a picture that cannot be read",
    500: "a fault of the server",
    503: "too much to do; try again after Retry-After seconds",
}
SECONDS_KEPT = 300  # that a browser shows a picture again without asking


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    every = sorted({401, 403, 421, 500, *statuses})
    return {status: {"description": TOLD[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in every}


ASKED = _problems(404, 408, 413, 415, 422, 503)
GET = _problems(422, 503)
FOUND = _problems(404, 422, 503)


def api(service: Service) -> APIRouter:
    """All routes over one service."""
    router = APIRouter()
    for add in (_add_server, _add_search, _add_items, _add_index, _add_model):
        add(router, service)
    return router


def _add_server(router: APIRouter, service: Service) -> None:
    @router.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Whether the server is up."""
        return {"status": "ok"}

    @router.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses=_problems())
    async def metrics_text() -> Response:
        """Counts for Prometheus."""
        return Response(service.metrics.text(service.gauges()), media_type=prometheus.TYPE)

    @router.get("/api/status", tags=["server"], response_model=schemas.Status, responses=_problems(503))
    async def status() -> Any:
        """What is served, and what a sync is doing. `generation` grows with every change of the index."""
        found = await service.make(service.library.status)
        return {**found, "watching": service.watcher is not None, **service.sync_facts()}


def _add_search(router: APIRouter, service: Service) -> None:
    library, most = service.library, service.settings.max_pictures

    @router.post(
        "/api/search", tags=["search"], response_model=schemas.Hits, responses=ASKED, openapi_extra=openapi_body(Ask)
    )
    async def search(request: Request) -> Any:
        """The items most like pictures or other items, nearest first. The items asked with are left out."""
        async with read_query(request, Ask, most) as (uploads, ask):
            return JSONResponse(await service.ask(library.search, uploads, ask))

    @router.post(
        "/api/explain",
        tags=["search"],
        response_model=schemas.Explanation,
        responses=ASKED,
        openapi_extra=openapi_body(AskWhy),
    )
    async def explain_search(request: Request) -> Any:
        """What each codebook adds to the distance of item `id` from what is asked."""
        async with read_query(request, AskWhy, most) as (uploads, ask):
            return JSONResponse(await service.ask(library.explain, uploads, ask, ask.id))

    @router.get("/api/explain", tags=["search"], response_model=schemas.Explanation, responses=FOUND)
    async def explain(query_id: IdAsked, id: IdAsked) -> Any:  # noqa: A002 (the API's word)
        """What each codebook adds to the distance of item `id` from item `query_id`."""
        return JSONResponse(await service.ask(library.explain, Uploads(), Ask(ids=[query_id]), id))


def _add_items(router: APIRouter, service: Service) -> None:
    library = service.library
    picture: dict[str, Any] = {"tags": ["items"], "response_class": Response}
    same: dict[int | str, dict[str, Any]] = {304: {"description": "as the client has it"}}

    @router.get("/api/items/{id}", tags=["items"], response_model=schemas.Item, responses=FOUND)
    async def item(id_: Id) -> Any:
        """What is known of an item."""
        return JSONResponse(facts(await service.make(library.item, id_)))

    @router.get(
        "/api/items/{id}/thumbnail",
        responses={200: {"content": {thumbnail_cache.TYPE: {}}}, **same, **FOUND},
        **picture,
    )
    async def thumbnail(request: Request, id_: Id, size: Size = 256) -> Response:
        """The picture, upright, its longer side `size` pixels or the next larger size that is kept."""
        made = thumbnail_cache.round_size(size)

        def get(item: Item) -> tuple[bytes, str]:
            return service.thumbnails.get(item, made), thumbnail_cache.TYPE

        return await service.make(_picture, library.item, id_, made, request.headers.get("if-none-match", ""), get)

    @router.get("/api/items/{id}/image", responses={200: {"content": {"image/*": {}}}, **same, **FOUND}, **picture)
    async def image(request: Request, id_: Id) -> Response:
        """The original's bytes; as PNG where browsers do not show its format."""
        known = request.headers.get("if-none-match", "")
        return await service.make(_picture, library.item, id_, 0, known, library.pictures.original)


def _add_index(router: APIRouter, service: Service) -> None:
    library = service.library

    @router.get("/api/browse", tags=["index"], response_model=schemas.Items, responses=GET)
    async def browse(
        offset: Offset = 0,
        top: Top = 100,
        where: Where = None,
        order: Literal["id", "path", "time", "new"] = "id",
        since: Since = None,
    ) -> Any:
        """A page of all items. `time`, and `new` (added or changed), have the latest first."""
        return JSONResponse(await service.ask(library.browse, offset, top, where, order, since))

    @router.get(
        "/api/duplicates",
        tags=["index"],
        response_model=schemas.Duplicates,
        responses={202: {"model": schemas.Computing, "description": "being made"}, **_problems(503)},
    )
    async def duplicates() -> Any:
        """Groups of copies, as spq dupes finds them. Made in the background when first asked for."""
        report, error = service.duplicates.ask()
        if report is not None:
            return JSONResponse(report)
        if error is not None:
            raise ProblemError(503, error, {"Retry-After": f"{RETRY_SECONDS:.0f}"})
        done, total = service.duplicates.progress
        return JSONResponse({"state": "computing", "done": done, "total": total}, 202, {"Retry-After": "1"})

    @router.get("/api/map", tags=["index"], response_model=schemas.Map, responses=GET)
    async def collection_map(where: Where = None) -> Any:
        """Where the pictures lie on the plane of their largest variance: all, or the same 100,000 of them each time.

        With `where`, those of them of which it is true, in the same places.
        """
        return JSONResponse(await service.ask(library.map, where))


def _add_model(router: APIRouter, service: Service) -> None:
    library = service.library

    @router.get("/api/codewords", tags=["model"], response_model=schemas.Codewords, responses=_problems(503))
    async def codewords() -> Any:
        """How many items use each codeword."""
        return JSONResponse(await service.ask(library.codewords))

    @router.get("/api/codewords/{m}/{k}", tags=["model"], response_model=schemas.CodewordItems, responses=FOUND)
    async def codeword(m: Number, k: Number, offset: Offset = 0, top: Top = 100) -> Any:
        """A page of the items that use codeword k of codebook m, the most typical of them first."""
        return JSONResponse(await service.ask(library.codeword, m, k, offset, top))


def _picture(
    find: Callable[[int], Item], id_: int, size: int, known: str, get: Callable[[Item], tuple[bytes, str]]
) -> Response:
    """A picture of an item, unless the client has it: `known` is what it says it has. In a worker thread."""
    item = find(id_)
    tag = f'"{thumbnail_name(item, size)}"'
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={SECONDS_KEPT}", "Content-Disposition": "inline"}
    if known.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in known.split(",")]:
        return Response(status_code=304, headers=headers)
    try:
        data, kind = get(item)
    except ImageError as error:
        raise ProblemError(404, str(error)) from None
    return Response(data, headers=headers, media_type=kind)
