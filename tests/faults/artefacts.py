"""Damage models, checkpoints, caches of features and recipes at random, then use them.

    OMP_NUM_THREADS=1 python tests/faults/artefacts.py --count 4000 --seed 0

Each mutation runs in a process of its own, forked from one that has loaded torch, with at most 10 seconds of a processor and
1 GB more of memory. What is damaged is loaded and used: four pictures are encoded, a training resumes and ends, or features are
taken from the cache. Right is an error of spq in one line, or the same answer as from the undamaged files. A recipe file is a
user's text: another number in it is another recipe, so only errors, time and memory count.

The last line counts how the mutations ended; the exit status is 1 if any of them ended in another way than those two.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import io
import json
import os
import pickle
import random
import resource
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from small_training import FROZEN, Patches, StopError, sample_images, small_recipe
from spq.config import load_recipe, to_dict
from spq.errors import SPQError
from spq.model.feature_store import FeatureStore
from spq.model.model import Model
from spq.model.network import Network
from spq.training.features import FeatureExtractor, cached_features
from spq.training.train import train

SECONDS, BYTES = 10, 10**9  # of a processor, and of memory
PATIENCE = 6  # times the seconds, for a machine that is busy with other work
COUNT = 40  # pictures in a training
GOOD = ("refused", "same")
VALUES: list[Any] = [
    2**63, -(2**63), 10**400, 1e308, -1, 0, float("nan"), float("inf"), 1e9, 100_000, "", "x" * 9999, "\ud800", None, True,
    [], {}, [[]], [100_000], {"a": 1}, [1, "two"],
]  # fmt: skip
TOML_VALUES = [
    "9223372036854775808", "1" * 5000, "1e999", "nan", "-1", "0", "[100000]", "[" * 50_000, "true", '"x"', "100000", "1e-300",
    "2000000000", "[9, 9, 9, 9, 9, 9, 9, 9]", "0x7fffffff", "{a = 1}", "1979-05-27",
]  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """Something on disk, and what is done with it.

    Attributes:
        make: writes it into a folder. use: takes that folder, and returns what must not change.
        is_checked: False if other content is another valid artefact.
    """

    name: str
    make: Callable[[Path], object]
    use: Callable[[Path], object]
    is_checked: bool = True


# the artefacts


def images() -> Any:
    return sample_images(COUNT)


def make_model(folder: Path) -> None:
    recipe = small_recipe(epochs=1, batch_size=8)
    train(images(), recipe, folder / "m")
    shutil.rmtree(folder / "m" / "checkpoints")


def use_model(folder: Path) -> object:
    from spq.cli.info_command import _text, facts_of

    model = Model.load(folder / "m")
    pictures = [images().image(position) for position in range(4)]
    codes = model.encode(pictures).tolist()
    _text(facts_of(folder / "m"))
    model.save(folder / "again")
    return codes


def make_checkpoint(folder: Path) -> None:
    def stop(epoch: int, network: object) -> None:
        if epoch == 2:
            raise StopError

    recipe = small_recipe(checkpoint_minutes=0.0, batch_size=COUNT // 4, epochs=3)
    with suppress(StopError):
        train(images(), recipe, folder / "m", measure=False, on_epoch=stop)
    assert (folder / "m" / "checkpoints" / "last.pt").exists()


def use_checkpoint(folder: Path) -> object:
    return train(images(), small_recipe(), folder / "m", measure=False, resume=True).hash


def extractor(views: int) -> FeatureExtractor:
    torch.manual_seed(0)
    return FeatureExtractor(replace(FROZEN, train=replace(FROZEN.train, cached_views=views)), Patches())


def use_views(folder: Path) -> object:
    found = cached_features(images(), extractor(2), 96, folder=folder / "c")
    return digest(found.array), found.kept.tolist(), found.failures


def use_features(folder: Path) -> object:
    found = cached_features(images(), extractor(0), 96, folder=folder / "c")
    store, source = FeatureStore(found.fingerprint, folder / "c"), images()
    from spq.model.feature_store import hash_of

    known = [store.get(hash_of(source.read(position))) for position in range(COUNT)]
    sizes = {(each.width, each.height) for each in known if each}
    return digest(found.array), found.kept.tolist(), found.failures, sorted(sizes - {(28, 28)})


def use_weights(folder: Path) -> object:
    recipe = small_recipe()
    recipe = replace(recipe, backbone=replace(recipe.backbone, weights=str(folder / "w" / "w.safetensors")))
    return digest(np.concatenate([p.detach().numpy().ravel() for p in Network(recipe).backbone.parameters()]))


def make_weights(folder: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    (folder / "w").mkdir()
    save_file(Network(small_recipe()).backbone.state_dict(), folder / "w" / "w.safetensors")


def make_recipe(folder: Path) -> None:
    (folder / "r").mkdir()
    for name in ("spq", "fast"):
        lines = []
        for section, table in to_dict(load_recipe(name)).items():
            if isinstance(table, dict):
                lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        (folder / "r" / f"{name}.toml").write_text("\n".join(lines) + "\n")


def use_recipe(folder: Path) -> object:
    for file in sorted((folder / "r").iterdir()):
        recipe = load_recipe(file)
        if recipe.backbone.name == "resnet" and not recipe.backbone.weights:
            Network(recipe)
    return None


ARTEFACTS = [
    Artefact("model", make_model, use_model),
    Artefact("checkpoint", make_checkpoint, use_checkpoint),
    Artefact("cached views", use_views, use_views),
    Artefact("cached features", use_features, use_features),
    Artefact("weights file", make_weights, use_weights, is_checked=False),
    Artefact("recipe", make_recipe, use_recipe, is_checked=False),
]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# the mutations: each changes one file


def flip_bits(rng: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        data[_place(rng, len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def cut(rng: random.Random, file: Path) -> None:
    os.truncate(file, rng.choice((0, _place(rng, file.stat().st_size))))


def zero(rng: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    start, length = _place(rng, len(data)), rng.choice((1, 4, 64, 512, 4096, len(data)))
    data[start : start + length] = bytes(len(data[start : start + length]))
    file.write_bytes(data)


def swap(rng: random.Random, file: Path) -> None:
    data, length = bytearray(file.read_bytes()), rng.choice((1, 4, 64, 512))
    a, b = (rng.randrange(max(1, len(data) - length)) for _ in range(2))
    data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]
    file.write_bytes(data)


def insert(rng: random.Random, file: Path) -> None:
    data = file.read_bytes()
    start = _place(rng, len(data))
    file.write_bytes(data[:start] + rng.randbytes(rng.choice((1, 8, 4096))) + data[start:])


def link(rng: random.Random, file: Path) -> None:
    """Put something else in the place of the file: a link, a folder, a pipe, a device or another file."""
    others = [path for path in file.parent.rglob("*") if path != file and path.is_file()] or [Path("/etc/hostname")]
    content = rng.choice(others).read_bytes()
    file.unlink()
    kind = rng.choice(("dangling", "itself", "device", "endless", "folder", "pipe", "other", "none"))
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "other":
        file.write_bytes(content)
    elif kind != "none":
        targets = {"dangling": "nowhere", "itself": file.name, "device": "/dev/null", "endless": "/dev/zero"}
        file.symlink_to(targets[kind])


def change_content(rng: random.Random, file: Path) -> None:
    """Write a wrong value into the structure of a file: JSON, TOML, a table of tensors, a checkpoint or a database."""
    data = file.read_bytes()
    if file.suffix == ".pt":
        content = torch.load(io.BytesIO(data), weights_only=True)
        _spoil(rng, content)
        torch.save(content, file)
    elif file.suffix == ".sqlite":
        _spoil_table(rng, file)
    elif file.suffix == ".safetensors":
        size = int.from_bytes(data[:8], "little")
        header = _spoiled_json(rng, data[8 : 8 + size].decode()).encode("utf-8", "replace")
        file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    elif file.suffix == ".json":
        file.write_bytes(_spoiled_json(rng, data.decode()).encode("utf-8", "replace"))
    else:
        file.write_bytes(_spoiled_text(rng, data))


MUTATIONS = [flip_bits, flip_bits, cut, zero, swap, insert, link, change_content, change_content]


def _place(rng: random.Random, size: int) -> int:
    """A position in a file: anywhere, or near its start or end, where its structure is."""
    near = rng.randrange(max(1, min(size, 512)))
    return rng.choice((rng.randrange(max(1, size)), rng.randrange(max(1, size)), near, max(0, size - 1 - near)))


def _spoiled_json(rng: random.Random, text: str) -> str:
    kind = rng.randrange(8)
    if kind == 0:
        return "[" * 100_000 + "]" * 100_000
    if kind == 1:
        return '{"a":' * 100_000 + "1" + "}" * 100_000
    content = json.loads(text)
    if kind == 2 and isinstance(content, dict):  # a key twice
        return text.rstrip()[:-1] + f", {json.dumps(rng.choice(list(content)))}: {rng.choice(('0', '[]', '1e999'))}}}"
    _spoil(rng, content)
    try:
        return json.dumps(content)
    except (RecursionError, ValueError):  # too deep, a circle, or a number of too many digits
        return text.replace(":", ": 1" + "0" * 5000, 1)


def _spoil(rng: random.Random, content: Any) -> None:
    """Replace, delete or move one value somewhere in nested tables and lists."""
    places = [place for place in _places(content) if place[0] is not None]
    table, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0 and isinstance(table, dict):
        del table[key]
    elif kind == 1 and isinstance(table[key], torch.Tensor):
        table[key] = _spoiled_tensor(rng, table[key])
    elif kind == 2:
        other, other_key = rng.choice(places)
        table[key], other[other_key] = other[other_key], table[key]
    elif kind == 3 and isinstance(table[key], int | float):
        table[key] = table[key] * rng.choice((-1, 2, 1000, 2**40))
    elif kind == 4:
        deep: Any = 1
        for _ in range(rng.choice((10, 300))):
            deep = [deep]
        table[key] = deep
    else:
        table[key] = rng.choice(VALUES)


def _spoiled_tensor(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    wrong = torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor - 7
    return rng.choice((wrong, tensor + 1, tensor * 0, tensor.to(torch.int8), tensor.reshape(-1)[:1]))


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from _places(value)


def _spoil_table(rng: random.Random, file: Path) -> None:
    value = rng.choice([None, 0, -1, 1e308, 2**62, "text", b"", bytes(7), bytes(384), rng.randbytes(384)])
    column = rng.choice(("hash", "width", "height", "feature", "checksum"))
    with closing(sqlite3.connect(file)) as database, database:
        rows = [row for (row,) in database.execute("SELECT rowid FROM features")]
        if rng.random() < 0.2:
            database.execute(f"ALTER TABLE features RENAME COLUMN {column} TO other")
        elif rng.random() < 0.3:  # the row of another picture
            other = "SELECT feature, width, height, checksum FROM features WHERE rowid = ?"
            database.execute(
                f"UPDATE features SET (feature, width, height, checksum) = ({other}) WHERE rowid = ?",
                rng.sample(rows, 2),
            )
        else:
            database.execute(f"UPDATE OR REPLACE features SET {column} = ? WHERE rowid = ?", (value, rng.choice(rows)))


def _spoiled_text(rng: random.Random, data: bytes) -> bytes:
    """TOML with a wrong value; of another file, a wrong beginning."""
    if b"=" not in data[:4096]:
        return rng.randbytes(128) + data[128:]
    lines = data.decode().splitlines()
    row = rng.choice([n for n, line in enumerate(lines) if "=" in line])
    lines[row] = f"{lines[row].partition('=')[0]}= {rng.choice(TOML_VALUES)}"
    return "\n".join(lines).encode()


# the processes


def in_process(work: Callable[[], object], seconds: int = SECONDS, most: int = BYTES) -> tuple[str, str, int]:
    """Run in a fork; return how it ended, its answer or its error, and how many bytes of memory it took at most."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _answer(work, writer, seconds, most)
    os.close(writer)
    end, parts = time.monotonic() + PATIENCE * seconds, []
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0, end - time.monotonic()))[0]:
            if not (part := pipe.read(65536)):
                break
            parts.append(part)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", f"longer than {seconds} s", 0
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return "hang", f"longer than {seconds} s of a processor", 0
    if status:
        return "killed", f"status {status}", 0
    found: tuple[str, str, int] = pickle.loads(b"".join(parts))
    return found


