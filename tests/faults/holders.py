"""Search a server whose shards are held by processes of Ray, kill these, and compare all answers with those of a single index.

    python tests/faults/holders.py [--index FOLDER] [--holders 4] [--replicas 2] [--searches 1000] [--kills 4] [--deadline 2]

Clients search all the time while a holder is killed. An answer must be that of the single index, or that of the single index
without shards of one holder, and then say so. A client that accepts no partial answer must get 503 instead. It prints the longest
time to an answer, and the seconds until answers are whole again: 30 at most.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from spq.index.filter_sql import matching
from spq.index.image_index import ImageIndex
from spq.index.request import SearchRequest

TESTS = Path(__file__).resolve().parent.parent
CLIENTS = 3
WHOLE_SECONDS = 30.0
LATER_SECONDS = 3.0  # that clients search on after the metrics say that all is whole: each replica finds out by itself
Answer = tuple[float, list[int]]
Right = dict[
    tuple[int, str], set[int]
]  # missing and answers -> holders without whose shards they are right; -1 for none


@dataclass
class Seen:
    """What the clients saw while a holder was dead.

    Attributes:
        busy: 503 because no thread was free. lost: holders whose shards may have been missing. last: time of the last answer
            that was not whole.
    """

    partial: int = 0
    refused: int = 0
    busy: int = 0
    whole: int = 0
    last: float = 0.0
    longest: float = 0.0
    lost: set[int] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """A running server. places: holder of each shard, in order."""

    address: str
    pid: int
    places: list[int]
    replicas: int

    def metrics(self) -> str:
        with urlopen(f"{self.address}metrics") as answer:
            return str(answer.read().decode())

    def is_whole(self) -> bool:
        values = re.findall(r"spq_shard_up\{.*\} (\d)", self.metrics())
        return set(values) == {"1"}

    def search(self, request: SearchRequest) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        ids = [int(query) for query in request.groups[0]]  # type: ignore[call-overload]
        asked = {"ids": ids, "not_ids": list(request.negative), "max_distance": request.max_distance}
        asked |= {name: getattr(request, name) for name in ("top", "where", "fold", "offset", "partial")}
        sent = Request(f"{self.address}api/search", json.dumps(asked).encode(), {"Content-Type": "application/json"})
        try:
            with urlopen(sent, timeout=60) as answer:
                return 200, json.load(answer)
        except HTTPError as error:
            return error.code, {**json.load(error), "retry": error.headers.get("Retry-After")}


@contextmanager
def serving(folder: Path, options: argparse.Namespace) -> Iterator[Server]:
    """A server of an index, with holders, until the end of the block. It must end in order."""
    command = [sys.executable, "-m", "spq", "serve", str(folder), "--port", "0", "--ray", "local"]
    for name in ("holders", "replicas", "deadline"):
        command += [f"--{name}", str(getattr(options, name))]
    log = (folder.parent / "server.log").open("w+")
    environment = os.environ | {"SPQ_CACHE": str(folder.parent / "cache")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment) as process:
        try:
            address = _address(process, Path(log.name))
            yield Server(address, process.pid, _places(address), options.replicas)
        finally:
            left = holder_pids(process.pid)
            process.send_signal(signal.SIGINT)
            status = process.wait(60)
            end = time.monotonic() + 10
            while any(map(_is_alive, left)) and time.monotonic() < end:
                time.sleep(0.05)
            print(f"the server ended with {status}; {sum(map(_is_alive, left))} holders left", flush=True)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address of a server, as soon as it is ready."""
    while process.poll() is None:
        if found := re.search(r"http://\S+", log.read_text()):
            try:
                with urlopen(f"{found.group()}readyz"):
                    return found.group()
            except OSError:  # not yet
                pass
        time.sleep(0.1)
    sys.exit(log.read_text())


def _places(address: str) -> list[int]:
    with urlopen(f"{address}metrics") as answer:
        samples = re.findall(r'spq_shard_up\{.*shard="(.*)",holder="(\d+)"', answer.read().decode())
    return [int(holder) for _, holder in sorted(set(samples))]


