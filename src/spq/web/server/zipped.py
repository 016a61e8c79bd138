"""The files of the page, compressed once. Answers with users' data are not: their sizes would tell of their content."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fastapi.responses import FileResponse, Response

KINDS = (".js", ".css", ".html", ".svg")


def zipped(response: Response, request: Mapping[str, str]) -> Response:
    """Return the answer with a file, compressed if the browser accepts that."""
    if not isinstance(response, FileResponse) or Path(response.path).suffix not in KINDS:
        return response
    response.headers["Vary"] = "Accept-Encoding"
    if "gzip" not in request.get("accept-encoding", ""):
        return response
    status = Path(response.path).stat()
    data = _compressed(str(response.path), status.st_mtime_ns, status.st_size)
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(data, response.status_code, {**headers, "Content-Encoding": "gzip"})


@lru_cache(maxsize=256)
def _compressed(path: str, changed: int, size: int) -> bytes:
    """Return the content of a file as it was at that time."""
    return gzip.compress(Path(path).read_bytes(), 9, mtime=0)
