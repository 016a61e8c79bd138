"""How sharp are the views of large photos, and what does it cost to cut them from larger copies than the input?

    python benchmarks/sharpness.py $SPQ_DATA/clothing/train [--sizes 64 224] [--recipe spq] [--json sharpness.json]

Sharpness is the mean horizontal gradient of crops without other changes, divided by that of torchvision's `RandomResizedCrop` on
the originals, with the same boxes. "whole" cuts views from pictures at the size of the input, as spq did before; "larger" cuts
them from what a training keeps. The cost is the processor time of a training step (views, network, gradients) with both, in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from spq.config import InputConfig, Recipe, ViewsConfig, load_recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.model.network import Network
from spq.training.losses import Criterion
from spq.training.pixel_memory import Pictures, larger_side
from spq.training.stages.train_network import Learner, step_loss
from spq.training.view_source import view_source
from spq.training.views import ViewParams, apply_views, draw_params


@dataclass(frozen=True)
class Row:
    """The result for one size of the input: ratios to torchvision, and seconds of a step."""

    size: int
    kept_side: int
    crop_scale: float
    whole: float
    larger: float
    whole_seconds: float
    larger_seconds: float


def gradient(views: Tensor) -> float:
    return float(views.diff(dim=3).abs().mean())


def of_originals(images: ImageSet, params: ViewParams, size: int) -> float:
    """The sharpness of the boxes cut from the originals by torchvision."""
    found = []
    for position, (top, left, height, width) in enumerate(params.box.tolist()):
        original = torch.from_numpy(np.array(images.image(position))).permute(2, 0, 1)
        found.append(
            F.resized_crop(original, top, left, height, width, [size, size], antialias=True)[None].float() / 255
        )
    return gradient(torch.cat(found))


def sharpness(images: ImageSet, pictures: Pictures, recipe: Recipe, rounds: int) -> tuple[float, float]:
    """Sharpness of views of whole and of larger pictures, both divided by that of the originals."""
    size = recipe.input.size
    plain = ViewsConfig(crop_scale=recipe.views.crop_scale, flip=0, jitter=0, grayscale=0, blur=0)
    raw = InputConfig(size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    rows = torch.arange(len(pictures.array))
    whole = torch.from_numpy(np.asarray(pictures.array))
    cut = view_source(pictures, torch.device("cpu")).cut(rows)
    frame = torch.from_numpy(np.ascontiguousarray(pictures.full_sizes[:, ::-1]))
    ratios = []
    for seed in range(rounds):
        params = draw_params(frame, plain, torch.Generator().manual_seed(seed))
        wanted = of_originals(images, params, size)
        made = [
            torch.cat([apply_views(some[at], params.of(at), plain, raw) for at in rows.split(64)])
            for some in (whole, cut.pixels)
        ]
        ratios.append([gradient(views) / wanted for views in made])
    before, now = np.mean(ratios, 0)
    return float(before), float(now)


def seconds(pictures: Pictures, recipe: Recipe, batch: int, rounds: int) -> tuple[float, float]:
    """Median processor time of a step with whole and with larger pictures; they run in turn."""
    torch.manual_seed(0)
    network = Network(recipe).train()
    rows, found = torch.arange(min(batch, len(pictures.array))), ([], [])
    sources = [view_source(some, torch.device("cpu")) for some in (replace(pictures, large=None), pictures)]
    loss = Criterion(None, network, 1)
    learners = [Learner(recipe, network, network.backbone, source, None, loss, False) for source in sources]
    view_input = recipe.input.scaled(recipe.train.view_scale)
    for step in range(rounds + 1):
        for learner, times in zip(learners, found, strict=True):
            start = time.process_time()
            loss, _ = step_loss(
                learner, rows, torch.Generator().manual_seed(step), view_input, recipe.train.temperature
            )
            torch.autograd.backward(loss)
            times.append(time.process_time() - start)
    return statistics.median(found[0][1:]), statistics.median(found[1][1:])


def measure(source: ImageSet, recipe: Recipe, count: int, batch: int, rounds: int) -> Row:
    images = subset(source, np.linspace(0, len(source) - 1, min(count, len(source))).astype(int))
    size = recipe.input.size
    side = larger_side(images, size)
    found = load_pixels(images, size, large=side)
    pictures = Pictures(found.array, found.kept, found.full_sizes, found.failures, found.large)
    images = subset(images, pictures.kept)
    times = seconds(pictures, recipe, batch, rounds)
    return Row(size, side, recipe.views.crop_scale[0], *sharpness(images, pictures, recipe, rounds), *times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--recipe", default="spq")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument(
        "--batch", type=int, default=32, help="pictures of a step; a large one takes minutes at 224 pixels"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    source, recipe, rows = open_images(arguments.images), load_recipe(arguments.recipe), []
    for size in arguments.sizes:
        sized = replace(recipe, input=replace(recipe.input, size=size))
        rows.append(measure(source, sized, arguments.count, arguments.batch, arguments.rounds))
        row = rows[-1]
        print(
            f"{size} px, kept at {row.kept_side}, crops from {row.crop_scale:g}: sharpness whole {row.whole:.3f}, larger "
            f"{row.larger:.3f}; a step takes {row.larger_seconds / row.whole_seconds:.3f} times as long "
            f"({row.whole_seconds:.2f} s, {row.larger_seconds:.2f} s)"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
