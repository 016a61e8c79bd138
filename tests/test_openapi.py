"""Requests made up from the OpenAPI document, meaningful and not: the server answers all of them, and as the document says."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.web.server.app import Settings, create_app

EXAMPLES = 25  # of each route and kind
ROUTES = [
    "GET /api/bands",
    "GET /api/browse",
    "GET /api/codewords",
    "GET /api/codewords/{m}/{k}",
    "GET /api/duplicates",
    "GET /api/duplicates/changes",
    "GET /api/duplicates/decisions.csv",
    "GET /api/duplicates/move.sh",
    "GET /api/explain",
    "GET /api/facets",
    "GET /api/items/{id}",
    "GET /api/items/{id}/download",
    "GET /api/items/{id}/image",
    "GET /api/items/{id}/thumbnail",
    "GET /api/map",
    "GET /api/map/progress",
    "GET /api/map/values",
    "GET /api/status",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "POST /api/duplicates/decisions",
    "POST /api/duplicates/rule",
    "POST /api/duplicates/undo",
    "POST /api/explain",
    "POST /api/items/facts",
    "POST /api/items/zip",
    "POST /api/items/{id}/show",
    "POST /api/search",
]
WITHOUT_VALUES = {
    "GET /api/bands", "GET /api/duplicates/decisions.csv", "GET /api/duplicates/move.sh", "GET /api/map/progress",
    "GET /api/status", "GET /healthz", "GET /metrics", "GET /readyz",
}  # fmt: skip
MORE_THAN_FORM = {
    "GET /api/browse",
    "GET /api/codewords",
    "GET /api/codewords/{m}/{k}",
    "GET /api/duplicates",
    *(route for route in ROUTES if "/api/duplicates/" in route),
    "GET /api/facets",
    "GET /api/map",
    "POST /api/explain",
    "POST /api/items/facts",
    "POST /api/search",
}  # `where` is a language, a picture is a picture, 3.0 is no id, a report is not ready yet


@pytest.fixture(scope="module")
def operations(
    shared_photos: Path, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, schemathesis.APIOperation]]:
    """Of a server that runs on a port of its own."""
    root = tmp_path_factory.mktemp(
        "few"
    )  # few pictures, so that copies are found soon; decisions are written to the index
    (root / "photos").mkdir()
    for picture in sorted(shared_photos.rglob("*.png"))[:8]:
        shutil.copy(picture, root / "photos")
    with (
        ImageIndex.build(root / "i", tiny_model, root / "photos") as index,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        app = create_app(index, Settings(cache=tmp_path_factory.mktemp("cache"), patience=60))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        document = schemathesis.openapi.from_url(f"{address}/openapi.json")
        while httpx2.get(f"{address}/api/duplicates").status_code == 202:  # until then, decisions are answered with 503
            time.sleep(0.1)
        yield {found.ok().label: found.ok() for found in document.get_all_operations()}
        server.should_exit = True
        thread.join()


def test_these_are_all_routes(operations: dict[str, schemathesis.APIOperation]) -> None:
    assert sorted(operations) == ROUTES


def test_the_guide_names_every_route_and_no_other() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "guides" / "serving.md").read_text("utf-8")
    named = {re.sub(r"\?.*", "", path) for path in re.findall(r"`(?:GET |POST )?(/[a-z][^ `]*)`", guide)}
    patterns = {re.sub(r"\{\w+\}", r"\\d+", route.split()[1]) for route in ROUTES}
    assert all(any(re.fullmatch(pattern, path) for path in named) for pattern in patterns)
    assert all(any(re.fullmatch(pattern, path) for pattern in patterns | {"/openapi.json"}) for path in named)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_request_is_answered_as_the_document_says(
    operations: dict[str, schemathesis.APIOperation], route: str, mode: GenerationMode
) -> None:
    if mode is GenerationMode.NEGATIVE and route in WITHOUT_VALUES:
        pytest.skip("it is asked nothing")

    @given(case=operations[route].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance] if route in MORE_THAN_FORM else [])

    check()
