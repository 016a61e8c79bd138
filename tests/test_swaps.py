"""Short runs of the drill of tests/faults/swaps.py, and whether it would notice what is wrong."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(1, str(Path(__file__).parent / "faults"))

import replicas
import swaps
from clients import CLOSED, Answer
from generations import GRACE, State, fault


@pytest.mark.slow
@pytest.mark.drill
def test_a_server_takes_over_all_kinds_of_changes_under_load(tmp_path: Path) -> None:
    options = swaps.Options(seconds=0, clients=8, pause=0.3, items=60, grace=120)
    summary, wrong = swaps.drill(tmp_path, options)
    assert not wrong, "\n".join([*wrong, summary])
    assert " 0 failures" in summary


# generation 5 has three items; 8 has another code for one of them; then comes an index with another model
STATES = [
    State("start", 0, 1, "a", 5, False, {"id": ([[1, 0.5, []]], 3), "item 2": "2.jpg", "status": (3, 64)}),
    State("change", 20, 21, "a", 8, True, {"id": ([[2, 0.1, []]], 3), "item 2": "2.jpg", "status": (3, 64)}),
    State("model", 40, 41, "b", 9, False, {"id": None, "item 2": None, "status": (2, 32)}),
]


def search(at: float, model: str, generation: int, hit: tuple[int, float], total: int = 3) -> Answer:
    hits = [{"id": hit[0], "distance": hit[1], "folded": []}]
    body = {"hits": hits, "total": total, "generation": generation, "model": model}
    return Answer("id", 0, at, at + 0.1, 200, body)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (search(5, "a", 5, (1, 0.5)), ""),
        (search(20.5, "a", 8, (2, 0.1)), ""),
        (search(20.5, "a", 7, (1, 0.5)), ""),  # committed in between: the answers of before, or those of afterwards
        (search(20.5, "a", 7, (2, 0.1)), ""),
        (search(25, "a", 5, (1, 0.5)), ""),  # another replica may be late
        (search(21 + GRACE + 1, "a", 5, (1, 0.5)), "older than 10 s"),
        (search(25, "a", 8, (1, 0.5)), "of another generation than named"),
        (search(25, "a", 8, (2, 0.5)), "mixed generations"),
        (search(25, "a", 8, (2, 0.1), total=2), "mixed generations"),
        (search(25, "b", 8, (2, 0.1)), "a generation that never was"),
        (search(45, "b", 9, (1, 0.5)), "mixed generations"),
        (search(45, "a", 9, (1, 0.5)), "a generation that never was"),
        (Answer("id", 0, 45, 46, 404, {}), ""),  # the item is gone
        (Answer("id", 0, 5, 6, 404, {}), "404 for an item that is there"),
        (Answer("item 2", 0, 5, 6, 200, {"path": "2.jpg"}), ""),
        (Answer("item 2", 0, 5, 6, 200, {"path": "3.jpg"}), "an item that never was so"),
        (Answer("id", 0, 5, 6, 500, {}), "status 500"),
        (Answer("id", 0, 5, 6, 0, "ConnectionResetError"), "connection: ConnectionResetError"),
    ],
)
def test_the_drill_notices_wrong_answers(answer: Answer, expected: str) -> None:
    assert fault(answer, STATES) == expected


def test_the_drill_notices_a_status_of_two_generations() -> None:
    body = {"model": "b", "generation": 9, "images": 2, "bits": 32}
    right = Answer("status", 0, 45, 45.1, 200, body)
    assert fault(right, STATES) == ""
    assert fault(replace(right, body={**body, "bits": 64}), STATES) == "mixed generations"


@pytest.mark.parametrize(
    ("answer", "is_fault"),
    [
        (Answer("id", 0, 9.5, 10.1, 0, "ConnectionResetError"), False),  # in work in the replica that was killed
        (Answer("id", 0, 11, 11.1, 0, "ConnectionResetError"), True),  # sent to another one
        (Answer("id", 0, 10.5, 10.5, 0, CLOSED), False),
        (Answer("id", 0, 11, 11.1, 500, {}), True),
        (Answer("id", 0, 11, 11.1, 503, {}), False),
        (search(11, "a", 5, (2, 0.5)), True),
        (Answer("id", 0, 19.5, 20.2, 0, "IncompleteReadError"), True),  # in work when all were told to end
        (Answer("id", 0, 20.1, 20.2, 0, "ConnectionRefusedError"), False),
    ],
)
def test_the_drill_of_replicas_notices_what_clients_must_not_notice(answer: Answer, is_fault: bool) -> None:
    killed = [replicas.Killed("replica", 10, 10.1, connections=5), replicas.Killed("SIGTERM", 20, 20)]
    replicas.judge(killed, [answer], STATES)
    assert any(one.faults for one in killed) == is_fault


def test_more_failures_than_connections_are_a_fault() -> None:
    killed = [replicas.Killed("replica", 10, 10.1, connections=1)]
    replicas.judge(killed, [Answer("id", n, 9.5, 10.1, 0, "ConnectionResetError") for n in range(2)], STATES)
    assert killed[0].faults == ["2 requests failed, of 1 connections"]
