"""Damage to exported sites and thumbnail caches: is each repaired, and is nothing outside them touched?

    python tests/faults/web_site.py --mutations 2000

Exports an index of 60 pictures of the sample, damages files of the site (bit flips, cuts, zeroed ranges, more bytes, swaps,
links, folders, pipes, nothing), exports again, and compares all bytes with a fresh export. Then damages a thumbnail cache in the
same ways, asks for all thumbnails, and compares them with the undamaged ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spq.index.image_index import ImageIndex
from spq.web.server.pictures import Pictures
from spq.web.server.thumbnail_cache import ThumbnailCache
from spq.web.site.site import Options, export_web
from spq.web.site.site_folder import MARKER
from spq.web.thumbnail import remove

Random = np.random.Generator
THUMBNAIL = 64
IN_PLACE, INSTEAD = ("flip", "cut", "zero", "more", "swap"), ("link", "parent", "folder", "pipe", "gone")


def damage(path: Path, others: list[Path], outside: Path, rng: Random) -> str:
    """Damage a file in a random way. Return the way."""
    kind = str(rng.choice([*IN_PLACE, *INSTEAD]))
    if kind == "parent" and path.parent.name in ("site", "cache"):
        kind = "link"
    if kind in IN_PLACE:
        other = others[int(rng.integers(len(others)))].read_bytes()
        path.write_bytes(changed(bytearray(path.read_bytes() or b"x"), kind, other, rng))
        return kind
    remove(path.parent if kind == "parent" else path)
    if kind == "link":
        path.symlink_to(outside / rng.choice(["victim.jpg", "none"]))
    elif kind == "parent":
        path.parent.symlink_to(outside)
    elif kind == "folder":
        path.mkdir()
        (path / "file").write_text("x")
    elif kind == "pipe":
        os.mkfifo(path)
    return kind


def changed(data: bytearray, kind: str, other: bytes, rng: Random) -> bytes:
    """Return the bytes of a file after damage in place."""
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 100))
    if kind == "flip":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[at:]
    elif kind == "zero":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == "more":
        data += bytes(length)
    return other if kind == "swap" else bytes(data)


def plain_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return the bytes of each file below a folder; None for what is neither a file nor a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        is_plain = path.is_file() and not path.is_symlink()
        if is_plain or path.is_symlink() or not path.is_dir():
            found[path.relative_to(folder).as_posix()] = path.read_bytes() if is_plain else None
    return found


def drill_site(index: Path, folder: Path, mutations: int, at_once: int, rng: Random) -> Counter[str]:
    """Damage a site and export it again, until all mutations are done. Return how often what happened."""
    options, site, counts = Options(thumbnail=THUMBNAIL), folder / "site", Counter[str]()
    outside = _victim(folder)
    before = everything(outside)
    export_web(index, folder / "fresh", options)
    fresh = everything(folder / "fresh")
    export_web(index, site, options)
    while counts["mutations"] < mutations:
        files = [path for path in plain_files(site) if path.name != MARKER or rng.random() < 0.2]
        for _ in range(at_once):
            path = files[int(rng.integers(len(files)))]
            if path.is_symlink() or not path.is_file() or site not in path.resolve().parents:
                continue
            others = [other for other in plain_files(site) if other != path]
            counts[damage(path, others, outside, rng)] += 1
            counts["mutations"] += 1
        _export_again(index, site, options, counts)
        counts["not repaired"] += everything(site) != fresh
        counts["touched outside"] += everything(outside) != before
    return counts


def _export_again(index: Path, site: Path, options: Options, counts: Counter[str]) -> None:
    from spq.errors import SPQError

    try:
        export_web(index, site, options)
        counts["exports"] += 1
    except SPQError:  # the marker is gone: it says that this is no site
        counts["refused"] += 1
        shutil.rmtree(site)
        export_web(index, site, options)
    except Exception as error:
        print("traceback:", repr(error))
        counts["tracebacks"] += 1
        shutil.rmtree(site)
        export_web(index, site, options)


def drill_cache(index: Path, folder: Path, mutations: int, rng: Random) -> Counter[str]:
    """Damage a thumbnail cache, and ask for all thumbnails. Return how often what happened."""
    counts, outside = Counter[str](), _victim(folder)
    with ImageIndex.open(index) as opened:
        items = list(opened.store.items())[1:7]
        pictures = Pictures(opened.store.manifest.origin)
        cache = ThumbnailCache(folder / "cache", 10**9, pictures)
        right = [cache.get(item, THUMBNAIL) for item in items]
        before = everything(outside)
        while counts["mutations"] < mutations:
            files = [path for path in plain_files(folder / "cache") if path.suffix == ".jpg"]
            if len(files) < 4:  # links and folders stay where they are
                shutil.rmtree(folder / "cache")
                cache.get(items[0], THUMBNAIL)
                counts["caches"] += 1
            else:
                path = files[int(rng.integers(len(files)))]
                counts[damage(path, [other for other in files if other != path], outside, rng)] += 1
                counts["mutations"] += 1
            counts["wrong"] += [cache.get(item, THUMBNAIL) for item in items] != right
            counts["touched outside"] += everything(outside) != before
    counts["made again"] = cache.made - len(items)
    return counts


def _victim(folder: Path) -> Path:
    """Make a folder that links lead to, with files that nothing may touch."""
    outside = folder / "outside"
    outside.mkdir(exist_ok=True)
    for name in ("victim.jpg", "0123456789abcdef.jpg"):
        (outside / name).write_bytes(b"precious")
    return outside


def timed(drill: Callable[[], Counter[str]]) -> str:
    start = time.perf_counter()
    counts = drill()
    return json.dumps({**dict(sorted(counts.items())), "seconds": round(time.perf_counter() - start)})


def main() -> None:
    from server import write_index

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=10, help="mutations of a site before it is exported again")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder, index = Path(name), write_index(Path(name))
        print("site ", timed(lambda: drill_site(index, folder, arguments.mutations, arguments.at_once, rng)))
        print("cache", timed(lambda: drill_cache(index, folder, arguments.mutations, rng)))


if __name__ == "__main__":
    main()
