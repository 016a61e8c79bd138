"""A small run of the damage drill of tests/faults/index.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_damaged_indexes_are_noticed_and_mended() -> None:
    script = Path(__file__).parent / "faults" / "index.py"
    done = subprocess.run(
        [sys.executable, str(script), "--count", "12", "--seed", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 mutations, seed 3: none wrong" in done.stdout