def holder_pids(root: int) -> list[int]:
    """The processes of holders that descend from a process."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::HolderActor"):
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue

    def descends(pid: int) -> bool:
        while pid not in (0, root):
            pid = parents.get(pid, 0)
        return pid == root

    return sorted(filter(descends, found))


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def right_answers(single: ImageIndex, request: SearchRequest, shards: list[set[int]], places: list[int]) -> Right:
    """All right answers: whole ones, and those without some shards of one holder, which come back one by one."""
    tables = single.tables(request)
    gallery = single.answers(request, tables, single._gallery.latest()).gallery
    some = None if request.where is None else set(matching(single.store, request.where).tolist())
    found: Right = {}
    for holder in sorted(set(places)):
        held = [ids for ids, place in zip(shards, places, strict=True) if place == holder]
        for count in range(len(held) + 1):
            for lost in combinations(held, count):
                ids = set().union(*lost)
                exclude = {*request.exclude, *ids}
                answers = single.answers(replace(request, exclude=exclude), tables, gallery).answers[0]
                missing = len(ids if some is None else ids & some)
                found.setdefault((missing, str(answers)), set()).add(holder if missing else -1)
    return found


def answers_of(body: Any) -> str:
    answers: list[Answer] = [(hit["distance"], [hit["id"], *hit["folded"]]) for hit in body["hits"]]
    return str(answers)


class Bench:
    """A server, and searches with their right answers."""

    def __init__(self, server: Server, asked: list[SearchRequest], right: list[Right]) -> None:
        self.server, self.asked, self.right = server, asked, right

    def wrong_searches(self) -> list[str]:
        """Searches that have not the whole answers of the single index."""
        wrong = []
        for request, right in zip(self.asked, self.right, strict=True):
            status, body = self.server.search(request)
            is_right = status == 200 and not body["partial"] and right.get((body["missing"], answers_of(body)))
            wrong += [] if is_right else [f"{request}: {status} {body}"]
        return wrong

    def kill(self, pid: int) -> tuple[Seen, float]:
        """Kill a holder under running searches; returns what was seen, and the seconds until answers were whole again."""
        seen, ending = Seen(lost=set(self.server.places)), threading.Event()
        clients = [threading.Thread(target=self._client, args=(first, seen, ending)) for first in range(CLIENTS)]
        for thread in clients:
            thread.start()
        os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        while time.monotonic() - start < 2 * WHOLE_SECONDS:
            if seen.partial and seen.refused and self.server.is_whole():
                break
            time.sleep(0.05)
        time.sleep(LATER_SECONDS if self.server.replicas > 1 else 0)
        seconds = max(seen.last, start) - start
        ending.set()
        for thread in clients:
            thread.join()
        return seen, seconds

    def _client(self, first: int, seen: Seen, ending: threading.Event) -> None:
        turn = first
        while not ending.is_set():
            n, turn = turn % len(self.asked), turn + CLIENTS
            request, start = replace(self.asked[n], partial=bool(turn // CLIENTS % 2)), time.monotonic()
            status, body = self.server.search(request)
            end = time.monotonic()
            seen.longest = max(seen.longest, end - start)
            if status != 200 or body["partial"]:
                seen.last = max(seen.last, end)
            if status == 503 and "busy" in body["detail"]:
                seen.busy += 1
                continue
            if status == 503 and not request.partial and "could not be searched in time" in body["detail"]:
                seen.refused += 1
                continue
            holders = self.right[n].get((body.get("missing", -1), answers_of(body))) if status == 200 else None
            if not holders or body["partial"] != bool(body["missing"]) or (body["partial"] and not request.partial):
                seen.wrong.append(f"{request}: {status} {body}")
            elif body["partial"]:
                seen.partial += 1
                seen.lost &= holders
            else:
                seen.whole += 1


def run(bench: Bench, kills: int) -> list[str]:
    """All checks; returns what is wrong."""
    found = wrong = bench.wrong_searches()
    print(
        f"{len(bench.asked) - len(wrong)} of {len(bench.asked)} searches have the answers of the single index",
        flush=True,
    )
    for kill in range(kills):
        pids = holder_pids(bench.server.pid)
        seen, seconds = bench.kill(pids[kill % len(pids)])
        found += seen.wrong
        if seconds > WHOLE_SECONDS or not seen.partial or not seen.refused or len(seen.lost) != 1:
            found.append(f"whole after {seconds:.1f} s, {seen}")
        print(
            f"holder {seen.lost} killed: whole again after {seconds:.2f} s; meanwhile {seen.partial} partial answers, "
            f"{seen.refused} refused, {seen.busy} busy, {seen.whole} whole, {len(seen.wrong)} wrong; "
            f"longest {seen.longest:.2f} s",
            flush=True,
        )
    return found + bench.wrong_searches()


def an_index(folder: Path) -> Path:
    """A small index of sample pictures."""
    from models import tiny
    from spq.config import load_recipe
    from spq.data.image_set import subset
    from spq.data.open import open_images

    ImageIndex.build(folder, tiny(load_recipe("fast"), 16, 8), subset(open_images("sample:test"), range(60))).close()
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, help="a small index, which is copied; by default one is made")
    parser.add_argument("--holders", type=int, default=4)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    from spread_index import SHARDS, in_shards, make_indexes, requests

    with tempfile.TemporaryDirectory() as place:
        plain, folder = make_indexes(options.index or an_index(Path(place) / "made"), Path(place))
        shards = [set(in_shards(folder, {number})) for number in range(SHARDS)]
        with ImageIndex.open(plain) as single, serving(folder, options) as server:
            ids = [item.id for item in single.store.items() if item.code is not None]
            drawn = requests(options.searches, ids, options.seed)
            asked = [replace(r, queries=r.queries[:1], exclude={*r.groups[0], *r.negative}) for r in drawn]  # type: ignore[misc]
            right = [right_answers(single, request, shards, server.places) for request in asked]
            found = run(Bench(server, asked, right), options.kills)
    print(*found[:10], f"{len(found)} faults", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
