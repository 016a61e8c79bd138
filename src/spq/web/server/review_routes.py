"""The HTTP API of the review of copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from spq.errors import DataError
from spq.web.server import review_schemas as schemas
from spq.web.server.edition import Edition
from spq.web.server.jobs import RETRY_SECONDS
from spq.web.server.own_machine import may_tell_location
from spq.web.server.problems import ProblemError, problems_of
from spq.web.server.review import Report, page_facts
from spq.web.server.review_export import CSV_NAME, SCRIPT_NAME, decisions_csv, decisions_script
from spq.web.server.schemas import MAX_NUMBER, MAX_TOP, MAX_WHERE
from spq.web.server.service import Service

Offset = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Top = Annotated[int, Query(ge=1, le=MAX_TOP)]
Where = Annotated[str | None, Query(max_length=MAX_WHERE, description="Groups with at least one such picture.")]
Kinds = Annotated[list[schemas.Kind], Query(description="Only groups of these kinds; may be repeated.")]
State = Annotated[Literal["all", "open", "decided"], Query(description="Only groups that are open, or decided.")]
AsOf = Annotated[
    int | None, Query(ge=0, le=MAX_NUMBER, description="Groups decided after this revision count as open.")
]
Since = Annotated[int, Query(ge=0, le=MAX_NUMBER, description="Revision of the decisions that are known.")]
OWN = "for a browser on the machine of this server, and for clients that send the token"
COMPUTING = {"model": schemas.ComputingReport, "description": "the report is not ready yet"}


def add_review(router: APIRouter, service: Service) -> None:
    """Add the routes."""
    errors = problems_of(404, 422, 503)
    _add_groups(router, service, errors)
    _add_decisions(router, service, errors)
    _add_exports(router, service, errors)


def _add_groups(router: APIRouter, service: Service, errors: dict[int | str, dict[str, Any]]) -> None:
    @router.get(
        "/api/duplicates", tags=["copies"], response_model=schemas.Duplicates, responses={202: COMPUTING, **errors}
    )
    async def duplicates(
        request: Request,
        offset: Offset = 0,
        top: Top = 100,
        kind: Kinds = [],  # noqa: B006 (FastAPI copies it)
        state: State = "all",
        as_of: AsOf = None,
        where: Where = None,
    ) -> Any:
        """A page of the groups of copies that spq dupes finds. The server makes the report in the background, from the first
        request on."""

        def answer(edition: Edition) -> Response:
            report = _report(edition)
            if isinstance(report, Response):
                return report
            groups, facts = edition.review.page(report, kind, state, as_of, where)
            place = str(edition.review.file.path) if may_tell_location(request, service.settings) else None
            return JSONResponse(page_facts(groups, {**facts, "place": place}, offset, top))

        return await _run(service, request, answer)


def _add_decisions(router: APIRouter, service: Service, errors: dict[int | str, dict[str, Any]]) -> None:
    known: dict[str, Any] = {"tags": ["copies"], "response_model": schemas.ReviewChanges, "responses": errors}

    async def run(request: Request, ask: Callable[[Edition, Report], dict[str, Any]]) -> Response:
        if request.method == "POST" and not may_tell_location(request, service.settings):
            raise ProblemError(403, f"decisions are {OWN}")
        return await _run(service, request, lambda edition: JSONResponse(ask(edition, _ready(edition))))

    @router.get("/api/duplicates/changes", **known)
    async def changes(request: Request, since: Since = 0, where: Where = None) -> Any:
        """The decisions that are newer than a revision."""
        return await run(
            request, lambda edition, report: edition.review.changes(report, schemas.Since(since=since, where=where))
        )

    @router.post("/api/duplicates/decisions", **known)
    async def decide(request: Request, ask: schemas.Decide) -> Any:
        """Decide about groups. This changes no picture. The last decision about a group counts."""
        return await run(request, lambda edition, report: edition.review.decide(report, ask))

    @router.post("/api/duplicates/undo", **known)
    async def undo(request: Request, ask: schemas.Undo) -> Any:
        """Undo one step, as far as its groups were not decided again since."""
        return await run(request, lambda edition, report: edition.review.undo(report, ask))

    @router.post(
        "/api/duplicates/rule",
        tags=["copies"],
        response_model=schemas.RuleEffect | schemas.ReviewChanges,
        responses=errors,
    )
    async def rule(request: Request, ask: schemas.Rule) -> Any:
        """Decide all open groups by a rule; with `dry`, which is the default, only say what it would do."""
        return await run(request, lambda edition, report: edition.review.rule(report, ask))


def _add_exports(router: APIRouter, service: Service, errors: dict[int | str, dict[str, Any]]) -> None:
    def described(kind: str) -> dict[str, Any]:
        content = {200: {"content": {kind: {}}, "description": "a file"}}
        return {"tags": ["copies"], "response_class": Response, "responses": {**content, **errors}}

    @router.get("/api/duplicates/decisions.csv", **described("text/csv"))
    async def as_csv(request: Request) -> Any:
        """All groups and decisions as a table. Absolute paths are in it for those who may know them."""
        is_told = may_tell_location(request, service.settings)

        def make(edition: Edition) -> Response:
            state, _ = edition.review.state(_ready(edition))
            return _file(
                decisions_csv(state, edition.pictures.listed_file if is_told else lambda _: None),
                "text/csv; charset=utf-8",
                CSV_NAME,
            )

        return await service.run_original(make)

    @router.get("/api/duplicates/move.sh", **described("application/x-sh"))
    async def as_script(request: Request) -> Any:
        """A shell script that moves the dropped pictures to a trash folder. Without --go it only says what it would do."""
        if not may_tell_location(request, service.settings):
            raise ProblemError(403, f"the script names folders, so it is {OWN}")

        def make(edition: Edition) -> Response:
            state, _ = edition.review.state(_ready(edition))
            script = decisions_script(state, edition.pictures.listed_file, edition.pictures.origin)
            return _file(script, "application/x-sh", SCRIPT_NAME)

        return await service.run_original(make)


async def _run(service: Service, request: Request, ask: Callable[[Edition], Response]) -> Response:
    """The answer. Why a file of decisions cannot be used is said to those who may know where it is."""
    try:
        return await service.run_short(ask)
    except DataError as error:
        if may_tell_location(request, service.settings):
            raise ProblemError(500, str(error)) from None
        raise


def _report(edition: Edition) -> Report | Response:
    """The report; while it is made, an answer that says how far that is.

    Raises:
        ProblemError: 503, it could not be made.
    """
    report, error = edition.duplicates.report()
    if report is not None:
        return report
    if error is not None:
        raise ProblemError(503, error, {"Retry-After": f"{RETRY_SECONDS:.0f}"})
    content = {"state": "computing", **edition.duplicates.facts()}
    return JSONResponse(content, 202, {"Retry-After": "1"})


def _ready(edition: Edition) -> Report:
    report = _report(edition)
    if isinstance(report, Response):
        raise ProblemError(503, "the report of copies is not ready yet; try again in a second", {"Retry-After": "1"})
    return report


def _file(data: bytes, kind: str, name: str) -> Response:
    return Response(data, headers={"Content-Disposition": f'attachment; filename="{name}"'}, media_type=kind)
