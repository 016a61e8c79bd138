"""The server over an index with shards answers as over one without."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from _in_process import InProcessHolder
from held_shards import make_shards, measure, ways
from spq.cli import main as cli
from spq.index.image_index import ImageIndex
from spq.index.shards.open_store import open_store
from spq.index.shards.sharding import to_shards
from spq.web.server.app import Settings
from spq.web.server.edition import Editions
from web import assert_problem, client_of, png, search

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/api/items/7", {}),
    ("/api/browse", {"top": 50}),
    ("/api/browse", {"where": "path ~ *.jpg", "offset": 5}),
    ("/api/browse", {"order": "new", "top": 7}),
    ("/api/browse", {"order": "path", "offset": 3}),
    ("/api/browse", {"order": "time"}),
    ("/api/codewords", {}),
    ("/api/codewords/0/3", {}),
    ("/api/map", {}),
    ("/api/map", {"where": "label = bag"}),
]


@pytest.fixture
def folder(photo_index: Path, tmp_path: Path) -> Path:
    """An index with shards; item 5 was written again since, and item 60 removed."""
    folder = shutil.copytree(photo_index, tmp_path / "i")
    with open_store(folder) as store:
        to_shards(store, 25)
    change(folder)
    return folder


def change(folder: Path) -> None:
    with open_store(folder) as store, store.writing():
        store.put(store.items_by_id([5]).values())
        store.remove([store.paths([60])[60]])


def test_each_page_is_the_same(folder: Path, photo_index: Path, tmp_path: Path, server_settings: Settings) -> None:
    plain = shutil.copytree(photo_index, tmp_path / "plain")
    change(plain)

    def answers(index: ImageIndex, client: TestClient) -> list[Any]:
        found = [client.get(path, params=options).json() for path, options in ASKED]
        found += [
            search(client, ids=[7], top=20).json(),
            search(client, ids=[5], where="label = bag", not_ids=[9]).json(),
            search(client, images=[png()], fold=True).json(),
        ]
        return [{key: value for key, value in each.items() if key not in ("generation", "seconds")} for each in found]

    with ImageIndex.open(plain) as index, client_of(index, server_settings) as client:
        expected = answers(index, client)
    with ImageIndex.open(folder) as index, client_of(index, server_settings) as client:
        assert answers(index, client) == expected


def samples(client: TestClient) -> dict[str, str]:
    """The metrics of shards: name and labels -> value."""
    lines = client.get("/metrics").text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith("spq_shard_"))


def test_the_items_of_each_shard_are_counted(folder: Path, server_settings: Settings) -> None:
    with ImageIndex.open(folder) as index, client_of(index, server_settings) as client:
        found = samples(client)
        names = sorted(path.name for path in (folder / "shards").glob("0*"))
        assert found == {
            **{
                f'spq_shard_items{{shard="{name}"}}': count
                for name, count in zip(names, ("24", "25", "9"), strict=True)
            },
            **{f'spq_shard_tombstones{{shard="{name}"}}': n for name, n in zip(names, ("1", "0", "1"), strict=True)},
        }
        answer = search(client, ids=[7]).json()
        assert (answer["partial"], answer["missing"]) == (False, 0)


@pytest.fixture
def holders() -> Iterator[list[InProcessHolder]]:
    made = [InProcessHolder(f"h{number}") for number in range(2)]
    yield made
    for holder in made:
        holder.close()


def test_each_page_is_the_same_when_others_hold_the_shards(
    folder: Path, server_settings: Settings, holders: list[InProcessHolder]
) -> None:
    def answers(settings: Settings) -> list[Any]:
        with ImageIndex.open(folder) as index, client_of(index, settings) as client:
            assert client.get("/readyz").status_code == 200
            found = [client.get(path, params=options).json() for path, options in ASKED]
            found += [search(client, ids=[7], top=20).json(), search(client, ids=[5], where="label = bag").json()]
            found += [search(client, images=[png()], fold=True).json()]
            return [{key: value for key, value in each.items() if key != "seconds"} for each in found]

    expected = answers(server_settings)
    assert answers(replace(server_settings, find_holders=lambda: holders)) == expected


def test_a_shard_that_does_not_answer_is_an_error_unless_a_partial_answer_is_accepted(
    folder: Path, server_settings: Settings, holders: list[InProcessHolder]
) -> None:
    settings = replace(server_settings, find_holders=lambda: holders, deadline=20)
    with ImageIndex.open(folder) as index, client_of(index, settings) as client:
        whole = search(client, ids=[7], top=60).json()
        assert (whole["partial"], whole["missing"], len(whole["hits"])) == (False, 0, 58)
        names = sorted(path.name for path in (folder / "shards").glob("0*"))
        lost = names[1]
        assert samples(client)[f'spq_shard_up{{shard="{lost}",holder="1"}}'] == "1"
        holders[1].kill()
        answer = search(client, ids=[7], top=60)
        assert_problem(
            answer, 503, "^25 pictures could not be searched in time; try again, or accept a partial answer$"
        )
        assert answer.headers["Retry-After"] == "1"
        partial = search(client, ids=[7], top=60, partial=True).json()
        assert (partial["partial"], partial["missing"]) == (True, 25)
        left = [(hit["id"], hit["distance"]) for hit in whole["hits"] if not 26 <= hit["id"] <= 50]
        assert [(hit["id"], hit["distance"]) for hit in partial["hits"]] == left
        assert partial["total"] == whole["total"]
        found = samples(client)
        assert found[f'spq_shard_up{{shard="{lost}",holder="1"}}'] == "0"
        assert int(found[f'spq_shard_failures_total{{shard="{lost}",holder="1"}}']) == 2
        assert found[f'spq_shard_failures_total{{shard="{names[0]}",holder="0"}}'] == "0"
        assert float(found[f'spq_shard_seconds_total{{shard="{names[0]}",holder="0"}}']) > 0
        assert client.get("/readyz").status_code == 200  # any other server would miss the same shard
        holders[1].start()
        end = time.monotonic() + 30
        while (answer := search(client, ids=[7], top=60)).status_code == 503:
            assert time.monotonic() < end
        assert answer.json()["hits"] == whole["hits"]


def test_a_server_is_not_ready_before_all_shards_are_held(
    folder: Path, server_settings: Settings, holders: list[InProcessHolder]
) -> None:
    holders[1].kill()
    with (
        ImageIndex.open(folder) as index,
        client_of(index, replace(server_settings, find_holders=lambda: holders)) as client,
    ):
        assert client.get("/readyz").status_code == 503
        holders[1].start()
        end = time.monotonic() + 30
        while client.get("/readyz").status_code == 503:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_options_of_holders_need_a_cluster_and_an_index_with_shards(
    photo_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*words: str) -> str:
        assert cli.run(["serve", str(photo_index), "--port", "0", *words]) == 2
        return capsys.readouterr().err

    assert "--holders and --deadline belong to --ray ADDRESS" in line("--holders", "2")
    assert f"has no shards for --ray; run spq index {photo_index} --to-shards" in line("--ray", "local")


def test_holders_have_the_shards_of_an_old_index_and_of_the_one_that_takes_its_place(
    folder: Path, photo_index: Path, tmp_path: Path, server_settings: Settings, holders: list[InProcessHolder]
) -> None:
    newer = shutil.copytree(photo_index, tmp_path / "newer")
    with open_store(newer) as store:
        with store.writing():
            store.remove([store.paths([9])[9]])
        to_shards(store, 15)
    waiting = [newer]
    settings = replace(server_settings, find_holders=lambda: holders)
    with ImageIndex.open(folder) as index:
        editions = Editions(index, settings, lambda _: waiting.pop() if waiting else None)
        with editions.use() as old:
            before = old.shared.of_thread().search(7, 60)
            assert editions.renew(old)
            with editions.use() as new:
                found = [hit.id for hit in new.shared.of_thread().search(7, 60)]
                assert len(found) == 59
                assert 9 not in found
            assert old.shared.of_thread().search(7, 60) == before
            assert len(new.shared.shard_counts()) == 4
        editions.close()


def test_the_benchmark_of_holders_compares_all_answers(tmp_path: Path) -> None:
    live = make_shards(tmp_path / "i", 4000, np.random.default_rng(0))
    with ExitStack() as stack:
        searches = ways(tmp_path / "i", live, argparse.Namespace(holders=[1, 2], top=10, started={}), stack)
        seconds = measure(searches, 3, np.random.default_rng(0))
    assert {name: len(each) for name, each in seconds.items()} == {"direct": 3, "1 in process": 3, "2 in process": 3}
