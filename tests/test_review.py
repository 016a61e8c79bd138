"""The review of copies over HTTP: decisions are kept, undone, exported, and survive restarts, new names and other tabs."""

from __future__ import annotations

import csv
import io
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import run_spq
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server import jobs
from spq.web.server.app import create_app
from spq.web.server.settings import Settings
from web import ORIGIN, TestClient, assert_problem, real_pictures

GROUPS = 4


class Place:
    """Photos, each of them there twice, their index, and a cache."""

    def __init__(self, root: Path, model: Model) -> None:
        self.root, self.model, self.photos = root, model, root / "photos"

    @contextmanager
    def serve(self) -> Iterator[TestClient]:
        settings = Settings(cache=self.root / "cache", workers=2, patience=60, timeout=120)
        with ImageIndex(Store.open(self.root / "i"), self.model) as index, own_client(index, settings) as client:
            ready(client)
            yield client

    def sync(self) -> None:
        ImageIndex.build(self.root / "i", self.model, self.photos).close()


@pytest.fixture
def place(tiny_model: Model, tmp_path: Path) -> Place:
    for number, (picture, _) in enumerate(real_pictures(GROUPS)):
        for name in ("a", "b"):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            picture.resize((60, 60)).save(tmp_path / "photos" / name / f"{number}.png")
    place = Place(tmp_path, tiny_model)
    place.sync()
    return place


def own_client(index: ImageIndex, settings: Settings, address: str = "127.0.0.1") -> TestClient:
    return TestClient(create_app(index, settings), base_url=ORIGIN, client=(address, 50_000))


def ready(client: TestClient, **params: Any) -> Any:
    end = time.monotonic() + 60
    while (answer := client.get("/api/duplicates", params={"kind": "identical", **params})).status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert answer.status_code == 200, answer.text
    return answer.json()


