"""Does a collection train that is larger than the address space of the process?

    python tests/faults/address_space.py $SPQ_DATA/clothing/train [--count 20000] [--size 224] [--gigabytes 4]

Copies of the pictures are made in a scratch folder. A process of its own loads torch, limits its address space to what it has
then and some gigabytes more, and trains a small network for an epoch, up to the saved model. The last line says what it took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

TRAINING = """
import resource, sys
from dataclasses import replace
from spq import SPQ, load_recipe
from spq.config import BackboneConfig, HeadConfig
import numpy, torch, torchvision, spq.training.train
from torch import nn

folder, out, size, gigabytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
warm = nn.Conv2d(3, 8, 3)
warm(torch.rand(8, 3, 64, 64)).sum().backward()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = int(used + gigabytes * 1e9)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
recipe = load_recipe("fast")
recipe = replace(
    recipe,
    input=replace(recipe.input, size=size),
    backbone=BackboneConfig(blocks=(1, 1), width=8, stem_stride=4),
    train=replace(recipe.train, batch_size=64, num_views=2, small_share=1.0, small_scale=0.3, view_scale=0.3, precision="fp32"),
)
model = SPQ.train(folder, recipe=recipe, epochs=1, out=out, on_note=lambda text: print("note:", text, flush=True))
words = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(words["VmPeak"].split()[0]) * 1024 - used
facts = model.facts
print(f"{facts['images']:,} pictures at {size} px: {facts['steps']} steps, {facts['minutes']} minutes; "
      f"address space {peak / 1e9:.2f} GB beyond torch's {used / 1e9:.2f} GB, memory {words['VmHWM'].split()[0][:-3]} MB")
"""


def copies(source: Path, folder: Path, count: int) -> None:
    files = sorted(source.rglob("*.jpg"))
    for number, file in enumerate(islice(cycle(files), count)):
        shutil.copyfile(file, folder / f"{number:06d}.jpg")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spq-address-") as scratch:
        folder, cache = Path(scratch) / "photos", Path(scratch) / "cache"
        folder.mkdir()
        copies(arguments.images, folder, arguments.count)
        begun = time.monotonic()
        words = [str(folder), f"{scratch}/model", str(arguments.size), str(arguments.gigabytes)]
        done = subprocess.run(
            [sys.executable, "-c", TRAINING, *words], env={**os.environ, "SPQ_CACHE": str(cache)}, check=False
        )
        left = [path.name for path in (cache / "pixels").glob("*")] if (cache / "pixels").exists() else []
        print(
            f"ended with {done.returncode} after {time.monotonic() - begun:.0f} s; left in the cache: {left or 'nothing'}"
        )
        return done.returncode or bool(left)


if __name__ == "__main__":
    sys.exit(main())
