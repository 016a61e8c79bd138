"""An index of three collections, while disks come and go and people work on their files, against a simple model."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import DataError
from spq.index.image_index import ImageIndex
from spq.model.model import Model

SOURCES = ("anna", "ben", "nas/carla")
PREFIXES = ("", "ben", "carla")
FOLDERS = ("", "trip/", "disk/", "disk/2024/", "private/", "trip/@eaDir/")
EXCLUDE = ("private", "*.gif")


class World:
    """Files of three collections, and what people do to them. It also knows what an index should hold after a sync.

    Attributes:
        index: path -> (number of the picture, bytes). away: place -> where its content is kept while it is not mounted.
    """

    def __init__(self, root: Path, rng: np.random.Generator) -> None:
        self.root, self.rng = root, rng
        self.index: dict[str, tuple[int, bytes]] = {}
        self.away: dict[Path, Path] = {}
        self.deleted: list[tuple[Path, bytes]] = []
        self.pictures = 0
        for source in SOURCES:
            for folder in FOLDERS:
                (root / source / folder).mkdir(parents=True, exist_ok=True)
            for _ in range(6):
                self.add(root / source)

    def bytes_of_new(self) -> bytes:
        self.pictures += 1
        path = self.root / "new.bmp"  # all have the same size
        Image.fromarray(self.rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(path)
        data = path.read_bytes()
        path.unlink()
        return data

    def some(self, paths: list[Path]) -> Path | None:
        return paths[int(self.rng.integers(len(paths)))] if paths else None

    def sources(self) -> list[Path]:
        return [self.root / source for source in SOURCES if self.root / source not in self.away]

    def files(self) -> list[Path]:
        return sorted(path for source in self.sources() for path in source.rglob("*") if path.is_file())

    def folders(self) -> list[Path]:
        found = (path for source in self.sources() for path in [source, *source.rglob("*")])
        return sorted(path for path in found if path.is_dir() and path not in self.away)

    def add(self, folder: Path | None = None) -> None:
        folder = self.some([path for path in self.folders() if not folder or folder in [path, *path.parents]])
        if folder:
            name = f"{self.pictures:03d}.{'gif' if self.rng.random() < 0.2 else 'bmp'}"
            (folder / name).write_bytes(self.bytes_of_new())

    def rename(self) -> None:
        path, folder = self.some(self.files()), self.some(self.folders())
        if path and folder:
            path.rename(folder / f"renamed-{self.pictures:03d}{path.suffix}")
            self.pictures += 1

    def edit(self) -> None:
        if path := self.some(self.files()):
            status = path.stat()
            path.write_bytes(self.bytes_of_new())
            if self.rng.random() < 0.7:  # some programs restore the time
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def touch(self) -> None:
        if path := self.some(self.files()):
            path.chmod(0o600 if self.rng.random() < 0.5 else 0o644)

    def delete(self) -> None:
        if path := self.some(self.files()):
            self.deleted.append((path, path.read_bytes()))
            path.unlink()

    def delete_folder(self) -> None:
        path = self.some([path for path in self.folders() if path not in map(self.root.joinpath, SOURCES)])
        if path and not any(path in place.parents for place in self.away):
            shutil.rmtree(path)

    def restore(self) -> None:
        if self.deleted:
            path, data = self.deleted.pop()
            if not any(place in path.parents for place in self.away):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def unmount(self) -> None:
        places = [self.root / source / folder for source in SOURCES for folder in ("", "disk")]
        place = self.some([p for p in places if p.is_dir() and not {p, *p.parents, *p.rglob("*")} & self.away.keys()])
        if place:
            self.pictures += 1  # a number for each step
            self.away[place] = self.root / f"away-{self.pictures}"
            place.rename(self.away[place])
            if self.rng.random() < 0.6 or place.name == "disk":
                place.mkdir()

    def mount(self) -> None:
        if place := self.some(sorted(self.away)):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                self.away.pop(place).rename(place)

    def listed(self) -> dict[str, bytes]:
        """What an index should take of the files that are there."""
        found = {}
        for source, prefix in zip(SOURCES, PREFIXES, strict=True):
            for path in (self.root / source).rglob("*.bmp"):
                below = path.relative_to(self.root / source)
                if not {"private", "@eaDir"} & set(below.parts):
                    found[f"{prefix}/{below.as_posix()}".lstrip("/")] = path.read_bytes()
        return found

    def absent(self, path: str) -> str:
        """What is out of sight: all of the collection of a picture, its folder, or nothing.

        That is so if nothing is in the collection, or in the last folder on the way to the picture that is there.
        """
        number = next((n for n in (1, 2) if path.startswith(f"{PREFIXES[n]}/")), 0)
        root = self.root / SOURCES[number]
        folder = (root / (path.removeprefix(f"{PREFIXES[number]}/") if number else path)).parent
        if not [p for p in root.rglob("*") if "@eaDir" not in p.parts and (p.is_file() or p.name == "private")]:
            return "collection"
        folder = next(place for place in (folder, *folder.parents) if place.is_dir())
        is_empty = not [entry for entry in folder.iterdir() if entry.name != "@eaDir"]
        return "folder" if is_empty and folder != root else ""

    def expected(self) -> dict[str, bytes]:
        """Paths and bytes of an index after a sync."""
        found = self.listed()
        moved = [data for path, data in found.items() if path not in self.index]
        kept = {
            path: data
            for path, (_, data) in self.index.items()
            if (where := self.absent(path)) == "collection" or (where and data not in moved)
        }
        return kept | found


STEPS = ("add", "rename", "edit", "touch", "delete", "delete_folder", "restore", "unmount", "mount", "mount")


@pytest.mark.parametrize("seed", range(20))
def test_pictures_and_ids_are_right_after_any_sequence_of_steps(seed: int, tiny_model: Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    world = World(tmp_path, rng)
    source = Source(tuple(str(tmp_path / name) for name in SOURCES), EXCLUDE, prefixes=PREFIXES)
    with ImageIndex.build(tmp_path / "i", tiny_model, open_images(source)) as index:
        for number in range(12):
            if number:
                for step in rng.choice(STEPS, rng.integers(1, 4)):
                    getattr(world, step)()
            expected = world.expected()
            try:
                index.sync(open_images(index.store.manifest.origin))
            except DataError:  # all disks are away
                assert not world.listed()
                continue
            ids = {item.path: item.id for item in index.store.items()}
            assert set(ids) == set(expected), number
            for path, id_ in ids.items():
                before = world.index.get(path)
                same = {number for number, data in world.index.values() if data == expected[path]}
                if before:
                    assert id_ == before[0], path
                elif same - {other for p, other in ids.items() if p != path}:
                    assert id_ in same, f"{path} was renamed"
            codes: dict[str, Any] = {item.path: item.code for item in index.store.items()}
            for path, data in expected.items():  # an edit that keeps size and time is seen, too
                assert np.array_equal(codes[path], code_of(tiny_model, data)), path
            world.index = {path: (ids[path], expected[path]) for path in expected}


CODES: dict[bytes, Any] = {}


def code_of(model: Model, data: bytes) -> Any:
    if data not in CODES:
        with Image.open(io.BytesIO(data)) as picture:
            CODES[data] = model.encode([picture.convert("RGB")])[0]
    return CODES[data]