def decide(client: TestClient, group: Any, keep: int | None = 0, **more: Any) -> Any:
    """Keep one picture of a group; None: they are no duplicates."""
    choice = {"choice": "apart"} if keep is None else {"choice": "keep", "keep": [group["ids"][keep]]}
    seen = {"seen": more.pop("seen", 0)}
    answer = client.post(
        "/api/duplicates/decisions", json={"decisions": [{"key": group["key"], **choice, **seen}], **more}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(client: TestClient) -> list[dict[str, str]]:
    answer = client.get("/api/duplicates/decisions.csv")
    assert 'filename="copies.csv"' in answer.headers["content-disposition"]
    return [row for row in csv.DictReader(io.StringIO(answer.text)) if row["kind"] in ("identical", "")]


def test_decisions_survive_a_restart_which_compares_nothing_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.serve() as client:
        first, second, *_ = ready(client)["groups"]
        assert decide(client, first, 1)["progress"]["kinds"]["identical"] == {"groups": GROUPS, "decided": 1}
        decide(client, second, None)
        before = ready(client)
    monkeypatch.setattr(jobs, "find_duplicates", None)
    with place.serve() as client:
        after = ready(client)
        assert after == before
        assert [group["decision"]["choice"] for group in after["groups"]] == ["keep", "apart", "open", "open"]
        assert (after["progress"]["dropped"], after["progress"]["freed"]) == (1, first["items"][0]["size"])
        assert [group["key"] for group in ready(client, state="open")["groups"]] == [
            g["key"] for g in before["groups"][2:]
        ]
        assert ready(client, state="decided", offset=1, top=1)["groups"][0]["key"] == second["key"]
        filtered = ready(client, where="path = a/0.png")
        assert filtered["groups"][0]["ids"] == first["ids"]
        assert filtered["progress"]["kinds"]["identical"] == {"groups": 1, "decided": 1}
        assert_problem(client.get("/api/duplicates", params={"where": "colour = red"}), 422, "colour")


def test_the_place_of_the_decisions_is_absolute(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.root)
    place.root = Path()
    with place.serve() as client:
        assert ready(client)["place"] == str(Path.cwd() / "i" / "decisions.json")


def test_a_rule_decides_open_groups_and_one_undo_takes_it_back(place: Place) -> None:
    with place.serve() as client:
        first = ready(client)["groups"][0]
        decide(client, first)
        rule = {"rule": "folder", "folder": "b", "kinds": ["identical"]}
        would = client.post("/api/duplicates/rule", json=rule).json()
        assert (would["groups"], would["pictures"]) == (GROUPS - 1, GROUPS - 1)
        assert {"folder": "b", "groups": GROUPS - 1} in would["folders"]
        assert ready(client)["progress"]["kinds"]["identical"]["decided"] == 1
        done = client.post("/api/duplicates/rule", json={**rule, "dry": False, "since": 1}).json()
        assert (done["count"], len(done["changed"])) == (GROUPS - 1, GROUPS - 1)
        assert [row["path"] for row in rows(client) if row["decision"] == "drop"] == [
            "b/0.png",
            *(f"a/{n}.png" for n in (1, 2, 3)),
        ]
        undone = client.post("/api/duplicates/undo", json={"batch": done["batch"]}).json()
        assert (undone["count"], undone["progress"]["kinds"]["identical"]["decided"]) == (GROUPS - 1, 1)
        assert client.post("/api/duplicates/undo", json={"batch": done["batch"]}).json()["count"] == 0


def test_another_tab_is_told_and_the_last_decision_counts(place: Place) -> None:
    with place.serve() as client:
        first, *_ = ready(client)["groups"]
        mine = decide(client, first, 0)
        theirs = decide(client, first, 1, seen=0)  # this tab has not seen it
        assert (mine["overwritten"], theirs["overwritten"]) == ([], [first["key"]])
        assert decide(client, first, 1, seen=theirs["revision"])["overwritten"] == []
        changes = client.get("/api/duplicates/changes", params={"since": mine["revision"]}).json()
        assert [(each["key"], each["decision"]["keep"]) for each in changes["changed"]] == [
            (first["key"], [first["ids"][1]])
        ]


def test_what_is_no_decision_is_refused(place: Place) -> None:
    with place.serve() as client:
        group = ready(client)["groups"][0]

        def answer(**decision: Any) -> Any:
            return client.post("/api/duplicates/decisions", json={"decisions": [{"key": group["key"], **decision}]})

        assert_problem(answer(choice="keep", keep=[]), 422, "at least one picture stays")
        assert_problem(answer(choice="keep", keep=[group["ids"][0], 999]), 422, "the group's ids")
        assert_problem(answer(choice="delete"), 422, "choice")
        assert_problem(answer(choice="apart", key="0" * 20), 404, "load the groups again")
        cross_site = client.post("/api/duplicates/undo", json={"batch": 1}, headers={"sec-fetch-site": "cross-site"})
        assert_problem(cross_site, 403, "other sites")
        assert ready(client)["revision"] == 0


def test_no_duplicates_are_those_of_the_command_line(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.serve() as client:
        first, second, third, _ = ready(client)["groups"]
        decide(client, first, None)
        batch = decide(client, second, None)["batch"]
        client.post("/api/duplicates/undo", json={"batch": batch})
        assert run_spq("dupes", place.root / "i", "--ignored") == 0
        assert capsys.readouterr().out == "a/0.png  b/0.png\n"
        assert run_spq("dupes", place.root / "i", "--ignore", "a/2.png", "b/2.png") == 0
        decided = [group["key"] for group in ready(client, state="decided")["groups"]]
        assert decided == [first["key"], third["key"]]
        assert run_spq("dupes", place.root / "i", "--forget", "a/0.png", "b/0.png") == 0
        assert [group["key"] for group in ready(client, state="decided")["groups"]] == [third["key"]]
    picture = next(place.photos.rglob("*.png"))
    (place.photos / "new.png").write_bytes(picture.read_bytes())  # the report is made again
    place.sync()
    with place.serve() as client:
        end = time.monotonic() + 60
        while ready(client)["stale"]:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert "a/2.png" not in {item["path"] for group in ready(client)["groups"] for item in group["items"]}


def test_decisions_follow_renamed_pictures_and_are_outdated_after_a_change(place: Place) -> None:
    with place.serve() as client:
        first, second, *_ = ready(client)["groups"]
        decide(client, first, 0)
        decide(client, second, 0)
    (place.photos / "b" / "0.png").rename(place.photos / "renamed.png")
    for name in ("a", "b"):  # the same picture, other bytes
        file = place.photos / name / "1.png"
        file.write_bytes(file.read_bytes() + b"\0")
    place.sync()
    with place.serve() as client:
        end = time.monotonic() + 60
        while (report := ready(client))["stale"]:
            assert time.monotonic() < end
            time.sleep(0.01)
        decisions = {group["items"][0]["path"]: group["decision"] for group in report["groups"]}
        assert decisions["a/0.png"]["choice"] == "keep"
        assert (decisions["a/1.png"]["choice"], decisions["a/1.png"]["outdated"]) == ("open", True)
        assert report["progress"]["outdated"] == 1
        found = rows(client)
        assert [row["path"] for row in found if row["decision"] == "drop"] == ["renamed.png"]
        assert [row["path"] for row in found if row["decision"] == "outdated"] == ["a/1.png", "b/1.png"] * 2


def test_the_script_moves_what_was_dropped(place: Place, tmp_path: Path) -> None:
    with place.serve() as client:
        for group in ready(client)["groups"][:3]:
            decide(client, group, 0)
        answer = client.get("/api/duplicates/move.sh")
        dropped = [row for row in rows(client) if row["decision"] == "drop"]
    assert [(row["kept"], row["reason"]) for row in dropped] == [(f"a/{n}.png", "the same bytes") for n in range(3)]
    assert [row["file"] for row in dropped] == [str(place.photos / "b" / f"{n}.png") for n in range(3)]
    script = tmp_path / "move-copies.sh"
    script.write_bytes(answer.content)
    done = subprocess.run(["sh", script, "--go"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (place.root / "photos.trash" / "b").iterdir()) == ["0.png", "1.png", "2.png"]
    assert len(list(place.photos.rglob("*.png"))) == 2 * GROUPS - 3


def test_a_damaged_file_of_decisions_is_said_and_kept(place: Place) -> None:
    with place.serve() as client:
        decide(client, ready(client)["groups"][0])
    file = place.root / "i" / "decisions.json"
    file.write_bytes(file.read_bytes()[:-20])
    with place.serve() as client:
        report = ready(client)
        assert "kept as decisions.damaged-1.json" in report["remark"]
        assert report["progress"]["kinds"]["identical"]["decided"] == 0


def test_a_file_of_decisions_that_cannot_be_used_is_an_error_of_one_line(place: Place) -> None:
    with place.serve() as client:
        group = ready(client)["groups"][0]
        decide(client, group)
        file = place.root / "i" / "decisions.json"
        file.write_bytes(file.read_bytes().replace(b'"format":1', b'"format":2'))
        assert_problem(client.get("/api/duplicates"), 500, "decisions.json: it has format 2.*update spq")
        file.unlink()
        file.mkdir()
        answer = client.post("/api/duplicates/undo", json={"batch": 1})
        assert_problem(answer, 500, "decisions.json cannot be read")


def test_an_index_that_cannot_be_written_has_its_decisions_in_the_cache(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(place.root / "user"))
    monkeypatch.setattr("spq.web.server.review.can_be_written", lambda _: False)
    for _ in range(2):
        with place.serve() as client:
            first = ready(client)["groups"][0]
            if first["decision"]["choice"] == "open":
                decide(client, first, None)
    assert first["decision"]["choice"] == "apart"
    assert not (place.root / "i" / "decisions.json").exists()
    (folder,) = (place.root / "user" / "decisions").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["decisions.json", "not-duplicates.jsonl"]


def test_visitors_look_and_only_who_may_know_the_folders_decides(place: Place) -> None:
    settings = Settings(cache=place.root / "cache", workers=2, patience=60, timeout=120)
    with ImageIndex(Store.open(place.root / "i"), place.model) as index:
        with own_client(index, settings, "192.0.2.1") as visitor:
            report = ready(visitor)
            assert (len(report["groups"]), report["place"]) == (GROUPS, None)
            for path, content in (("decisions", {"decisions": []}), ("undo", {"batch": 1})):
                assert_problem(
                    visitor.post(f"/api/duplicates/{path}", json=content), 403 if path == "undo" else 422, "."
                )
            assert_problem(visitor.get("/api/duplicates/move.sh"), 403, "names folders")
            assert not any(row["file"] for row in rows(visitor))
        with own_client(index, replace(settings, token="secret"), "192.0.2.1") as client:
            client.headers["Authorization"] = "Bearer secret"
            assert ready(client)["place"] == str(place.root / "i" / "decisions.json")
            assert decide(client, ready(client)["groups"][0])["count"] == 1
