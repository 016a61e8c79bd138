"""A few mutations of the damage drill, which `tests/faults/artefacts.py` runs by the thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRILL = Path(__file__).parent / "faults" / "artefacts.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each mutation runs in a fork")
def test_damage_is_refused_in_one_line_or_changes_nothing() -> None:
    only = [word for name in ("model", "cached features", "weights file", "recipe") for word in ("--only", name)]
    command = [sys.executable, str(DRILL), "--count", "8", "--seed", "7", *only]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    last = found.stdout.splitlines()[-1]
    assert last.startswith("8 mutations in ")
    assert last.endswith("; 0 bad")
