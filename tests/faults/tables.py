"""Damage Parquet, tar, CSV and JSON lines, and make bombs of them: one line says what is not used, or why not.

    python tests/faults/tables.py --count 2000 --seed 1

A fault is: a crash, an error that is no SPQError or has several lines, more than 10 s of processor time, more than 1 GB, and
a tar with a damaged header that has fewer pictures than before without a remark.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from measured import Outcome, refused, run, summary
from pictures import mutated

from spq.data.open import open_images
from spq.errors import SPQError

MIB = 2**20
DEEP = 100_000


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(buffer, "JPEG")
    return buffer.getvalue()


def tar(members: dict[str, bytes], **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_of(change: Callable[[tarfile.TarInfo], None], content: bytes = b"x" * 10, count: int = 1) -> bytes:
    """A tar with a changed header, before a picture."""
    buffer = io.BytesIO()
    for number in range(count):
        info = tarfile.TarInfo(f"{number}.bin")
        info.size = len(content)
        change(info)
        buffer.write(info.tobuf(tarfile.GNU_FORMAT))
        buffer.write(content.ljust(-(-len(content) // 512) * 512, b"\0"))
    return buffer.getvalue() + tar({"0.jpg": jpeg(9), "1.jpg": jpeg(1)})


def headers(data: bytes) -> list[int]:
    """Return where the blocks of a tar are that have a checksum: the headers of its members, and those before them."""
    found = []
    for at in range(0, len(data), tarfile.BLOCKSIZE):
        try:
            tarfile.TarInfo.frombuf(data[at : at + tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            continue
        found.append(at)
    return found


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {  # of a header
    "a bit flipped": lambda block, rng: _flipped(block, rng.randrange(155)),
    "zeros": lambda block, rng: bytes(len(block)),
    "zeros from the middle on": lambda block, rng: block[:100] + bytes(len(block) - 100),
    "random bytes": lambda block, rng: rng.randbytes(len(block)),
    "text": lambda block, rng: b"x" * len(block),
    "a byte missing": lambda block, rng: block[1:],
    "a byte more": lambda block, rng: b"\0" + block,
    "a block missing": lambda block, rng: b"",
    "zeros before it": lambda block, rng: bytes(len(block)) + block,
    "an end before it": lambda block, rng: bytes(10_240) + block,
}


def _flipped(block: bytes, at: int) -> bytes:
    return block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :]


def with_damage(data: bytes, at: int, what: str, rng: random.Random) -> bytes:
    """Return a tar with one damaged header."""
    end = at + tarfile.BLOCKSIZE
    return data[:at] + DAMAGE[what](data[at:end], rng) + data[end:]


def _long_name(info: tarfile.TarInfo) -> None:
    info.type = tarfile.GNUTYPE_LONGNAME


def _pax(info: tarfile.TarInfo) -> None:
    info.type = tarfile.XHDTYPE


def _negative(info: tarfile.TarInfo) -> None:
    info.size = -1024


def _huge(info: tarfile.TarInfo) -> None:
    info.size = 2**62


def parquet(table: dict[str, object], **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer, **options)
    return buffer.getvalue()


def wrong_footer(data: bytes, old: int, new: int) -> bytes:
    """Change a number of the footer, as Thrift writes it, everywhere."""

    def packed(value: int) -> bytes:
        value, out = value << 1, bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8].replace(packed(old), packed(new))
    return data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def dictionary(value: bytes, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))


def deep_type(depth: int) -> pa.DataType:
    kind = pa.int64()
    for _ in range(depth):
        kind = pa.struct({"a": kind})
    return kind


def seeds() -> dict[str, bytes]:
    """A valid file of each kind, by its name."""
    rows = [{"bytes": jpeg(n), "path": f"{n}.jpg"} for n in range(6)]
    facts = {
        "label": [n % 3 for n in range(6)],
        "text": ["a", None, "c", "d", "e", "f"],
        "tags": [["x"], ["y", "z"], [], ["x"], ["y"], []],
    }
    return {
        "a.parquet": parquet({"image": rows, **facts}, row_group_size=4),
        "b.parquet": parquet({"image": [jpeg(n) for n in range(6)], **facts}, compression="zstd", use_dictionary=False),
        "a.tar": tar({f"{n}.{end}": data for n in range(4) for end, data in
                      (("jpg", jpeg(n)), ("cls", b"%d" % (n % 2)), ("json", b'{"label": "x"}'))}),
        "b.tar": tar({f"{'long/' * 40}{n}.jpg": jpeg(n) for n in range(3)}, format=tarfile.PAX_FORMAT),
        "c.tar": tar({f"{'long/' * 40}{n}.jpg": jpeg(n) for n in range(3)}, format=tarfile.GNU_FORMAT),
        "metadata.csv": b"file_name,label,text,n\n0.jpg,a,\"x, y\",1\n1.jpg,b,\"two\nlines\",2\n2.jpg,a,z,3\n",
        "metadata.jsonl": b"".join(
            b'{"file_name": "%d.jpg", "labels": ["a", "b"], "box": {"x": [1, %d]}}\n' % (n, n) for n in range(4)
        ),
        "metadata.parquet": parquet({"file_name": [f"{n}.jpg" for n in range(4)], "n": [1, 2, 3, 4], "label": [*"abab"]}),
    }  # fmt: skip


def bombs() -> dict[str, Callable[[], bytes]]:
    """Return what makes files that would take all memory or never end. The name of the file follows the space."""
    many = {"image": [jpeg(1)] * 1009}
    plain = {"image": [jpeg(n) for n in range(10)]}
    long_row = b'{"file_name": "0.jpg", "a": '
    return {
        "dictionary a.parquet": lambda: parquet({"image": dictionary(bytes(100 * MIB), 50)}, compression="zstd"),
        "page a.parquet": lambda: parquet({"image": [bytes(300 * MIB)]}, compression="zstd", use_dictionary=False),
        "rows a.parquet": lambda: wrong_footer(parquet(many), 1009, 2**40),
        "more_rows a.parquet": lambda: wrong_footer(parquet(many), 1009, 9009),
        "text a.parquet": lambda: parquet({**plain, "text": ["x" * 50 * MIB] * 10}, compression="zstd"),
        "path a.parquet": lambda: parquet({"image": [{"bytes": jpeg(1), "path": "x" * 20 * MIB}] * 20}, compression="zstd"),
        "labels a.parquet": lambda: parquet(
            {"image": [jpeg(1)] * 4000, "label": [[f"{n}-{m}" for m in range(100)] for n in range(4000)]}
        ),
        "deep a.parquet": lambda: parquet({**plain, "x": pa.array([None] * 10, deep_type(200))}),
        "note a.parquet": lambda: _noted(plain, b"[" * DEEP),
        "dates a.parquet": lambda: parquet({**plain, "when": pa.array([2**60] * 10, pa.timestamp("ms"))}),
        "names a.tar": lambda: tar_of(_long_name, b"x" * 3 * MIB),
        "chain a.tar": lambda: tar_of(_long_name, b"x", 5000),
        "pax a.tar": lambda: tar_of(_pax, b"30 comment=xxxxxxxxxxxxxxxxxx\n" * 100_000),
        "pax_size a.tar": lambda: tar_of(_pax, b"17 size=-1000000\n"),
        "negative a.tar": lambda: tar_of(_negative),
        "huge a.tar": lambda: tar_of(_huge),
        "members a.tar": lambda: tar({f"{n}.txt": b"" for n in range(20_000)} | {"0.jpg": jpeg(1)}),
        "json a.tar": lambda: tar(
            {"0.jpg": jpeg(1), "0.json": b"[" * DEEP, "1.jpg": jpeg(2), "1.json": b'{"label": ' + b"9" * 9000 + b"}"}
        ),
        "cls a.tar": lambda: tar({"0.jpg": jpeg(1), "0.cls": b"9" * 9000, "1.jpg": jpeg(2), "1.cls": b"x" * 5 * MIB}),
        "line metadata.csv": lambda: b"file_name,a\n0.jpg," + b"x" * 60 * MIB + b"\n1.jpg,y\n",
        "quote metadata.csv": lambda: b'file_name,a\n0.jpg,"' + b"x\n" * (MIB // 4),
        "quotes metadata.csv": lambda: b"file_name,a\n" + b'0.jpg,"x\n' * 200_000,
        "columns metadata.csv": lambda: b"file_name," + b"a," * 5_000_000 + b"\n0.jpg,1\n",
        "cells metadata.csv": lambda: b"file_name,a\n0.jpg," + b"," * 20_000_000 + b"\n1.jpg,y\n",
        "zeros metadata.csv": lambda: b"file_name,a\n0.jpg," + b"\0" * MIB + b"\n",
        "label metadata.csv": lambda: b"file_name,label\n0.jpg," + b"x" * MIB + b"\n1.jpg,y\n2.jpg,z\n",
        "deep metadata.jsonl": lambda: long_row + b"[" * DEEP + b"]" * DEEP + b"}\n" + b'{"file_name": "1.jpg", "a": 1}\n',
        "deepish metadata.jsonl": lambda: b"".join(long_row + b"[" * n + b"]" * n + b"}\n" for n in range(100, 1100, 25)),
        "integer metadata.jsonl": lambda: long_row + b"9" * 10_000 + b"}\n" + b'{"file_name": "1.jpg", "a": 1e999}\n',
        "keys metadata.jsonl": lambda: b"".join(
            json.dumps({"file_name": "0.jpg"} | {f"k{n}-{m}": 1 for m in range(200)}).encode() + b"\n" for n in range(2000)
        ),
        "types metadata.jsonl": lambda: (
            b'[1]\n3\n"x"\nnull\n{"file_name": 3}\n{"file_name": ["0.jpg"]}\n{"file_name": "0.jpg", "label": {"a": NaN}}\n'
        ),
    }  # fmt: skip


def _noted(table: dict[str, object], note: bytes) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table).replace_schema_metadata({b"huggingface": note}), buffer)
    return buffer.getvalue()


def answer(name: str, data: bytes) -> str:
    """Open a collection, and read all of it; return how many pictures it has, or the reason why not.

    Raises:
        AssertionError: a reason has several lines.
    """
    folder = Path(tempfile.mkdtemp(prefix="spq-tables-"))
    try:
        file = folder / name
        file.write_bytes(data)
        if name.startswith("metadata"):
            for number in range(4):
                (folder / f"{number}.jpg").write_bytes(jpeg(number))
        images = open_images(folder if name.startswith("metadata") else file)
        columns = [column for facts in images.metadata.values() for column in facts]
        assert len(columns) == len(images) * len(images.metadata)
        assert all("\n" not in remark for _, remark in images.remarks)
        failed = sum(
            _fails(lambda p=position: (images.stat(p), images.image(p, 8))) for position in range(len(images))[:20]
        )
        return f"{len(images)} pictures, {failed} failed, {len(images.remarks)} remarks"
    except SPQError as error:
        return refused(error)
    finally:
        shutil.rmtree(folder)


def _fails(read: Callable[[], object]) -> bool:
    try:
        read()
    except SPQError as error:
        return bool(refused(error))
    return False


def check(count: int, seed: int, workers: int) -> list[tuple[str, Outcome]]:
    """Open mutations of all kinds, and return the outcome of each."""
    base = list(seeds().items())

    def work(number: int) -> str:
        name, data = base[number % len(base)]
        return answer(name, mutated(data, random.Random(f"{seed} {number}")))

    outcomes = sorted(run(work, range(count), workers), key=lambda outcome: outcome.number)
    return [(f"{outcome.number} {base[outcome.number % len(base)][0]}", outcome) for outcome in outcomes]


def check_headers(seed: int, workers: int) -> list[tuple[str, Outcome]]:
    """Open tars, each with one damaged header: they are refused, or have a remark or all of their pictures."""
    cases = [
        (name, data, at, what)
        for name, data in seeds().items()
        if name.endswith(".tar")
        for at in headers(data)
        for what in DAMAGE
    ]
    whole = {name: answer(name, data) for name, data in seeds().items()}

    def work(number: int) -> str:
        name, data, at, what = cases[number]
        found = answer(name, with_damage(data, at, what, random.Random(f"{seed} {number}")))
        assert found.startswith("refused: ") or found == whole[name] or not found.endswith(" 0 remarks"), found
        return found

    outcomes = sorted(run(work, range(len(cases)), workers), key=lambda outcome: outcome.number)
    return [("{0} {2} {3}".format(*cases[outcome.number]), outcome) for outcome in outcomes]


def check_bombs(names: Sequence[str] = ()) -> list[tuple[str, Outcome]]:
    """Open bombs, each in a process of its own. Another process makes it, so that only opening it counts."""
    made, outcomes = bombs(), []
    with tempfile.TemporaryDirectory(prefix="spq-bombs-") as folder:
        file = Path(folder) / "bomb"
        for name in names or made:

            def make(_: int, name: str = name) -> str:
                return str(file.write_bytes(made[name]()))

            def work(_: int, name: str = name) -> str:
                return answer(name.split()[1], file.read_bytes())

            list(run(make, [0], 1))
            outcomes += [(name, outcome) for outcome in run(work, [0], 1)]
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="mutations; the bombs come after them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    found = check(given.count, given.seed, given.workers)
    damaged = check_headers(given.seed, given.workers)
    faulty = [(name, outcome) for name, outcome in (*found, *damaged) if outcome.fault]
    for name, outcome in (*faulty, *(blown := check_bombs())):
        fault = f" {outcome.fault.upper()}" if outcome.fault else ""
        print(f"{name}:{fault} {outcome.answer[:110]} ({outcome.seconds:.1f} s, {outcome.peak >> 20} MiB)")
    print(summary([outcome for _, outcome in found], "mutations"))
    print(summary([outcome for _, outcome in damaged], "tars with a damaged header"))
    print(summary([outcome for _, outcome in blown], "bombs"))
    return min(1, sum(bool(outcome.fault) for _, outcome in (*found, *damaged, *blown)))


if __name__ == "__main__":
    raise SystemExit(main())
