"""`spq doctor`."""

from __future__ import annotations

import json

import pytest

from conftest import run_spq


def test_doctor_names_the_device_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("doctor", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"device", "threads", "bf16", "pictures", "extras", "versions", "missing"} <= set(facts)
    assert "JPEG" in facts["pictures"]
    assert all(hint.startswith("pip install") for hint in facts["missing"].values())
    assert run_spq("doctor") == 0
    assert "torch" in capsys.readouterr().out
