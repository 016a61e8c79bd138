"""How far a report of copies is, and that of several processes one makes it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from spq.data.open import open_images
from spq.dupes.find import STAGES
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server import jobs
from spq.web.server.jobs import Progress
from spq.web.server.settings import Settings
from web import client_of


@pytest.mark.parametrize(
    ("done", "seconds", "remaining"),
    [(300, 30, 30.0), (300, 4, None), (2, 30, None), (600, 30, None), (0, 0, None)],
)
def test_the_rest_of_a_stage_is_estimated_once_that_can_be_told(
    done: int, seconds: int, remaining: float | None
) -> None:
    facts = Progress(STAGES[4], done, 600, 100.0).facts(100.0 + seconds)
    assert (facts["stage"], facts["step"], facts["steps"]) == ("comparing at full size", 5, 7)
    assert facts["remaining"] == remaining


def test_of_two_servers_one_compares_and_the_other_takes_its_report(
    tiny_model: Model, index_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, may_end = [], threading.Event()

    def find(*arguments: object, **named: object) -> object:
        made.append(threading.current_thread())
        assert may_end.wait(60)
        return compare(None, few)

    (tmp_path / "two").mkdir()
    for name in ("a.png", "b.png"):
        Image.linear_gradient("L").save(tmp_path / "two" / name)
    compare, few = jobs.find_duplicates, open_images(tmp_path / "two")
    monkeypatch.setattr(jobs, "find_duplicates", find)
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.02)
    settings = Settings(cache=tmp_path / "cache", workers=2, patience=60)
    with (
        ImageIndex(Store.open(index_copy), tiny_model) as one,
        ImageIndex(Store.open(index_copy), tiny_model) as two,
        client_of(one, settings) as first,
        client_of(two, settings) as second,
    ):
        clients = [first, second]
        end = time.monotonic() + 60
        stages = set()
        while jobs.WAITING not in stages:
            stages = {client.get("/api/duplicates").json()["stage"] for client in clients}
            assert time.monotonic() < end
        may_end.set()
        for client in clients:
            while (answer := client.get("/api/duplicates")).status_code == 202:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert answer.json()["pictures"] == 2
    assert len(made) == 1
