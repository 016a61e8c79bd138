from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spq import ImageIndex
from spq.common.parallel import AHEAD
from spq.data.image_set import ImageSet, Subset
from spq.data.open import open_images
from spq.index import encode
from spq.index.build import build
from spq.index.encode import Encoder
from spq.index.store import Item, Store
from spq.model import device
from spq.model.model import Model


def alone(_: bytes) -> None:
    """No picture has a twin."""


def items_of(images: ImageSet, model: Model, positions: list[int], workers: int = 2) -> list[Item]:
    return [item for item, _ in Encoder(images, model, alone, workers).encode(positions)]


def facts(item: Item) -> tuple[object, ...]:
    return item.hash, item.size, item.width, item.height, item.reason, None if item.code is None else item.code.tolist()


class Watched(Subset):
    """Counts what is done with each picture; `on_read` may interfere."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images, np.arange(len(images)))
        self.reads: Counter[int] = Counter()
        self.decodes: Counter[int] = Counter()
        self.lock = threading.Lock()

    def read(self, position: int) -> bytes:
        with self.lock:
            self.reads[position] += 1
        return super().read(position)

    def decode(self, position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        with self.lock:
            self.decodes[position] += 1
        return super().decode(position, data, size_hint)


@pytest.mark.parametrize("workers", [1, 3])
def test_codes_equal_those_of_the_model(photos: Path, tiny_model: Model, workers: int) -> None:
    images = open_images(photos)
    items = items_of(images, tiny_model, list(range(60)), workers)
    assert [item.path for item in items] == images.ids
    expected = tiny_model.encode([images.path(p) for p in range(60)])
    np.testing.assert_array_equal(np.stack([item.code for item in items]), expected)
    assert {(item.width, item.height) for item in items} == {(56, 56)}
    assert all((item.size, item.mtime_ns) == images.stat(p) for p, item in enumerate(items))


def frozen(model: Model) -> Model:
    """The model as if training had not changed its backbone."""
    return Model(model.network, replace(model.config, train=replace(model.config.train, frozen=True)))


def test_known_features_of_a_frozen_backbone_give_the_same_codes_without_decoding(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    model, images = frozen(tiny_model), open_images(photos)
    expected = items_of(images, tiny_model, list(range(60)))
    first = items_of(images, model, list(range(20)))
    watched = Watched(images)
    again = items_of(watched, model, list(range(60)))
    assert set(watched.decodes) == set(range(20, 60))
    assert [facts(item) for item in again] == [facts(item) for item in expected]
    assert [facts(item) for item in first] == [facts(item) for item in expected[:20]]
    changed = replace(tiny_model.config.quantizer, num_codebooks=4, prefixes=())
    shorter = Model(tiny_model.network.truncated(changed), replace(model.config, quantizer=changed))
    watched = Watched(images)
    codes = [item.code for item in items_of(watched, shorter, list(range(60)))]
    assert not watched.decodes
    np.testing.assert_array_equal(np.stack(codes), np.stack([item.code[:4] for item in expected]))


def test_features_of_a_trained_backbone_are_not_kept(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    items_of(open_images(photos), tiny_model, [0, 1])
    assert not (tmp_path / "cache").exists()


def test_an_item_depends_on_neither_order_nor_batch_nor_workers(photos: Path, tiny_model: Model) -> None:
    (photos / "bag" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    images = open_images(photos)
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    straight = items_of(images, tiny_model, list(range(len(images))), workers=1)
    mixed = items_of(images, tiny_model, order, workers=4)
    assert [facts(item) for item in mixed] == [facts(straight[p]) for p in order]


def test_broken_pictures_have_a_reason_and_vanished_ones_are_to_be_retried(photos: Path, tiny_model: Model) -> None:
    for name, data in (("empty.png", b""), ("half.jpg", next(photos.rglob("*.jpg")).read_bytes()[:200])):
        (photos / name).write_bytes(data)
    (photos / "gone.png").write_bytes(b"?")
    images = open_images(photos)
    (photos / "gone.png").unlink()
    items = items_of(images, tiny_model, list(range(63)))
    failed = {item.path: item for item in items if item.code is None}
    assert sorted(failed) == ["empty.png", "gone.png", "half.jpg"]
    assert failed["empty.png"].reason == "cannot read empty.png: the file is empty"
    assert "truncated" in failed["half.jpg"].reason.lower()
    assert "No such file" in failed["gone.png"].reason
    assert [failed[name].size for name in ("empty.png", "half.jpg", "gone.png")] == [0, 200, -1]


def test_a_picture_is_read_once_and_one_with_a_twin_is_not_decoded(photos: Path, tiny_model: Model) -> None:
    images = Watched(open_images(photos))
    items = items_of(images, tiny_model, list(range(60)))
    assert set(images.reads.values()) == {1}
    assert set(images.decodes.values()) == {1}
    twins = {item.hash: replace(item, path="old", id=7) for item in items[::2]}
    images = Watched(open_images(photos))
    seen = list(Encoder(images, tiny_model, twins.get, 2).encode(range(60)))
    assert sorted(images.decodes) == list(range(1, 60, 2))
    assert [facts(item) for item, _ in seen] == [facts(item) for item in items]
    assert [twin and twin.id for _, twin in seen] == [7, None] * 30


def test_equal_files_of_one_sync_have_one_code(
    photos: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two batches, rounding might give them two, and an index would say that equal bytes are different pictures."""
    for number in range(40):
        (photos / "bag" / f"z{number:02d}.png").write_bytes(min(photos.rglob("*.png")).read_bytes())
    images, rng = open_images(photos), np.random.default_rng(0)
    monkeypatch.setattr(
        tiny_model, "encode", lambda pixels, **_: rng.integers(0, 16, (len(pixels), 8)).astype(np.uint8)
    )
    codes: dict[bytes, set[bytes]] = {}
    for item in items_of(images, tiny_model, list(range(len(images)))):
        assert item.code is not None
        codes.setdefault(item.hash, set()).add(item.code.tobytes())
    assert len(codes) == 60
    assert all(len(of_one) == 1 for of_one in codes.values())