def _answer(work: Callable[[], object], writer: int, seconds: int, most: int) -> None:
    """Run the work, write what came of it, and end this process."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_AS, (used + most, used + most))
        try:
            found = "answer", repr(work())
        except SPQError as error:
            text = str(error)
            found = ("refused", text) if len(text.splitlines()) == 1 else ("several lines", text)
        except BaseException:
            found = "traceback", traceback.format_exc()
        more = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump((*found, more), pipe)
    finally:
        os._exit(0)


def attempt(artefact: Artefact, whole: Path, expected: str, seed: str) -> tuple[str, str, int]:
    """Damage a copy of an artefact and use it; return how that ended, what was done, and the bytes of memory."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="spq-faults-") as name:
        folder = Path(name) / "a"
        shutil.copytree(whole, folder)
        files = sorted(
            path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".lock", ".jsonl", ".md")
        )
        file, mutate = rng.choice(files), rng.choice(MUTATIONS)
        with suppress(UnicodeDecodeError, pickle.UnpicklingError):
            mutate(rng, file)
        how, text, memory = in_process(lambda: artefact.use(folder))
    if how == "answer":
        how = "same" if text == expected or not artefact.is_checked else "wrong"
    if memory > BYTES:
        how = "memory"
    return how, f"{mutate.__name__} {file.name}: {text}", memory


