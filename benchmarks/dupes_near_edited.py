"""Are pictures that differ in one small thing called copies if one of them is edited, too?

    python benchmarks/dupes_near_edited.py [--seed 61] [--families invoice,chat] [--save FOLDER]

Two drawn pictures of each family of `_dupes_pictures.py` that say different things; the second is also made grey, smaller,
darker, cropped, framed, mirrored, turned or written on. A pair counts if the same edit of both leaves a visible difference.
Periodic pictures are left out: a crop of one is a true part of the other. All pairs that are confirmed are printed. Look at
them: an added text may cover what differs, and a change in small print may be lost at half the size.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from _dupes_pictures import COPIES, FAMILIES
from spq.data.decode import load_image
from spq.dupes.confirm import Verdict, judge

EDITS = (
    "half", "grey", "border", "bars", "mirrored", "turned 90", "crop 10 %", "crop uneven", "brighter", "darker",
    "mirrored, half", "cropped, q60", "border, brighter", "grey, half", "text",
)  # fmt: skip
LEFT_OUT = ("flat", "noise", "tripod", "grating", "pattern")  # they differ in nothing, or repeat themselves
TEMPLATES = 2
VISIBLE, PIXELS = 40, 12  # grey levels, and how many pixels must differ by more


def pairs(seed: int, families: list[str]) -> Iterator[tuple[str, Image.Image, Image.Image, Verdict]]:
    """Yield the name of each pair, its pictures, and what spq says of them."""
    for family in families:
        for template in range(TEMPLATES):
            first, second = (FAMILIES[family](random.Random(f"{seed} {family} {template}"), v) for v in (0, 1))
            if first.mode != "RGB":
                continue
            for edit in EDITS:
                try:
                    edited = [load_image(COPIES[edit](image, _rng(seed, template))[0]) for image in (first, second)]
                except ValueError:  # too small for a text
                    continue
                if edited[0].size != edited[1].size or not _differ(*edited):
                    continue
                verdict = judge(np.asarray(first.convert("RGBA")), np.asarray(edited[1].convert("RGBA")))
                yield f"{family}-{template} {edit}", first, edited[1], verdict


def _rng(seed: int, template: int) -> np.random.Generator:
    return np.random.default_rng([seed, template])


def _differ(a: Image.Image, b: Image.Image) -> bool:
    return int((np.abs(np.asarray(a).astype(int) - np.asarray(b)).max(2) > VISIBLE).sum()) >= PIXELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=61)
    parser.add_argument("--families", help="default: all")
    parser.add_argument("--save", type=Path, help="folder for the pictures that are confirmed")
    options = parser.parse_args()
    families = options.families.split(",") if options.families else [f for f in FAMILIES if f not in LEFT_OUT]
    count = confirmed = 0
    for name, first, second, verdict in pairs(options.seed, families):
        count += 1
        if verdict.kind not in ("re-encoded", "edited"):
            continue
        confirmed += 1
        print(f"{name}: {verdict.kind}, {verdict.note}", flush=True)
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            first.save(options.save / f"{name}, first.png")
            second.save(options.save / f"{name}, second.png")
    print(f"{confirmed} of {count} pairs were confirmed")


if __name__ == "__main__":
    main()