def test_a_file_that_changes_while_it_is_read_is_to_be_retried(photos: Path, tiny_model: Model) -> None:
    images = open_images(photos)
    target, original = 5, images.decode

    def decode_and_touch(position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        if position == target:
            images.path(position).write_bytes(data + b"more")
        return original(position, data, size_hint)

    images.decode = decode_and_touch
    items = items_of(images, tiny_model, list(range(10)))
    assert [p for p, item in enumerate(items) if item.size == -1] == [target]
    assert (items[target].hash, items[target].mtime_ns) == (b"", -1)
    assert all(item.code is not None for item in items)


def test_the_workers_stay_a_few_batches_ahead_of_a_slow_consumer(tiny_model: Model) -> None:
    images, workers, furthest = Watched(open_images("sample:train")), 2, 0
    count = 20 * workers * tiny_model.batch_size
    with closing(Encoder(images, tiny_model, alone, workers).encode(range(count))) as encoded:
        for taken, _ in enumerate(encoded):
            if taken % tiny_model.batch_size == 0:
                time.sleep(0.02)
                furthest = max(furthest, len(images.reads) - taken)
    assert len(images.reads) == count
    assert tiny_model.batch_size < furthest <= (AHEAD * workers + 1) * tiny_model.batch_size


def test_closing_the_iterator_stops_the_workers(tiny_model: Model) -> None:
    images, threads = Watched(open_images("sample:train")), torch.get_num_threads()
    with closing(Encoder(images, tiny_model, alone, 2).encode(range(5000))) as encoded:
        next(encoded)
    assert len(images.reads) < 1000
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("spq-worker")]
    assert torch.get_num_threads() == threads


def test_an_error_in_a_worker_reaches_the_consumer(tiny_model: Model) -> None:
    images = open_images("sample:train")

    def fail(position: int) -> bytes:
        raise RuntimeError(f"picture {position}")

    images.read = fail
    with pytest.raises(RuntimeError, match="picture 0"):
        items_of(images, tiny_model, list(range(200)))


