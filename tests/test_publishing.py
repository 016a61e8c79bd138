"""`spq index --publish`, and commands that are given a published index."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import run_spq
from models import tiny
from spq.config import Recipe
from spq.data.open import open_images
from spq.index.build import build
from spq.index.image_index import ImageIndex
from spq.index.shards.open_store import open_store
from spq.index.shards.sharding import to_shards
from spq.scale.publish import publish
from test_serve import get, serving, wait_until


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = run_spq(*words)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))


def test_an_index_is_published_and_searched_at_its_url(
    index_copy: Path, shared_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{tmp_path}/at"
    status, out, err = run(capsys, "index", index_copy, "--publish", url)
    assert (status, err) == (0, "")
    assert out.startswith(f"{tmp_path}/at: generation 1, 60 pictures (5 files of 5 uploaded, ")
    assert run(capsys, "index", index_copy, "--publish", url)[1] == (
        f"{tmp_path}/at: generation 1 is the index as it is now; nothing was uploaded\n"
    )
    facts = json.loads(run(capsys, "index", index_copy, "--publish", url, "--json")[1])
    assert (facts["generation"], facts["is_new"], facts["uploaded"], facts["images"]) == (1, False, 0, 60)
    query = (shared_photos / "bag" / "001.jpg", "--top", 9, "--json")
    expected = run(capsys, "search", index_copy, *query)
    assert expected[1]
    assert run(capsys, "search", url, *query) == expected
    assert run(capsys, "search", tmp_path / "at", *query) == expected
    assert json.loads(run(capsys, "info", url, "--json")[1])["images"] == 60
    (tmp_path / "at").rename(tmp_path / "away")
    status, out, err = run(capsys, "search", url, *query)
    assert (status, out) == expected[:2]
    assert err == (
        f"warning: no published index at {tmp_path}/at; check the address, or --publish one; generation 1 of the cache is used\n"
    )


@pytest.mark.parametrize("has_shards", [True, False])
def test_a_published_index_is_a_backup(
    index_copy: Path, shared_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], has_shards: bool
) -> None:
    at, restored = tmp_path / "at", tmp_path / "restored"
    if has_shards:
        with open_store(index_copy) as store:
            to_shards(store, 25)
        status, _, err = run(capsys, "index", index_copy, "--backup", tmp_path / "b")
        assert (status, err.count("\n")) == (1, 1)
        assert "has shards; --publish it to a folder instead, which --restore takes as well" in err
    assert run(capsys, "index", index_copy, "--publish", at)[0] == 0
    status, out, err = run(capsys, "index", "--restore", at, "--out", restored)
    assert (status, err) == (0, "")
    assert out.startswith(f"{restored}: 60 items, ")
    with ImageIndex.open(index_copy) as old, ImageIndex.open(restored) as new:
        assert new.search_many(range(1, 61), 60) == old.search_many(range(1, 61), 60)
        assert new.info() | {"name": ""} == old.info() | {"name": ""}
    assert run(capsys, "index", restored, "--verify")[0] == 0
    assert run(capsys, "index", shared_photos, "--out", restored)[0] == 0  # it can be written to
    status, _, err = run(capsys, "index", "--restore", at, "--out", restored)
    assert status == 2
    assert str(restored) in err


@pytest.mark.parametrize("is_mount_point", [True, False])
def test_a_folder_that_is_gone_is_served_from_the_cache(
    index_copy: Path, shared_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_mount_point: bool
) -> None:
    at, query = tmp_path / "at", (shared_photos / "bag" / "001.jpg", "--top", 9, "--json")
    publish(index_copy, str(at))
    expected = run(capsys, "search", at, *query)[:2]
    at.rename(tmp_path / "away")
    if is_mount_point:
        at.mkdir()
    status, out, err = run(capsys, "search", at, *query)
    assert (status, out) == expected
    assert err.startswith("warning: ")
    assert err.endswith("generation 1 of the cache is used\n")
    assert run(capsys, "search", tmp_path / "elsewhere", *query)[0] != 0


def test_what_does_not_go_together_is_refused(
    index_copy: Path, shared_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = tmp_path / "at"
    publish(index_copy, str(at))
    wrong = {
        ("index", index_copy, "--publish", at, "--compact"): "--publish .* needs one index, and works alone",
        ("index", shared_photos, "--publish", at): "needs one index, and works alone: spq index INDEX --publish",
        ("index", "--publish", at): "needs one index",
        ("index", index_copy, "--backup", tmp_path / "b", "--publish", at): "--backup works alone",
        ("index", index_copy, "--publish", shared_photos): "holds something else",
        ("serve", at, "--watch"): "is a published index; give it alone, without --watch",
        ("serve", at, index_copy): "give it alone",
        ("serve", at, "--exclude", "x"): "is an index; omit",
        (
            "serve",
            f"file://{tmp_path}/none",
        ): f"no published index at {tmp_path}/none; check the address, or --publish one",
        ("search", f"file://{shared_photos}", "--id", 1): "but something else",
        ("info", "s5://bucket/x"): "Protocol not known: s5",
    }
    for words, expected in wrong.items():
        status, out, err = run(capsys, *words)
        assert status in (1, 2), words
        assert out == ""
        assert err.count("\n") == 1
        with pytest.raises(AssertionError, match=expected):
            raise AssertionError(err)


def remove(folder: Path, count: int) -> None:
    with open_store(folder) as store, store.writing():
        store.remove(sorted(store.each_path())[:count])


def changes(index_copy: Path, shared_photos: Path, recipe: Recipe) -> Iterator[Path]:
    """Three newer indexes: with other items, with shards, and of another model."""
    remove(index_copy, 10)
    yield index_copy
    with open_store(index_copy) as store:
        to_shards(store, 25)
    remove(index_copy, 5)
    yield index_copy
    other = index_copy.with_name("other")
    build(other, tiny(recipe, 16, 4), open_images(shared_photos)).store.close()
    yield other


@pytest.mark.slow
def test_a_server_takes_over_each_generation_without_a_failed_request(
    index_copy: Path, shared_photos: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    at = tmp_path / "at"
    publish(index_copy, str(at))
    failures: list[str] = []
    ending = threading.Event()

    def ask(address: str) -> None:
        while not ending.is_set():
            try:
                assert get(f"{address}api/search", {"ids": [50], "top": 5})["hits"]
            except Exception as error:
                failures.append(repr(error))
            ending.wait(0.02)

    def hits(folder: Path) -> list[tuple[int, float]]:
        with ImageIndex.open(folder) as index:
            return [(hit.id, round(hit.distance, 5)) for hit in index.search(index.like(50), 40, exclude=[50])]

    quick = "from spq.scale import published; published.LOOK_SECONDS = 0.2"
    with serving(at, "--cache", tmp_path / "thumbnails", preexec=quick) as (_, address):
        wait_until(lambda: get(f"{address}readyz") == {"status": "ready"})

        def served() -> list[tuple[int, float]]:
            answer = get(f"{address}api/search", {"ids": [50], "top": 40})
            return [(hit["id"], round(hit["distance"], 5)) for hit in answer["hits"]]  # type: ignore[attr-defined]

        assert served() == hits(index_copy)
        client = threading.Thread(target=ask, args=(address,))
        client.start()
        try:
            for folder in changes(index_copy, shared_photos, tiny_recipe):
                publish(folder, str(at))
                expected = hits(folder)
                wait_until(lambda expected=expected: served() == expected)
        finally:
            ending.set()
            client.join()
    assert failures == []
