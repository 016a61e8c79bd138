"""Does `spq dupes` find the copies of pictures with their right kind, and nothing else?

    spq train $SPQ_DATA/clothing --recipe fast --bits 64 --image-size 64 --minutes 30 --out clothing.spq
    python benchmarks/dupes.py --model clothing.spq [--count 500] [--json dupes.json] [--html dupes.html]

The benchmark makes copies of every picture: the same bytes, JPEG at three qualities, half the size, cropped by 5 % of each side,
mirrored, darker and brighter.

- Recall of a kind: the share of its copies that are in a group with their original, with that kind or a surer one. For
  `similar`, the share of all copies.
- Precision: the share of reported copies whose kept picture has the same original. For identical and
  re-encoded, the kept picture must not be an edited one.

Precision of `similar` cannot reach 1, because two different originals that look alike count as wrong. Two originals that may be
the same picture are listed. Look at them (`--html`), and add real copies to KNOWN.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from spq import SPQ, ImageIndex
from spq.cli.reports.dupes_report import write_html
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.dupes.find import KINDS, Report, find_duplicates
from spq.errors import ImageError

Maker = Callable[[Image.Image, Path], None]

# Originals of the clothing photos that are the same picture, checked by eye, with their surest kind
KNOWN = [
    ("train/skirt/637a56e4-7fa6-4f75-8859-0f8902461554.jpg", "train/shorts/6075b4a5-5b1a-4ce0-aea0-9dbfbca7c35c.jpg"),
    ("train/dress/b59e4d4a-a283-4868-8a81-2f24d8b9c8d8.jpg", "train/dress/e6a8b33f-279c-4072-8dba-229d94205e55.jpg"),
]


def jpeg(quality: int) -> Maker:
    return lambda image, path: image.save(path, "JPEG", quality=quality)


def half(image: Image.Image, path: Path) -> None:
    size = max(1, image.width // 2), max(1, image.height // 2)
    image.resize(size, Image.Resampling.LANCZOS).save(path, "JPEG", quality=85)


def cropped(image: Image.Image, path: Path) -> None:
    x, y = image.width / 40, image.height / 40
    image.crop((round(x), round(y), round(image.width - x), round(image.height - y))).save(path, "JPEG", quality=85)


def mirrored(image: Image.Image, path: Path) -> None:
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path, "JPEG", quality=85)


def brightness(factor: float) -> Maker:
    return lambda image, path: ImageEnhance.Brightness(image).enhance(factor).save(path, "JPEG", quality=85)


MAKERS: dict[str, tuple[str, Maker | None]] = {  # copy -> its expected kind, and the function that makes it
    "bytes": ("identical", None),
    "q90": ("re-encoded", jpeg(90)),
    "q60": ("re-encoded", jpeg(60)),
    "q30": ("re-encoded", jpeg(30)),
    "half": ("re-encoded", half),
    "crop5": ("edited", cropped),
    "mirror": ("edited", mirrored),
    "dark80": ("edited", brightness(0.8)),
    "bright120": ("edited", brightness(1.2)),
}
UNEDITED = {"original", *(copy for copy, (kind, _) in MAKERS.items() if kind in KINDS[:2])}


def make_copies(images: ImageSet, positions: list[int], root: Path) -> None:
    """Write root/<copy>/<position>.jpg for each position and maker. The originals go to root/original."""
    for copy in ("original", *MAKERS):
        (root / copy).mkdir(parents=True, exist_ok=True)
    for position in positions:
        try:
            image = images.image(position)
        except ImageError:
            continue
        original = root / "original" / f"{position:06d}.jpg"
        original.write_bytes(images.read(position))
        for copy, (_, maker) in MAKERS.items():
            path = root / copy / original.name
            maker(image, path) if maker else shutil.copyfile(original, path)


def origins(images: ImageSet) -> Callable[[str], str]:
    """Path of a picture -> its original. Originals that are known to be the same picture have one name."""
    number = {name: f"{position:06d}" for position, name in enumerate(images.ids)}
    alias = {number[b]: number[a] for a, b in KNOWN if a in number and b in number}

    def origin(path: str) -> str:
        stem = Path(path).stem
        return alias.get(stem, stem)

    return origin


def joined(report: Report, copies: list[str]) -> dict[str, Counter[str]]:
    """For each maker: the kinds under which its copies are in a group with their original, or that they were missed."""
    leader: dict[str, str] = {}

    def top(path: str) -> str:
        while path in leader:
            path = leader[path]
        return path

    found: dict[str, Counter[str]] = {copy: Counter() for copy in MAKERS}
    left = set(copies)
    for kind in KINDS:
        for group in (group for group in report.groups if group.kind == kind):
            leader.update((other.path, group.keep.path) for other in group.others)
        now = {path for path in left if top(path) == top(f"original/{Path(path).name}")}
        for path in now:
            found[Path(path).parent.name][kind] += 1
        left -= now
    for path in left:
        found[Path(path).parent.name]["missed"] += 1
    return found


def is_true(kind: str, keep: str, other: str, origin: Callable[[str], str]) -> bool:
    unedited = {Path(path).parent.name for path in (keep, other)} <= UNEDITED
    return origin(keep) == origin(other) and (kind not in KINDS[:2] or unedited)


def scores(report: Report, found: dict[str, Counter[str]], origin: Callable[[str], str]) -> dict[str, dict[str, float]]:
    """Precision and recall of each kind, with their counts."""
    rows = {}
    for number, kind in enumerate(KINDS, 1):
        links = [(g.keep.path, other.path) for g in report.groups if g.kind == kind for other in g.others]
        true = sum(is_true(kind, keep, other, origin) for keep, other in links)
        wanted = [counts for copy, counts in found.items() if MAKERS[copy][0] == kind or kind == "similar"]
        total = sum(counts.total() for counts in wanted)
        hit = sum(counts[surer] for counts in wanted for surer in KINDS[:number])
        rows[kind] = {
            "precision": true / len(links) if links else 1.0,
            "links": len(links),
            "recall": hit / total if total else 1.0,
            "copies": total,
        }
    return rows


def doubtful(report: Report, images: ImageSet, origin: Callable[[str], str]) -> list[tuple[str, str, str]]:
    """(kind, original, original) of groups with two originals, which are real copies or mistakes."""
    pairs = set()
    for group in (group for group in report.groups if group.kind != "similar"):
        for other in group.others:
            if not is_true(group.kind, group.keep.path, other.path, origin):
                a, b = sorted(images.ids[int(origin(member.path))] for member in (group.keep, other))
                pairs.add((group.kind, a, b))
    return sorted(pairs)


def table(rows: dict[str, dict[str, float]], found: dict[str, Counter[str]]) -> str:
    lines = [f"{'kind':12s} {'precision':>9s} {'of':>7s} {'recall':>8s} {'of':>7s}"]
    for kind, row in rows.items():
        lines.append(f"{kind:12s} {row['precision']:9.4f} {row['links']:7,d} {row['recall']:8.4f} {row['copies']:7,d}")
    columns = (*KINDS, "missed")
    lines += ["", f"{'copy':12s} " + " ".join(f"{kind:>10s}" for kind in columns)]
    for copy, counts in found.items():
        lines.append(f"{copy:12s} " + " ".join(f"{counts[kind] / max(counts.total(), 1):10.4f}" for kind in columns))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--images", default=f"{os.environ.get('SPQ_DATA', '.')}/clothing")
    parser.add_argument("--count", type=int, help="number of originals (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of originals and of calibration")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--html", type=Path, help="contact sheet of the groups")
    arguments = parser.parse_args()

    images, model = open_images(arguments.images), SPQ.load(arguments.model)
    count = min(arguments.count or len(images), len(images))
    positions = np.random.default_rng(arguments.seed).choice(len(images), count, replace=False)
    with tempfile.TemporaryDirectory(prefix="spq-dupes-") as folder:
        root = Path(folder)
        make_copies(images, sorted(positions.tolist()), root / "pictures")
        collection = open_images(root / "pictures")
        with ImageIndex.build(root / "index", model, collection) as index:
            start = time.perf_counter()
            report = find_duplicates(index, collection, seed=arguments.seed)
            seconds = time.perf_counter() - start
        if arguments.html:
            write_html(arguments.html, report, collection)
    origin = origins(images)
    found = joined(report, [path for path in collection.ids if not path.startswith("original/")])
    rows, look_at = scores(report, found, origin), doubtful(report, images, origin)
    threshold = asdict(report.threshold) if report.threshold else None
    print(f"{count:,} originals, {report.pictures:,} pictures, {seconds:.0f} s, {len(report.left_out)} left out\n")
    print(table(rows, found))
    print("\n".join(["", *(f"look at these ({kind}): {a}  {b}" for kind, a, b in look_at)]))
    print(f"threshold of similar: {threshold}")
    if arguments.json:
        facts = {
            "originals": count, "pictures": report.pictures, "seconds": seconds, "model": model.hash, "seed": arguments.seed,
            "kinds": rows, "copies": {copy: dict(counts) for copy, counts in found.items()}, "threshold": threshold,
            "doubtful": look_at, "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        }  # fmt: skip
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
