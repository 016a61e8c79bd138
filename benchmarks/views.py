"""Which library makes random views fastest on this CPU: ours, kornia on the batch, or torchvision per picture in workers?

    python benchmarks/views.py [--images cifar10:train] [--json views.json]

All three draw every parameter per picture, in the ranges of the paper, from the same decoded pixels, and use all cores. They run
in turn, several rounds, and medians are printed. tests/test_views.py tests the differences between ours and torchvision.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spq.config import InputConfig, ViewsConfig
from spq.data.decode import load_pixels
from spq.data.open import open_images
from spq.training.views import make_views

BATCH = 512
Maker = Callable[[Tensor], Iterator[Tensor]]  # all images -> batches of views


def ours(images: Tensor) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for batch in images.split(BATCH):
        yield make_views(batch, ViewsConfig(), InputConfig(size=images.shape[-1]), generator)


def with_kornia(images: Tensor) -> Iterator[Tensor]:
    import kornia.augmentation as K

    size = images.shape[-1]
    views = torch.nn.Sequential(
        K.RandomResizedCrop((size, size)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
        K.Normalize(torch.tensor([0.5] * 3), torch.tensor([0.25] * 3)),
    )
    for batch in images.split(BATCH):
        yield views(batch.float() / 255)


class _PerSample(Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        import torchvision.transforms.v2 as T

        self.images = images
        self.views = T.Compose(
            [
                T.RandomResizedCrop(images.shape[-1], antialias=True),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                T.RandomGrayscale(0.2),
                T.RandomApply([T.GaussianBlur(3, (0.1, 2.0))], 0.5),
                T.ToDtype(torch.float32, scale=True),
                T.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        view: Tensor = self.views(self.images[index])
        return view


def with_torchvision(images: Tensor) -> Iterator[Tensor]:
    yield from DataLoader(_PerSample(images), BATCH, num_workers=os.cpu_count() or 1)


def rate(maker: Maker, images: Tensor) -> float:
    """Views per second. The clock starts at the first batch, so the start of workers is not included."""
    batches = maker(images)
    next(batches)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="sample:train")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="kornia")
    source = open_images(arguments.images)
    images = torch.from_numpy(
        load_pixels(source, arguments.size, positions=range(min(arguments.count, len(source)))).array
    )
    makers: dict[str, Maker] = {"ours": ours, "kornia, batch": with_kornia, "torchvision v2, workers": with_torchvision}
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(arguments.rounds):
        for name, maker in makers.items():
            rates[name].append(rate(maker, images))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in medians.items():
        spread = f"{min(rates[name]):.0f}..{max(rates[name]):.0f}"
        print(f"{name:26s} {value:8.0f} views/s  ({spread})  ours is {medians['ours'] / value:.1f}x")
    if arguments.json:
        report = {
            "views_per_second": rates,
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
