from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spq.config import BackboneConfig, load_recipe
from spq.errors import ConfigError, WeightsError
from spq.model.backbone import check_sizes, make_backbone, trained_input


def test_the_papers_backbone_is_cifar_resnet18() -> None:
    backbone, feature_dim = make_backbone(BackboneConfig())
    assert feature_dim == 512
    assert (
        sum(p.numel() for p in backbone.parameters()) == 11_168_832
    )  # torchvision's ResNet-18 less its 7x7 stem and fc, plus a 3x3 stem
    assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, 512)


def test_a_resnet_equals_torchvisions_on_the_same_weights() -> None:
    from torchvision.models import resnet18

    theirs = resnet18(weights=None).eval()
    theirs.conv1, theirs.maxpool, theirs.fc = (
        torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False),
        torch.nn.Identity(),
        torch.nn.Identity(),
    )
    ours, _ = make_backbone(BackboneConfig())
    state = list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(ours.state_dict(), state, strict=True)))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.eval()(x), theirs(x), atol=1e-5, rtol=1e-4)


def test_a_timm_model_serves_as_backbone() -> None:
    backbone, feature_dim = make_backbone(BackboneConfig(name="timm/mobilenetv3_small_050"))
    assert backbone.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, feature_dim)


def test_local_weights_are_loaded(tmp_path: Path) -> None:
    small = BackboneConfig(blocks=(1,), width=8)
    source, _ = make_backbone(small)
    save_file(
        {**source.state_dict(), "fc.weight": torch.zeros(1)}, tmp_path / "w.safetensors"
    )  # a classifier is left over
    loaded, _ = make_backbone(BackboneConfig(blocks=(1,), width=8, weights=str(tmp_path / "w.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), loaded.parameters(), strict=True))


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet1800"])
def test_an_unknown_backbone_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name.removeprefix("timm/")):
        make_backbone(BackboneConfig(name=name))


def test_weights_that_timm_does_not_have_are_refused() -> None:
    for name in ("timm/resnet18.typo", "timm/test_vit_none"):
        assert trained_input(name) is None
        with pytest.raises(ConfigError, match=name.removeprefix("timm/")):
            make_backbone(BackboneConfig(name=name, pretrained=True))
    assert trained_input("timm/resnet18") is not None


def test_a_size_that_a_transformer_refuses_is_named() -> None:
    name = "timm/vit_tiny_patch16_224"
    backbone, _ = make_backbone(BackboneConfig(name=name))
    check_sizes(backbone.train(), name, (224,))
    assert backbone.training
    with pytest.raises(ConfigError, match="timm/vit_tiny_patch16_224 takes no pictures of 128 x 128 pixels"):
        check_sizes(backbone, name, (128, 224))


def test_features_of_other_lengths_than_expected_are_refused() -> None:
    whole = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten())  # its features depend on the size of the picture
    check_sizes(whole, "mine", (16,), 64)
    with pytest.raises(
        ConfigError,
        match=r"mine returns \(1, 64\) for 16 x 16 pixels, \(1, 144\) for 24 x 24 pixels, not \(1, F\) with",
    ):
        check_sizes(whole, "mine", (24, 16))
    with pytest.raises(
        ConfigError, match=r"mine returns \(1, 64\) for 16 x 16 pixels, and its `feature_dim` is 60; set that to 64"
    ):
        check_sizes(whole, "mine", (16,), 60)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for weights, message in (("other.safetensors", "lack"), ("none.safetensors", "do not fit"), ("w.pth", "pickled")):
        with pytest.raises(ConfigError, match=message):
            make_backbone(BackboneConfig(weights=str(tmp_path / weights)))


def test_the_input_of_a_network_is_that_of_its_weights() -> None:
    for name in ("lite0", "timm/tf_efficientnet_lite0"):  # timm states 0.5 for its own copy of the same weights
        assert trained_input(name) == load_recipe("head").input
    dino = trained_input("timm/vit_small_patch14_dinov2.lvd142m")
    assert dino is not None
    assert (dino.size, dino.std) == (224, (0.229, 0.224, 0.225))


def test_weights_that_are_not_finite_or_all_zero_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, _ = make_backbone(BackboneConfig(blocks=(1,), width=8))
    config = BackboneConfig(blocks=(1,), width=8, weights=str(tmp_path / "w.safetensors"))
    tensors = network.state_dict()
    spoiled = {**tensors, "stem.1.running_var": torch.full((8,), torch.inf)}
    for wrong in (spoiled, {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}):
        save_file(wrong, tmp_path / "w.safetensors")
        with pytest.raises(
            WeightsError, match=r"w\.safetensors are all zero or not finite; get them again, or use others"
        ):
            make_backbone(config)
