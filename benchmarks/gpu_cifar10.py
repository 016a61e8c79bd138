"""Train on CIFAR-10 on one GPU, in one call that ends in time with a complete result. See docs/gpu.md.

    PYTHONPATH=src python benchmarks/gpu_cifar10.py --data DATA --out runs/gpu --finish-by 570

This trains recipe `gpu` until the time limit, scores each length of code with test queries, and writes the model in parts of
limited size. `--look` measures rates and short variants first, with training pictures as queries. `--throughput` compares views
per second, also with the authors' code. Needs only torch, torchvision, safetensors, Pillow, pyarrow and numpy.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

import _gpu_run
import _gpu_throughput
from _authors import commit_of
from _gpu_results import Results, device_name, say
from spq.data.open import open_images
from spq.errors import SPQError

STARTED = time.monotonic()


def throughput(arguments: argparse.Namespace, out: Path) -> None:
    """Views per second of variants, measured in the training loop, and of the authors' code."""
    images = _gpu_run.decoded(open_images(arguments.train), 32, arguments.limit)[0]
    here = {"device": device_name(), "torch": torch.__version__, "commit": commit_of(Path(__file__).parent.parent)}
    results = Results(out / "throughput.json", {})
    everything = results.content.setdefault("rows", [])
    rows = [
        row for row in everything if here.items() <= row.items()
    ]  # rates of other cards or other code are not comparable
    for more in _gpu_throughput.measure(images, arguments.device, arguments.official, [row["what"] for row in rows]):
        rows += (new := [row | here for row in more])
        everything += new
        results.save()
        say(_gpu_throughput.table(new))
    print(_gpu_throughput.table(rows))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, help="folder with cifar10/train.parquet and test.parquet (default: $SPQ_DATA)")
    add("--out", type=Path, default=Path("runs/gpu"), help="models and results.json")
    add("--recipe", default="gpu", help="name, FILE.toml or VARIANT")
    add("--bits", default="16,32,64", help="lengths of one model's codes")
    add("--seed", type=int, default=0)
    add(
        "--start",
        type=Path,
        help="start from the weights of this model folder, for example OUT/network of an earlier call",
    )
    add("--finish-by", type=float, default=570.0, help="time limit in seconds from the start")
    add("--reserve", type=float, default=30.0, help="seconds of the limit for codebooks, reports, scores and parts")
    add("--curve-minutes", type=float, default=1.5, help="minutes between two points of the curve")
    add("--parts", type=Path, help="folder for parts and a copy of results.json (default: OUT/parts)")
    add("--part-mib", type=float, default=15.0, help="largest size of a part")
    add("--look", action="store_true", help="measure rates, then a short training and variants of its last stage")
    add("--look-minutes", type=float, default=0.75, help="minutes of the training of --look")
    add(
        "--variants",
        nargs="+",
        metavar="VARIANT",
        help="variants of the last stage, for example gpu gpu:cluster.contrast=0.5",
    )
    add("--variant-seconds", type=float, default=12.0, help="seconds of self-training for each variant")
    add("--throughput", action="store_true", help="measure views per second, from recipe paper to recipe gpu")
    add("--official", type=Path, metavar="CHECKOUT", help="also measure the authors' code (needs kornia and tqdm)")
    add("--train", default="cifar10:train")
    add("--test", default="cifar10:test")
    add("--map-at", type=int, default=1000)
    add("--limit", type=int, default=0, help="use only this many pictures of each set, for a quick test")
    add("--device", default="auto")
    arguments = parser.parse_args(argv)
    arguments.bits = [int(bits) for bits in arguments.bits.split(",")]
    arguments.throughput |= arguments.official is not None
    if arguments.data:
        os.environ["SPQ_DATA"] = str(arguments.data)
    return arguments


def main() -> int:
    arguments = parse()
    torch.backends.cudnn.benchmark = True  # sizes do not change
    try:
        if arguments.throughput:
            throughput(arguments, arguments.out)
        elif arguments.look:
            _gpu_run.look(arguments, arguments.out, STARTED)
        else:
            _gpu_run.one_call(arguments, arguments.out, STARTED)
    except SPQError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
