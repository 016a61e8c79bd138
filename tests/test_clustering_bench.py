"""Clustering accuracy: matching, and heads on features of a model."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustering import accuracy, main
from spq.model.model import Model


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_the_matching_is_the_best_of_all(count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters, labels = rng.integers(count, size=30), rng.integers(classes, size=30)
    names = [*range(classes), *[-1] * max(0, count - classes)]  # -1: a cluster without a class
    best = max(np.mean(np.array(order)[clusters] == labels) for order in permutations(names, count))
    assert accuracy(clusters, labels, count) == pytest.approx(best)


def test_heads_on_features_of_a_model_are_better_than_chance(
    tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_model.save(tmp_path / "model")
    arguments = [str(tmp_path / "model"), "--images", "sample:train", "--heads", "4", "--steps", "50"]
    main([*arguments, "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["clusters"] == 10
    assert 0.15 < report["min"] <= report["accuracy"] <= report["max"] < 1
    assert f"{report['accuracy']:.4f} of 500 pictures" in capsys.readouterr().out
    main([*arguments, "--held-out", "--clusters", "4", "--json", str(tmp_path / "report.json")])
    assert (
        json.loads((tmp_path / "report.json").read_text("utf-8"))["max"] < 0.5
    )  # four clusters fit four classes at most
