"""Kill the replicas of a server, and the process that started them, while clients send requests.

    python tests/faults/replicas.py --replicas 3 --kills 10 --clients 64

- SIGKILL to one replica: requests that it had in work may fail, and no others. Another process must take its place.
- SIGTERM to the first process: all processes end, and no request that was in work fails.
- SIGKILL to the first process: the replicas end by themselves, and nothing listens on the port any more.

All answers must be right; `generations.py` knows them. The exit status is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from clients import CLOSED, HOST, Answer, ask_once, clients, get
from generations import State, fault
from server import Server, running
from swaps import Collection, make

BACK = 30.0  # seconds in which a replica must serve again, and in which all must have ended
RACE = 0.5  # seconds that a busy client may need to notice that a connection is closed


@dataclass
class Killed:
    """What was done, when, until when that took, and to how many connections; and the seconds until all was well again."""

    what: str
    begun: float
    time: float
    connections: int = 0
    seconds: float = float("inf")
    faults: list[str] = field(default_factory=list)


def replicas_of(pid: int) -> list[int]:
    """The replicas that a process has started, in the order of their start."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())


def connections_of(pid: int, port: int) -> int:
    """How many connections of clients a process has."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"}
    found = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(file.readlink()) in inodes
        except OSError:  # it was closed just now
            continue
    return found


def kill_one(server: Server, count: int, rng: random.Random) -> Killed:
    """Kill one replica, and wait until as many as before serve."""
    victim = rng.choice(replicas_of(server.process.pid))
    connections, begun = connections_of(victim, server.port), time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while is_running(victim):  # the system takes back its memory, and then closes its connections
        time.sleep(0.001)
    killed = Killed("replica", begun, time.monotonic(), connections)

    def is_back() -> bool:
        alive = [pid for pid in replicas_of(server.process.pid) if pid != victim]
        return len(alive) == count and all_serve(alive, server.port)

    return waited(killed, is_back, "no other process serves in its place")


def all_serve(pids: Sequence[int], port: int) -> bool:
    """Open some connections at once, and look whether each process has taken one."""
    with contextlib.ExitStack() as stack:
        for _ in range(6 * len(pids)):
            probe = stack.enter_context(socket.create_connection((HOST, port), timeout=5))
            probe.sendall(get("/readyz"))
        time.sleep(0.2)
        return all(connections_of(pid, port) for pid in pids)


def end_all(server: Server, number: signal.Signals) -> Killed:
    """Send a signal to the first process, and wait until all have ended."""
    pids = [server.process.pid, *replicas_of(server.process.pid)]
    connections, now = sum(connections_of(pid, server.port) for pid in pids), time.monotonic()
    ended = Killed(number.name, now, now, connections)
    server.process.send_signal(number)

    def have_ended() -> bool:
        server.process.poll()
        return not any(Path(f"/proc/{pid}").exists() for pid in pids) and not listens(server.port)

    return waited(ended, have_ended, "a process is left, or the port is in use")


def is_running(pid: int) -> bool:
    """Whether any thread of a process is left: the last one closes its connections."""
    try:
        is_zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
        return not is_zombie or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def waited(killed: Killed, is_well: Callable[[], bool], otherwise: str) -> Killed:
    while not is_well():
        if time.monotonic() > killed.time + BACK:
            killed.faults.append(f"{killed.what}: {otherwise} after {BACK:g} s")
            return killed
        time.sleep(0.05)
    killed.seconds = time.monotonic() - killed.time
    return killed


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def judge(killed: Sequence[Killed], answers: Sequence[Answer], states: Sequence[State]) -> Counter[str]:
    """Count what clients noticed of each signal. What they must not notice becomes a fault of the first."""
    seen: Counter[str] = Counter()
    for answer in answers:
        if answer.status:
            wrong = answer.status != 503 and fault(answer, states)
            if wrong:
                killed[0].faults.append(f"{wrong}: {answer}")
            seen["503" if answer.status == 503 else "answered"] += 1
        elif answer.body == CLOSED:
            seen["closed while nothing was asked"] += 1
        else:
            cause = next((k for k in reversed(killed) if k.begun <= answer.received), killed[0])
            is_of_victim = cause.what == "replica" and answer.sent <= cause.time + RACE
            is_after_end = cause.what != "replica" and answer.received > cause.time
            in_work = answer.sent < cause.time - 0.1
            seen[f"failed after {cause.what}"] += 1
            if not (is_of_victim or (is_after_end and not in_work) or cause.what == "SIGKILL"):
                cause.faults.append(f"{cause.what}, {answer.sent - cause.time:+.2f} s: {answer}")
    for one in killed:
        failed = (a for a in answers if not a.status and a.body != CLOSED)
        lost = [a for a in failed if a.sent <= one.time + RACE and a.received >= one.begun]
        if one.what == "replica" and len(lost) > one.connections:
            one.faults.append(f"{len(lost)} requests failed, of {one.connections} connections")
    return seen


def run(c: Collection, arguments: argparse.Namespace, number: signal.Signals) -> tuple[list[Killed], list[Answer], str]:
    """Serve, kill replicas, and end with a signal to the first process."""
    rng, requests = random.Random(arguments.seed), c.asked.requests()
    with running(c.index, "--replicas", str(arguments.replicas)) as server:
        end = time.monotonic() + 60
        while ask_once(server.port, "ready", get("/readyz")).status != 200 and time.monotonic() < end:
            time.sleep(0.1)
        with clients(server.port, requests, arguments.clients, arguments.pause, arguments.seed) as sending:
            time.sleep(1)
            killed = []
            for _ in range(arguments.kills if number == signal.SIGTERM else 0):
                killed.append(kill_one(server, arguments.replicas, rng))
                time.sleep(rng.random())
            killed.append(end_all(server, number))
            answers = sending.stop()
        return killed, answers, server.log.read_text("utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--pause", type=float, default=0.3, help="mean seconds between two requests of a client")
    parser.add_argument("--items", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", default="sample:train", help="a collection, as `spq index` takes it")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="spq-faults-") as place:
        os.environ["SPQ_CACHE"] = str(Path(place, "cache"))
        c = make(Path(place), arguments.pictures, arguments.items, arguments.seed)
        for number in (signal.SIGTERM, signal.SIGKILL):
            killed, answers, log = run(c, arguments, number)
            seen = judge(killed, answers, c.states)
            faults = [*(text for one in killed for text in one.faults)]
            faults += ["traceback in the log"] * log.count("Traceback")
            found += faults
            print("\n".join([*faults, *(dict.fromkeys(log.splitlines()) if faults else ())]))
            *kills, last = killed
            back = sorted(one.seconds for one in kills) or [0.0]
            print(
                f"{len(answers)} requests: {dict(seen)}; {len(kills)} replicas killed, another one served after "
                f"{back[len(back) // 2]:.1f} s, at most {back[-1]:.1f} s; {last.what} to the first process: all ended after "
                f"{last.seconds:.1f} s; {len(faults)} faults",
                flush=True,
            )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
