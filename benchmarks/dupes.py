"""Does `spq dupes FOLDER` find the copies of pictures, and nothing else? Beside imagededup, on the same pictures, in one run.

    python benchmarks/dupes.py [--count 600] [--imagededup PYTHON] [--cnn] [--json benchmarks/results/dupes.json]

The collection: documents, screenshots, icons and others that differ in one small thing, drawn by `_dupes_pictures.py`; and photos
of SPQ_DATA (clothing and objects), each with ten copies of different kinds.

- Precision: of the pictures that are called confirmed copies, the share that shows the same picture as the one to keep. All
others
  are false pairs, and are listed. Look at them: photos of the collection that are real copies of each other are in KNOWN.
- Recall of a kind of copies: the share that is in a confirmed group with its original.
- For imagededup a copy is found if it is in the list of its original. A false pair is a pair of different pictures in a list.

spq runs as a program of its own, and so does each method of imagededup, with the Python that `--imagededup` names. Time is
that of the
whole program, memory the most that it held.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from _dupes_pictures import COPIES, make_documents, photo_files

KINDS = ("bytes", "q60", "half", "grey", "text", "border", "bars", "turned 90", "mirrored", "crop 10 %")
KNOWN = [  # photos that are the same picture, checked by eye: name and class
    ("637a56e4-7fa6-4f75-8859-0f8902461554-skirt", "6075b4a5-5b1a-4ce0-aea0-9dbfbca7c35c-shorts"),
    ("b59e4d4a-a283-4868-8a81-2f24d8b9c8d8-dress", "e6a8b33f-279c-4072-8dba-229d94205e55-dress"),
    ("image_0023-lotus", "image_0033-lotus"),
]
IMAGEDEDUP = """
import json, sys
from imagededup.methods import PHash, DHash, CNN
method, folder, out = sys.argv[1:]
if method == "CNN":
    found = CNN(verbose=False).find_duplicates(image_dir=folder, min_similarity_threshold=0.9, num_enc_workers=0, recursive=True)
else:
    found = {"PHash": PHash, "DHash": DHash}[method](verbose=False).find_duplicates(image_dir=folder, recursive=True)