def test_bf16_is_used_if_it_gives_the_same_codes_and_else_a_note_says_why_not(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, positions = open_images("sample:train"), range(100)
    pictures = [images.image(p) for p in positions]
    monkeypatch.setattr(encode, "CHECKED", 10)
    assert Encoder(images, tiny_model, alone)._checks_bf16(80) == (device.resolve_precision("auto", "cpu") == "bf16")
    monkeypatch.setattr(device, "resolve_precision", lambda *_: "bf16")
    monkeypatch.setattr(encode, "AGREEMENT", 0.5)
    encoder = Encoder(images, tiny_model, alone, 2)
    codes = np.stack([item.code for item, _ in encoder.encode(positions)])
    assert (encoder.precision, encoder.note) == ("bf16", "")
    np.testing.assert_array_equal(codes[:10], tiny_model.encode(pictures[:10]))
    half = tiny_model.encode(pictures[10:], precision="bf16")
    np.testing.assert_array_equal(codes[10:], half)
    full = tiny_model.encode(pictures)
    assert 0.9 < np.mean(half == full[10:]) < 1  # so bf16 was really computed with
    monkeypatch.setattr(encode, "AGREEMENT", 1.1)
    encoder = Encoder(images, tiny_model, alone, 2)
    np.testing.assert_array_equal(np.stack([item.code for item, _ in encoder.encode(positions)]), full)
    assert encoder.precision == "fp32"
    assert encoder.note.startswith("encoded in fp32: bf16 gives only")


def test_few_pictures_are_not_encoded_twice_to_find_out_about_bf16(
    photos: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "resolve_precision", lambda *_: "bf16")
    encoder = Encoder(open_images(photos), tiny_model, alone)
    assert len(list(encoder.encode(range(60)))) == 60
    assert (encoder.precision, encoder.note) == ("fp32", "")


STOPPED = """if True:
    import os, signal, sys
    from spq.cli import main as cli
    from spq.data.folder import FolderImages
    from spq.index import build, encode, sync
    from spq.model.model import Model
    folder, model, photos, number = sys.argv[1:]
    read, seen = FolderImages.read, []

    def read_then_stop(images, position):
        seen.append(position)
        if len(seen) == 45:
            os.kill(os.getpid(), int(number))
        return read(images, position)

    def report(store, copy, source, progress, keep_missing):
        return sync.sync(store, copy, source, lambda done, total, unreadable: print(done, flush=True), keep_missing)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts without it
    FolderImages.read, build.sync = read_then_stop, report
    sync.BATCH, Model.batch_size, encode.default_workers = 8, 4, lambda model: 2
    sys.exit(cli.run(["index", photos, "--model", model, "--out", folder, "--device", "cpu"]))
    """


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_ctrl_c_and_a_kill_in_the_middle_keep_what_was_reported(
    photos: Path, tiny_model: Model, tmp_path: Path, number: int, status: int
) -> None:
    tiny_model.save(tmp_path / "m")
    arguments = [str(tmp_path / "i"), str(tmp_path / "m"), str(photos), str(int(number))]
    stopped = subprocess.run([sys.executable, "-c", STOPPED, *arguments], capture_output=True, text=True, timeout=120)
    assert stopped.returncode == status, stopped.stderr
    reported = int(stopped.stdout.split()[-1])
    if number == signal.SIGINT:
        assert stopped.stderr.startswith("spq: stopped; encoded pictures are kept, go on with: spq index ")
    with Store.open(tmp_path / "i") as store:
        assert 0 < reported <= len(store) < 60
        kept = len(store)
    store, _, report = build(tmp_path / "i", tiny_model, photos)
    with store:
        assert (report.unchanged, report.added) == (kept, 60 - kept)
        with ImageIndex.build(tmp_path / "fresh", tiny_model, photos) as fresh:
            np.testing.assert_array_equal(store.codes()[1], fresh.store.codes()[1])
