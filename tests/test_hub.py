"""Weights on a hub: cached ones need no network, and the error of an unreachable hub comes at once."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from spq.common.timeout import answer_within
from spq.errors import WeightsError
from spq.model import hub


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


def test_a_hub_that_answers_is_asked_once_and_gets_the_token(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.check_reachable("timm/some.in1k")
    assert server.asked == [  # type: ignore[attr-defined]
        ("/timm/some.in1k/resolve/main/model.safetensors", "Bearer hf_secret")
    ]
    monkeypatch.setattr(Answer, "status", 404)  # the repository may have the file under another name
    hub.check_reachable("timm/some.in1k")


@pytest.mark.parametrize(("status", "reason"), [(401, "is HF_TOKEN needed"), (403, "HF_TOKEN"), (503, "answers 503")])
def test_a_hub_that_refuses_is_reported_with_the_ways_that_work(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    with pytest.raises(WeightsError, match=f"{reason}.*use `backbone` lite0.*`weights` FILE.*mirror in HF_ENDPOINT"):
        hub.check_reachable("timm/some.in1k")


def test_a_hub_that_is_silent_closed_or_switched_off_is_given_up_quickly(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "SECONDS", 0.2)
    monkeypatch.setattr(Answer, "status", None)
    with pytest.raises(WeightsError, match=r"cannot download timm/some\.in1k"):
        hub.check_reachable("timm/some.in1k")
    template = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(WeightsError, match=r"cannot download timm/some\.in1k"):
        hub.check_reachable("timm/some.in1k")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        hub.check_reachable("timm/some.in1k")


def test_a_question_that_takes_too_long_is_given_up_and_an_error_is_passed_on() -> None:
    with pytest.raises(TimeoutError, match=r"no answer within 0.01 seconds"):
        answer_within(0.01, lambda: time.sleep(0.2))
    with pytest.raises(ZeroDivisionError):
        answer_within(1, lambda: 1 // 0)
