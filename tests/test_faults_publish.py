"""A small run of the drill that kills publishers and servers, which notices what it is for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from spq.scale.publish import publish

DRILL = Path(__file__).parent / "faults" / "publish.py"


@pytest.fixture(scope="module")
def drill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish_drill", DRILL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["publish_drill"] = module
    spec.loader.exec_module(module)
    return module


def test_killed_publishers_and_servers_leave_whole_generations(drill: ModuleType, tmp_path: Path) -> None:
    run = drill.Drill(tmp_path, str(tmp_path / "at"), 300, seed=3)
    run.round(0)
    assert run.wrong == []
    name = max((tmp_path / "at" / "files").iterdir())
    data = name.read_bytes()
    name.write_bytes(b"x" + data[1:])
    assert len(run.damaged_at_url()) == 1
    name.write_bytes(data)
    (name.parent / "00000001-0123456789abcdef").touch()
    assert run.leftovers() == ["00000001-0123456789abcdef stayed, or is lost"]
    drill.change(run.index, Random(0))
    fetched = drill.PublishedIndex(run.url, run.cache)
    assert drill.content(fetched.fetch()) != drill.content(run.index)
    publish(run.index, run.url)
    assert run.leftovers() == []
    fetched.close()
