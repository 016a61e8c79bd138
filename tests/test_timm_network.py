"""Networks of timm: weights from the hub's cache, errors of a hub that cannot be reached, other input sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from conftest import cache_in_hub
from spq.config import BackboneConfig
from spq.errors import ConfigError, WeightsError
from spq.model import hub
from spq.model.backbone import make_backbone
from spq.model.timm_network import timm_network

TINY_VIT, TINY_CNN = "test_vit.r160_in1k", "test_resnet.r160_in1k"


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that cannot be reached; returns the folder of its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "unreachable", lambda *_: "no route to host")
    return tmp_path / "hub"


def cached(folder: Path, name: str) -> Path:
    """A repository of timm in the hub's cache, with a classifier; its file."""
    torch.manual_seed(3)
    return cache_in_hub(folder, f"timm/{name}", timm.create_model(name, num_classes=1000).state_dict())


def test_cached_weights_are_loaded_without_a_hub(no_hub: Path) -> None:
    file = cached(no_hub, TINY_CNN)
    torch.manual_seed(3)
    expected = timm.create_model(TINY_CNN, num_classes=1000).state_dict()
    for name in (TINY_CNN, TINY_CNN.split(".")[0]):  # also without its tag
        found = timm_network(name, pretrained=True).state_dict()
        torch.testing.assert_close(found, {key: expected[key] for key in found}, rtol=0, atol=0)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged .*; delete it"):
        timm_network(TINY_CNN, pretrained=True)


def test_weights_that_cannot_be_downloaded_are_refused_with_the_ways_that_work(no_hub: Path) -> None:
    with pytest.raises(
        WeightsError, match=rf"cannot download timm/{TINY_CNN} \(no route to host\); use `backbone` lite0"
    ):
        timm_network(TINY_CNN, pretrained=True)
    timm_network(TINY_CNN, pretrained=False)


def test_an_error_during_a_download_is_one_line(no_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda *_: "")

    def broken(*_: object, **__: object) -> None:
        raise OSError("connection reset\nby peer")

    monkeypatch.setattr(timm.models._hub, "hf_hub_download", broken)
    with pytest.raises(WeightsError, match=r"cannot download .* \(connection reset\); use"):
        timm_network(TINY_CNN, pretrained=True)


def test_a_transformer_of_one_size_is_fitted_to_another(no_hub: Path) -> None:
    cached(no_hub, TINY_VIT)
    config = BackboneConfig(name=f"timm/{TINY_VIT}", pretrained=True)
    own, width = make_backbone(config, 160)
    fitted, _ = make_backbone(config, 96)
    picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert fitted.eval()(picture).shape == (1, width)
    larger = torch.nn.functional.interpolate(picture, size=160, mode="bilinear")
    with torch.inference_mode():  # nearly the same features, since the position embeddings are interpolated
        similarity = torch.cosine_similarity(own.eval()(larger), fitted(picture))
    assert float(similarity) > 0.9
    again, _ = make_backbone(BackboneConfig(name=f"timm/{TINY_VIT}"), 96)  # as a model folder is loaded
    again.load_state_dict(fitted.state_dict())


def test_a_size_that_is_no_multiple_of_the_patches_is_refused() -> None:
    config = BackboneConfig(name="timm/vit_small_patch14_dinov2.lvd142m")
    with pytest.raises(ConfigError, match=r"`image_size` 225 is no multiple of .* 14 pixels; try 224, 238 or 518"):
        make_backbone(config, 225)
    make_backbone(config, 224)[0].eval()(torch.zeros(1, 3, 224, 224))
