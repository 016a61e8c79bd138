"""The benchmark of filter gradients: both ways are timed, at each size of the views."""

from __future__ import annotations

import pytest

import filter_gradients as bench
from spq.errors import ConfigError
from spq.training import filter_gradients
from spq.training.stages import train_network

RECIPE = "spq:backbone.width=8,train.batch_size=4"


def test_both_ways_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []
    gradient = filter_gradients.filter_gradient
    monkeypatch.setattr(filter_gradients, "filter_gradient", lambda *given: (calls.append(1), gradient(*given))[1])
    for module in (bench, filter_gradients):
        monkeypatch.setattr(module, "has_amx", lambda: True)
    bench.main(["--recipe", RECIPE, "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["views of 16 px", "views of 24 px"]
    assert len(calls) > 0
    assert train_network.fast_filter_gradients is filter_gradients.fast_filter_gradients


def test_a_cpu_without_amx_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "has_amx", lambda: False)
    with pytest.raises(ConfigError, match="has no AMX"):
        bench.main([])
