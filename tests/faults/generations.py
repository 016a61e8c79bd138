"""What a server of an index must answer: recorded for each generation by a direct search, and compared with what it answered.

A change may commit more than once, and the server may name a generation between those that were recorded. Each change here only
adds, changes, removes or moves items, so the answers of such a generation are those before the change or those after it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import Answer, get, post_json, post_picture

from spq.index.image_index import Hit, ImageIndex

TOP = 10
ALL = 1000  # more than the index has
BROWSED = 40
GRACE = 10.0  # seconds after a change in which an answer of the generation before is right
Answered = Any  # what is compared: ids, distances and totals


@dataclass(frozen=True)
class Search:
    """A search that clients send."""

    ids: tuple[int, ...] = ()
    not_ids: tuple[int, ...] = ()
    picture: Path | None = None
    where: str | None = None
    fold: bool = False

    def request(self) -> bytes:
        query = {"top": TOP, "ids": self.ids, "not_ids": self.not_ids, "where": self.where, "fold": self.fold}
        if self.picture:
            return post_picture("/api/search", self.picture.read_bytes(), query)
        return post_json("/api/search", query)


@dataclass(frozen=True)
class Asked:
    """What clients ask. browsed: filters of pages of all items. items: ids whose facts are asked for."""

    searches: Mapping[str, Search]
    browsed: Mapping[str, str | None]
    items: Sequence[int]

    def requests(self) -> dict[str, bytes]:
        filters = {name: f"&where={where.replace(' ', '%20')}" if where else "" for name, where in self.browsed.items()}
        return {
            **{name: search.request() for name, search in self.searches.items()},
            **{name: get(f"/api/browse?top={BROWSED}{text}") for name, text in filters.items()},
            **{f"item {id_}": get(f"/api/items/{id_}") for id_ in self.items},
            "status": get("/api/status"),
        }


@dataclass(frozen=True)
class State:
    """One generation: the change that made it, when this began, when it was recorded, and the right answers.

    Attributes:
        follows: whether its index is that of the state before, so that generations between both belong to this change.
        answers: name of a request -> what must be answered; None if the index has not the item.
    """

    kind: str
    begun: float
    recorded: float
    model: str
    generation: int
    follows: bool
    answers: Mapping[str, Answered]


def record(folder: Path, asked: Asked, kind: str, begun: float, follows: bool, models: Mapping[str, Any]) -> State:
    """Search an index directly."""
    with ImageIndex.open(folder) as index:
        index.model_copy.use(models[index.store.manifest.model])
        paths = {item.path: item.id for item in index.store.items() if item.code is not None}
        answers: dict[str, Answered] = {
            name: _answer_of(index, search, paths) for name, search in asked.searches.items()
        }
        for name, where in asked.browsed.items():
            ids = sorted(paths.values()) if where is None else _matching(index, where, paths)
            answers[name] = (ids[:BROWSED], len(ids))
        names = {id_: path for path, id_ in paths.items()}
        answers |= {f"item {id_}": names.get(id_) for id_ in asked.items}
        generation, manifest = index.store.revision(), index.store.manifest
    answers["status"] = (len(paths), manifest.bits)
    return State(kind, begun, time.monotonic(), manifest.model, generation, follows, answers)


def _answer_of(index: ImageIndex, search: Search, paths: Mapping[str, int]) -> Answered:
    given = {*search.ids, *search.not_ids}
    if not given <= set(paths.values()):
        return None

    def hits(top: int, fold: bool) -> list[Hit]:
        query = [search.picture] if search.picture else [*map(index.like, search.ids)]
        negative = [*map(index.like, search.not_ids)]
        return index.search(query, top, negative=negative, where=search.where, fold=fold, exclude=given)

    found = hits(TOP, search.fold)
    return [[hit.id, hit.distance, [paths[path] for path in hit.folded]] for hit in found], len(hits(ALL, False))


def _matching(index: ImageIndex, where: str, paths: Mapping[str, int]) -> list[int]:
    some = next(iter(paths.values()))
    return sorted(hit.id for hit in index.search(some, ALL, where=where))


def named(answer: Answer) -> tuple[str | None, int | None, Answered]:
    """The model and the generation that an answer names, and what it says."""
    body = answer.body
    if answer.name.startswith("item"):
        return None, None, body["path"]
    model, generation = body.get("model"), body["generation"]
    if answer.name == "status":
        return model, generation, (body["images"], body["bits"])
    if "hits" in body:
        said: Answered = [[hit["id"], hit["distance"], hit["folded"]] for hit in body["hits"]]
    else:
        said = [item["id"] for item in body["items"]]
    return model, generation, (said, body["total"])


def fault(answer: Answer, states: Sequence[State], grace: float = GRACE) -> str:
    """What is wrong with an answer; empty if nothing is. Answers of status 503 are the caller's."""
    current = [
        number
        for number, state in enumerate(states)
        if state.begun <= answer.received
        and (number + 1 == len(states) or answer.sent <= states[number + 1].recorded + grace)
    ]
    if answer.status == 404:
        has_gone = any(states[number].answers[answer.name] is None for number in current)
        return "" if has_gone else "404 for an item that is there"
    if answer.status != 200:
        return f"connection: {answer.body}" if not answer.status else f"status {answer.status}"
    model, generation, said = named(answer)
    fitting = {number for number in range(len(states)) if states[number].answers[answer.name] == said}
    if generation is None:
        return "" if fitting.intersection(current) else "an item that never was so"
    meant = _meant(states, model, generation)
    if fitting.intersection(meant).intersection(current):
        return ""
    if not meant:
        return "a generation that never was"
    if fitting.intersection(meant):
        return f"older than {grace:g} s"
    return "of another generation than named" if fitting.intersection(current) else "mixed generations"


def _meant(states: Sequence[State], model: str | None, generation: int) -> set[int]:
    """The numbers of the states that an answer may be of."""
    found = set[int]()
    for number, state in enumerate(states):
        if model not in (None, state.model):
            continue
        if state.generation == generation:
            found.add(number)
        elif state.follows and states[number - 1].generation < generation < state.generation:
            found |= {number - 1, number}
    return found


def count_faults(
    answers: Sequence[Answer], states: Sequence[State], grace: float
) -> tuple[Counter[str], Counter[str], list[str]]:
    """Count faults by kind, and 503 by reason; and show the first answer with each fault."""
    faults, busy, examples = Counter[str](), Counter[str](), list[str]()
    for answer in answers:
        if answer.status == 503:
            busy[answer.body["detail"]] += 1
        elif found := fault(answer, states, grace):
            kind = f"{answer.name.split()[0]}: {found}"
            if kind not in faults:
                examples.append(f"{kind}: {answer}")
            faults[kind] += 1
    return faults, busy, examples