def undamaged(artefact: Artefact, whole: Path) -> str:
    """Use an artefact as it is; return the answer, and import here what that needed, so that no fork has to do it again."""

    def use() -> object:
        return artefact.use(Path(shutil.copytree(whole, f"{whole}-copy"))), sorted(sys.modules)

    how, text, _ = in_process(use, 60, 10 * BYTES)
    assert how == "answer", text
    answer, modules = ast.literal_eval(text)
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
    return repr(answer)


def drill(count: int, seed: int, names: list[str], show: Callable[[str], object] = print) -> Counter[str]:
    """Damage artefacts `count` times; return how often each end came."""
    ends: Counter[str] = Counter()
    chosen = [artefact for artefact in ARTEFACTS if artefact.name in names]
    with tempfile.TemporaryDirectory(prefix="spq-faults-") as name:
        for number, artefact in enumerate(chosen):
            whole = Path(name) / str(number)
            whole.mkdir()
            how, text, _ = in_process(lambda: artefact.make(whole), 300, 10 * BYTES)  # noqa: B023
            assert how == "answer", text
            expected = undamaged(artefact, whole)
            own: Counter[str] = Counter()
            peak, longest, most = 0, 0.0, count // len(chosen) + (number < count % len(chosen))
            for attempt_number in range(most):
                began = time.monotonic()
                how, text, memory = attempt(artefact, whole, expected, f"{seed} {artefact.name} {attempt_number}")
                own[how] += 1
                peak, longest = max(peak, memory), max(longest, time.monotonic() - began)
                if how not in GOOD:
                    show(f"{artefact.name} {attempt_number}: {how}: {text[-700:]}")
            ends += own
            show(f"{artefact.name}: {dict(own)}, up to {peak / 1e6:.0f} MB and {longest:.1f} s")
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[artefact.name for artefact in ARTEFACTS], action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    ends = drill(options.count, options.seed, options.only or [artefact.name for artefact in ARTEFACTS])
    bad = sum(number for how, number in ends.items() if how not in GOOD)
    print(f"{ends.total()} mutations in {time.monotonic() - began:.0f} s: {dict(ends)}; {bad} bad")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
