"""Routes for pictures that a user has chosen: facts of many, a ZIP, one file to download, and its folder."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from spq.common.text import encodable
from spq.errors import ImageError
from spq.index.store import Item
from spq.web.server import own_machine, schemas
from spq.web.server.edition import Edition
from spq.web.server.problems import OverloadedError, ProblemError, problems_of
from spq.web.server.schemas import MAX_NUMBER
from spq.web.server.service import Service
from spq.web.server.zip_stream import zip_of
from spq.web.view import facts

MAX_CHOSEN = 10_000  # pictures of a ZIP
MAX_FACTS = 1000  # of one answer
MAX_ZIPS = 16  # that are sent at a time; each reads one picture at a time
Id = Annotated[int, Path(alias="id", ge=0, le=MAX_NUMBER)]


class Chosen(BaseModel):
    """Items by their ids."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ids": [17, 4]}]})

    ids: Annotated[list[schemas.Id], Field(min_length=1, max_length=MAX_FACTS)]


class PlacedItem(schemas.Item):
    """An item, and where its picture is, for those who may know it: an absolute path, or a collection, `#`, and an id in it.

    can_show: whether this server can open the folder on the screen of the user.
    """

    location: str | None
    can_show: bool


class PlacedItems(BaseModel):
    """Items in the order of their ids. missing: ids that are no longer in the index."""

    items: list[PlacedItem]
    missing: list[int]


def add_chosen(router: APIRouter, service: Service) -> None:
    """Add the routes."""
    _add_facts(router, service)
    _add_files(router, service)
    _add_zip(router, service)


def _add_facts(router: APIRouter, service: Service) -> None:
    def placed(edition: Edition, item: Item, request: Request) -> dict[str, Any]:
        is_own = own_machine.is_own_machine(request, service.settings)
        is_told = own_machine.may_tell_location(request, service.settings)
        location = edition.pictures.location(item.path) if is_told else None
        can_show = is_own and own_machine.opener() is not None and FilePath(str(location)).is_file()
        return {**facts(item), "location": encodable(location) if location else None, "can_show": can_show}

    @router.get("/api/items/{id}", tags=["items"], response_model=PlacedItem, responses=problems_of(404, 422, 503))
    async def item(request: Request, id_: Id) -> Any:
        """The facts of an item."""
        return JSONResponse(
            await service.run_short(lambda edition: placed(edition, edition.library.item(id_), request))
        )

    @router.post("/api/items/facts", tags=["items"], response_model=PlacedItems, responses=problems_of(413, 422, 503))
    async def item_facts(request: Request, chosen: Chosen) -> Any:
        """The facts of many items. Locations are for the browser of this machine, and for clients that have the token."""

        def get(edition: Edition) -> dict[str, Any]:
            found = edition.library.chosen(chosen.ids)
            items = [placed(edition, found[id_], request) for id_ in chosen.ids if id_ in found]
            return {"items": items, "missing": [id_ for id_ in chosen.ids if id_ not in found]}

        return JSONResponse(await service.run_original(get))

    @router.post("/api/items/{id}/show", tags=["items"], status_code=204, responses=problems_of(404, 422, 503))
    async def show(request: Request, id_: Id) -> Response:
        """Open the folder of an item in the file manager. Only for a browser on the machine of the server."""
        program = own_machine.opener()
        if not own_machine.is_own_machine(request, service.settings) or program is None:
            raise ProblemError(403, "only a browser on the machine of this server can open a folder there")

        def find(edition: Edition) -> Any:
            return edition.pictures.file(edition.library.item(id_).path)

        file = await service.run_short(find)
        if file is None:
            raise ProblemError(404, "this picture is no file in a folder, or it has moved")
        try:
            own_machine.show_in_folder(program, file)
        except OSError as error:
            raise ProblemError(503, f"the file manager does not start: {error.strerror}") from None
        return Response(status_code=204)


def _add_files(router: APIRouter, service: Service) -> None:
    @router.get(
        "/api/items/{id}/download",
        tags=["items"],
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}, **problems_of(404, 422, 503)},
    )
    async def download(id_: Id) -> Response:
        """The bytes of the original under its own name."""

        def get(edition: Edition) -> tuple[bytes, str]:
            item = edition.library.item(id_)
            try:
                data, suffix = edition.pictures.download(item)
            except ImageError as error:
                raise ProblemError(404, str(error)) from None
            return data, encodable(item.path).split("/")[-1] + suffix

        data, name = await service.run_original(get)
        return Response(data, headers=attachment(name), media_type="application/octet-stream")


def _add_zip(router: APIRouter, service: Service) -> None:
    in_work = 0

    @router.post(
        "/api/items/zip",
        tags=["items"],
        response_class=Response,
        responses={200: {"content": {"application/zip": {}}}, **problems_of(404, 413, 422, 503)},
    )
    async def zip_items(
        ids: Annotated[
            str,
            Form(
                description=f"Ids with commas in between, at most {MAX_CHOSEN:,}.",
                pattern=r"^\d{1,15}(,\d{1,15})*$",
                max_length=16 * MAX_CHOSEN,
                examples=["17,4"],
            ),
        ],
    ) -> Response:
        """A ZIP of originals under their own names, sent while it is made. A form can ask for it, so that a browser saves it.

        Where two names are alike, they keep their folders. The ZIP lists the pictures that could not be read.
        """
        chosen = list(dict.fromkeys(map(int, ids.split(","))))
        if len(chosen) > MAX_CHOSEN:
            raise ProblemError(422, f"{len(chosen):,} pictures; a ZIP has at most {MAX_CHOSEN:,}")
        if in_work >= MAX_ZIPS:
            raise OverloadedError(f"{in_work} downloads are in work; try again in a minute", 60)
        found = await service.run_original(lambda edition: edition.library.chosen(chosen))
        items = [found[id_] for id_ in chosen if id_ in found]
        if not items:
            raise ProblemError(404, "none of these pictures is in the index any more")
        unknown = [id_ for id_ in chosen if id_ not in found]
        headers = {**attachment(_zip_name(service, len(items))), "X-Accel-Buffering": "no"}
        return StreamingResponse(sent(items, unknown), headers=headers, media_type="application/zip")

    async def sent(items: list[Item], unknown: list[int]) -> AsyncIterator[bytes]:
        nonlocal in_work
        in_work += 1
        try:
            async for piece in zip_of(items, unknown, read):
                yield piece
        finally:
            in_work -= 1

    async def read(item: Item) -> tuple[bytes, str]:
        return await service.run_original(lambda edition: edition.pictures.download(item))


def _zip_name(service: Service, count: int) -> str:
    with service.editions.use() as edition:
        name = str(edition.library.status()["name"]).removesuffix(".index")
    return f"{name} {count} {datetime.now(UTC).astimezone():%Y-%m-%d %H.%M}.zip"


def attachment(name: str) -> dict[str, str]:
    """Return the header by which a browser saves an answer under a name (RFC 6266).

    >>> attachment("Äpfel.jpg")["Content-Disposition"]
    'attachment; filename="_pfel.jpg"; filename*=UTF-8\\'\\'%C3%84pfel.jpg'
    """
    plain = re.sub(r'[^ -~]|["\\%/]', "_", name)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"}
