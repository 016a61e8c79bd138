"""Holders that are actors of Ray: the same answers, also while one is killed and comes back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from spq.errors import ConfigError, StoreError
from spq.scale.ray_holders import RayHolders, started_holders

SCRIPT = Path(__file__).parent / "faults" / "holders.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.drill
def test_answers_are_those_of_the_single_index_also_while_a_holder_is_killed(photo_index: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    few = {"holders": 2, "replicas": 1, "searches": 40, "kills": 1}
    options = [word for name, value in few.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPT), "--index", str(photo_index), *options]
    ran = subprocess.run(command, env=given | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    first, killed, ended, last = ran.stdout.splitlines()
    assert first == "40 of 40 searches have the answers of the single index"
    assert re.fullmatch(
        r"holder \{[01]\} killed: whole again after .* s; meanwhile [1-9]\d* partial answers, [1-9]\d* refused, .* 0 wrong; .*",
        killed,
    )
    assert (ended, last) == ("the server ended with 0; 0 holders left", "0 faults")
    assert not (tmp_path / ".ray").exists()  # no token is left


def test_a_wrong_number_of_holders_is_named() -> None:
    with pytest.raises(ConfigError, match="`holders` must be 1 or more, got 0"), started_holders("local", 0):
        pass


def test_holders_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, namespace: str) -> None:
        raise ValueError(f"Failed to look up actor with name '{name}'")

    connected = SimpleNamespace(is_initialized=lambda: True, get_actor=unknown)
    monkeypatch.setitem(sys.modules, "ray", connected)
    with pytest.raises(StoreError, match=r"cluster c has no holders g; has the server that started them ended\?"):
        RayHolders("c", "g", 2).find()
