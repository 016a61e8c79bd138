"""Train with views of your own, here by torchvision: any function of (B, 3, H, W) uint8 pictures.

python examples/own_views.py photos/ --out own-views.spq
"""

import argparse

import torch
from torchvision.transforms import v2

from spq import SPQ


class Views:
    def __init__(self, size):
        crop = v2.RandomResizedCrop(size, scale=(0.3, 1.0))
        self.transform = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.RandAugment()])

    def __call__(self, pixels, generator):
        return torch.stack([self.transform(picture) for picture in pixels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--out", default="own-views.spq")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recipe", default="fast")
    options = parser.parse_args()

    budget = {"epochs": options.epochs, "image_size": options.image_size}
    SPQ.train(options.photos, recipe=options.recipe, views=Views(options.image_size), out=options.out, **budget)
    print(f"views: {SPQ.load(options.out).facts['parts']['views']['class']}")  # needs none to load


if __name__ == "__main__":
    main()
