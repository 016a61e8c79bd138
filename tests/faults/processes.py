"""Signals and kills while two processes train, started by `torchrun`: is there one checkpoint, and does anything hang?

    python tests/faults/processes.py

In each round, torchrun starts two processes that would train for hours. Then it, one process, or all of them get a signal, in
stage `network` or in the finish, which the first process computes alone. Every process must be gone within 30 seconds, with one
line of `spq` (in the finish, the waiting process has one of its own); after SIGINT or SIGTERM there must be a checkpoint.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """
[input]
size = 16
[backbone]
blocks = [1, 1]
width = 8
[quantizer]
num_codebooks = 4
codeword_dim = 8
[train]
batch_size = 32
epochs = {epochs}
precision = "fp32"
[finish]
epochs = {finish}
neighbours = 5
batch_size = 64
"""
LIMIT = 30.0  # seconds; torchrun kills what is left after them
NOBODY, ALL = -1, -2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rounds = [
        (stage, whom, number)
        for stage in ("network", "finish")
        for whom, number in (
            (0, signal.SIGTERM), (1, signal.SIGTERM), (NOBODY, signal.SIGTERM), (ALL, signal.SIGINT), (0, signal.SIGKILL),
            (1, signal.SIGKILL),
        )
    ]  # fmt: skip
    faults = sum(not fault_free(*each) for each in rounds)
    print(f"{len(rounds)} rounds, {faults} with a fault")
    return int(faults > 0)


def fault_free(stage: str, whom: int, number: signal.Signals) -> bool:
    """Run one round, print what happened, and return whether that was right."""
    with tempfile.TemporaryDirectory(prefix="spq-faults-") as folder:
        out, recipe = Path(folder) / "m", Path(folder) / "recipe.toml"
        epochs, finish = (100_000, 0) if stage == "network" else (1, 100_000)
        recipe.write_text(RECIPE.format(epochs=epochs, finish=finish))
        command = ["-m", "spq", "train", "sample:train", "--out", str(out), "--device", "cpu"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        agent = subprocess.Popen(
            [*torchrun, *command, "--recipe", str(recipe)], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        workers = wait_until_it_trains(agent, out, stage)
        began = time.monotonic()
        if whom == ALL:
            os.killpg(agent.pid, number)
        else:
            os.kill(agent.pid if whom == NOBODY else workers[whom], number)
        try:
            printed = agent.communicate(timeout=2 * LIMIT)[1]
        except subprocess.TimeoutExpired:
            for pid in (agent.pid, *workers):
                os.kill(pid, signal.SIGKILL)
            printed = agent.communicate()[1]
        said = [line for line in printed.splitlines() if line.startswith("spq: ")]
        seconds = time.monotonic() - began
        left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        saved = (out / "checkpoints" / "last.pt").exists()
        right = not left and seconds < LIMIT and 1 <= len(said) <= (1 if stage == "network" else 2)
        right &= saved or number == signal.SIGKILL
        name = {NOBODY: "torchrun", ALL: "all"}.get(whom, f"process {whom}")
        print(
            f"{stage}, {number.name} to {name}: {seconds:.1f} s, checkpoint {saved}, left {left}, said {said}",
            flush=True,
        )
        return right


def wait_until_it_trains(agent: subprocess.Popen[str], out: Path, stage: str) -> list[int]:
    """Return the processes that torchrun has started, in order, once they take steps of a stage."""
    mark = out / "checkpoints" / ("last.pt" if stage == "finish" else "")
    while not mark.exists():
        if agent.poll() is not None:
            raise RuntimeError(f"torchrun has ended: {agent.communicate()[1]}")
        time.sleep(0.1)
    time.sleep(3 if stage == "network" else 10)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    return sorted(map(int, children), key=rank_of)


def rank_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return int(next(line for line in lines if line.startswith(b"RANK=")).split(b"=")[1])


if __name__ == "__main__":
    sys.exit(main())
