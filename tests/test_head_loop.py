from __future__ import annotations

import numpy as np
import pytest
import torch

from spq.training.head_loop import draw_features


def test_features_are_those_of_the_pictures_that_are_shown() -> None:
    features = np.broadcast_to(
        np.arange(30, dtype=np.float32)[:, None, None], (30, 2, 1)
    )  # a feature names its picture
    shown = [torch.arange(30), torch.arange(30), torch.arange(30).flip(0)]
    found = draw_features(features, shown, torch.Generator().manual_seed(0))
    assert [x[:, 0].tolist() for x in found] == [rows.tolist() for rows in shown]


@pytest.mark.parametrize("available", [1, 2, 3, 5])
def test_no_row_gets_the_same_view_twice_while_there_are_others(available: int) -> None:
    """Otherwise a descriptor would be compared with its own quantization."""
    features = np.broadcast_to(
        np.arange(available, dtype=np.float32)[:, None], (400, available, 1)
    )  # it names its view
    views = torch.cat(draw_features(features, [torch.arange(400)] * 3, torch.Generator().manual_seed(0)), 1)
    assert {len(set(row)) for row in views.tolist()} == {min(available, 3)}
    # each view is drawn about as often
    assert all(column.bincount(minlength=available).min() > 250 / available for column in views.long().T)
