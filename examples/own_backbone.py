"""Train with a network of your own: any module that maps (B, 3, S, S) to (B, F).

python examples/own_backbone.py photos/ --out own.spq
"""

from __future__ import annotations

import argparse

import numpy as np
from torch import nn

from spq import SPQ


def small(width: int = 32) -> nn.Module:
    layers: list[nn.Module] = []
    for channels_in, channels in [(3, width), (width, 2 * width), (2 * width, 4 * width)]:
        layers += [nn.Conv2d(channels_in, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--out", default="own.spq")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recipe", default="fast")
    options = parser.parse_args()

    SPQ.train(options.photos, recipe=options.recipe, epochs=options.epochs, backbone=small(), out=options.out)
    model = SPQ.load(options.out, backbone=small())  # the folder has the weights; the code is here
    codes = model.encode(np.zeros((1, 3, model.config.input.size, model.config.input.size), np.uint8))
    print(f"{model.config.backbone.name}: {codes.shape[1]} sub-codes, hash {model.hash}")


if __name__ == "__main__":
    main()