json.dump(found, open(out, "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=os.environ.get("SPQ_DATA", "."), help="folder with clothing and objects")
    parser.add_argument("--count", type=int, default=600, help="documents, and photos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--imagededup", help="a Python that has imagededup")
    parser.add_argument("--cnn", action="store_true", help="also imagededup's CNN, which needs its weights")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="make the collection in this folder, and leave it there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spq-dupes-") as folder:
        root = arguments.keep or Path(folder) / "pictures"
        truth = make_collection(Path(arguments.images), root, arguments.count, arguments.seed)
        print(f"{len(truth):,} pictures, {len(set(truth.values())):,} of them different", flush=True)
        results = {"spq": measured(run_spq, root, truth)}
        show("spq", results["spq"])
        for method in ["PHash", "DHash", *(["CNN"] if arguments.cnn else [])] if arguments.imagededup else []:
            results[f"imagededup {method}"] = measured(
                lambda root, out, method=method: run_imagededup(arguments.imagededup, method, root, out), root, truth
            )
            show(f"imagededup {method}", results[f"imagededup {method}"])
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
        facts = {
            "pictures": len(truth),
            "count": arguments.count,
            "seed": arguments.seed,
            **machine,
            "results": results,
        }
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def make_collection(images: Path, root: Path, count: int, seed: int) -> dict[str, str]:
    """Write documents, photos and copies of the photos. Return path -> name of the picture that it shows."""
    shutil.rmtree(root, ignore_errors=True)
    truth = {f"documents/{name}": picture for name, picture in make_documents(root / "documents", count, seed).items()}
    files = sorted(path for name in ("clothing", "objects") for path in (images / name).rglob("*.jpg"))
    drawn_on = {path.parts[-2:] for path in photo_files()}  # class and name
    files = [path for path in files if path.parts[-2:] not in drawn_on]
    rng = np.random.default_rng(seed)
    for folder in ("photos", *KINDS):
        (root / folder).mkdir()
    alias = {b: a for a, b in KNOWN}
    for place in sorted(rng.choice(len(files), count, replace=False).tolist()):
        name = f"{files[place].stem}-{files[place].parent.name}"
        target = root / "photos" / f"{len(truth):06d}-{name}.jpg"
        shutil.copyfile(files[place], target)
        truth[f"photos/{target.name}"] = shown = alias.get(name, name)
        with Image.open(files[place]) as opened:
            image = opened.convert("RGB")
        for kind in KINDS:
            data, suffix = (files[place].read_bytes(), ".jpg") if kind == "bytes" else COPIES[kind](image, rng)
            path = root / kind / f"{target.stem}{suffix}"
            path.write_bytes(data)
            truth[f"{kind}/{path.name}"] = shown
    return truth


def run_spq(root: Path, out: Path) -> list[tuple[str, str]]:
    """Confirmed pairs (copy, kept)."""
    with out.open("wb") as file:
        subprocess.run([sys.executable, "-m", "spq", "dupes", str(root), "--json"], stdout=file, check=True)
    report = json.loads(out.read_text())
    groups = [group for group in report["groups"] if group["confirmed"]]
    return [(other["path"], group["keep"]["path"]) for group in groups for other in group["others"]]


def run_imagededup(python: str, method: str, root: Path, out: Path) -> list[tuple[str, str]]:
    """Pairs of a picture and one that is in its list."""
    subprocess.run([python, "-W", "ignore", "-c", IMAGEDEDUP, method, str(root), str(out)], check=True)
    found = json.loads(out.read_text())
    return [(other, name) for name, others in found.items() for other in others]


def measured(run: Any, root: Path, truth: dict[str, str]) -> dict[str, Any]:
    """Run a method, and score its pairs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Peak() as peak:
        pairs = run(root, Path(folder) / "out.json")
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "peak_mb": peak.mb, **scores(pairs, truth)}


class Peak:
    """The most memory that a child process held, read from the system while it runs."""

    def __init__(self) -> None:
        self.mb = 0

    def __enter__(self) -> Peak:
        import threading

        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stopped.wait(0.2):
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    text = status.read_text()
                except OSError:
                    continue
                facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
                if facts.get("PPid", "").strip() == str(os.getpid()) and "VmHWM" in facts:
                    self.mb = max(self.mb, int(facts["VmHWM"].split()[0]) // 1024)


def scores(pairs: list[tuple[str, str]], truth: dict[str, str]) -> dict[str, Any]:
    """Precision of all pairs, and recall of each kind of copies."""
    false = [pair for pair in pairs if truth[pair[0]] != truth[pair[1]]]
    together: dict[str, str] = {}  # union of true pairs

    def top(path: str) -> str:
        while together.get(path, path) != path:
            path = together[path]
        return path

    for a, b in pairs:
        if truth[a] == truth[b]:
            together[top(a)] = top(b)
    original = {picture: path for path, picture in truth.items() if path.startswith("photos/")}
    counts: dict[str, Counter[bool]] = {}
    for path, picture in truth.items():
        kind = path.split("/")[0]
        if kind in KINDS:
            counts.setdefault(kind, Counter())[top(path) == top(original[picture])] += 1
        elif "-copy." in path:
            first = next(p for p in truth if truth[p] == picture and p != path)
            counts.setdefault("documents", Counter())[top(path) == top(first)] += 1
    recall = {kind: round(count[True] / count.total(), 4) for kind, count in counts.items()}
    precision = 1 - len(false) / len(pairs) if pairs else 1.0
    return {
        "pairs": len(pairs),
        "false_pairs": len(false),
        "precision": round(precision, 5),
        "recall": recall,
        "false": false[:200],
    }


def show(name: str, result: dict[str, Any]) -> None:
    recall = "  ".join(f"{kind} {value:.3f}" for kind, value in result["recall"].items())
    print(f"{name}: {result['seconds']:,.0f} s, {result['cpu_seconds']:,.0f} s of CPU, {result['peak_mb']:,} MB")
    print(
        f"  precision {result['precision']:.4f} ({result['false_pairs']:,} false of {result['pairs']:,} pairs)\n  recall {recall}"
    )
    for pair in result["false"][:20] if name == "spq" else []:
        print(f"  false: {pair[0]}  {pair[1]}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
