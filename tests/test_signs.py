from __future__ import annotations

import pytest
import torch

from spq.training.signs import Signs


def test_signs_are_means_over_steps() -> None:
    signs = Signs(2, 4, torch.device("cpu"))
    own = torch.nn.functional.one_hot(torch.tensor([[0, 1], [0, 2], [0, 3], [1, 3]]), 4).float()
    sure = torch.tensor([[True, True], [True, False], [False, False], [True, True]])
    logits = own.clone()
    logits[0, 0] = logits[0, 0].roll(1)  # one wrong of the five where the teacher is sure
    for _ in range(3):
        signs.add(logits, own, own, sure)
    expected = {"confident": 0.625, "agreement": 0.8, "certainty": 1.0, "largest": 0.75, "used": 2.5}
    assert signs.take() == pytest.approx(expected)
    assert float(signs.totals.abs().sum()) == 0
