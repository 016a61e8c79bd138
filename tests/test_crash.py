"""Processes that are killed at random, and processes that read and write at once. How long: SPQ_KILLS and SPQ_SECONDS."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from spq import ImageIndex
from spq.data.open import open_images
from spq.index.build import build
from spq.index.format import has_index
from spq.index.store import Store
from spq.index.verify import faults
from spq.model.model import Model

KILLS = int(os.environ.get("SPQ_KILLS", "5"))
SECONDS = float(os.environ.get("SPQ_SECONDS", "5"))

# Loads the libraries once. For each line on stdin, [seconds, arguments], it forks a process that runs the command, kills it after
# these seconds, and prints [status, seconds, what was put].
INDEX = """if True:
    import json, os, signal, sys, threading, time
    import spq.api
    from spq.cli import main as cli
    from spq.index import sync
    from spq.index.store import Store
    sync.BATCH, put = 4, Store.put
    def put_and_tell(self, items):
        items = list(items)
        put(self, items)
        os.write(told, "".join(f"{item.path}\\n" for item in items).encode())
    Store.put = put_and_tell
    for line in sys.stdin:
        seconds, arguments = json.loads(line)
        hear, told = os.pipe()
        start, pid = time.monotonic(), os.fork()
        if not pid:
            os.dup2(2, 1)
            os._exit(cli.run(arguments))
        os.close(told)
        killer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with os.fdopen(hear) as pipe:
            paths = pipe.read().split("\\n")[:-1]
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        killer.cancel()
        killer.join()
        print(json.dumps([status, time.monotonic() - start, paths]), flush=True)
    """


class Indexing:
    """Runs `spq index` again and again, each time in a process of its own."""

    def __init__(self, photos: Path, model: Path) -> None:
        self.arguments = ["index", str(photos), "--model", str(model), "--out"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", INDEX], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run_for(self, seconds: float, index: Path) -> tuple[int, float, set[str]]:
        """Kill it after some seconds; its exit status, its own seconds, and what it reported as put."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([seconds, [*self.arguments, str(index)]]) + "\n")
        self.process.stdin.flush()
        status, own, committed = json.loads(self.process.stdout.readline())
        assert status in (0, -signal.SIGKILL)
        return status, own, set(committed)

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def indexing(photos: Path, model_folder: Path) -> Iterator[Indexing]:
    with closing(Indexing(photos, model_folder)) as opened:
        yield opened


def disturb(photos: Path, rng: random.Random, turn: int) -> None:
    """Some pictures renamed, some changed, some dropped, some copied."""
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    rng.shuffle(files)
    for n, path in enumerate(files[:6]):
        path.rename(path.with_name(f"{turn}-{n}-{path.name[-7:]}"))
    for one, other in zip(files[6:12], files[12:18], strict=True):
        one.write_bytes(other.read_bytes() + bytes([turn % 256]))
    for path in files[18:20]:
        path.unlink()
    for n, path in enumerate(files[20:24]):
        (photos / "bag" / f"copy-{turn}-{n}{path.suffix}").write_bytes(path.read_bytes() + b"\0" + bytes([turn % 256]))


@pytest.mark.slow
def test_an_index_whose_build_is_killed_again_and_again_has_no_fault_each_time(
    indexing: Indexing, photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    rng, killed = random.Random(0), 0
    _, whole, committed = indexing.run_for(600, tmp_path / "timed")
    assert len(committed) == 60
    for turn in range(KILLS):
        if turn % 10 == 0:
            shutil.rmtree(tmp_path / "i", ignore_errors=True)  # also while it is created
        else:
            disturb(photos, rng, turn)
        status, _, committed = indexing.run_for(rng.uniform(0, whole), tmp_path / "i")
        killed += status != 0
        if not has_index(tmp_path / "i"):  # which refuses what `spq index` could not go on with
            assert not committed
            continue
        assert list(faults(tmp_path / "i")) == []
        with Store.open(tmp_path / "i") as store:
            assert committed <= set(store.stats())
    assert killed
    store, _, report = build(tmp_path / "i", tiny_model, photos)
    with store:
        paths = open_images(photos).ids
        assert set(store.stats()) == set(paths)
        assert not report.failed
        for path in paths:
            np.testing.assert_array_equal(store.item(path).code, tiny_model.encode([photos / path])[0])


READER = """if True:
    import json, sys, time
    from pathlib import Path
    import numpy as np
    from spq import ImageIndex
    folder, truth, base, seconds, seed = sys.argv[1:]
    truth, base = json.loads(Path(truth).read_text()), json.loads(Path(base).read_text())
    codes = {stem: np.array(code) for stem, code in truth.items()}
    rng, end, count = np.random.default_rng(int(seed)), time.monotonic() + float(seconds), 0
    index = ImageIndex.open(folder)
    while time.monotonic() < end:
        if count % 20 == 19:
            index.close()
            index = ImageIndex.open(folder)
        x = rng.normal(size=(3, 32)).astype(np.float32)
        tables = index.decoder.tables(x, index.store.manifest.distance)
        for table, hits in zip(tables, index.search_many(list(x), top=25), strict=True):
            distance = lambda path: table[np.arange(8), codes[Path(path).stem.split("-")[-1]]].sum()
            for hit in hits:
                assert np.isclose(hit.distance, distance(hit.path), rtol=1e-5), hit  # path and code belong together
            found = [hit.distance for hit in hits]
            assert found == sorted(found) and len({hit.path for hit in hits}) == len(hits) == 25
            best = sorted(map(distance, base))[:25]  # these are always there
            assert (np.array(found) <= np.array(best) * (1 + 1e-5)).all()
        count += 1
    print(count)
    """

WRITER = """if True:
    import json, random, sys, time
    from spq import ImageIndex
    from spq.data.open import open_images
    from spq.data.image_set import subset
    from spq.errors import StoreError
    folder, photos, seconds, seed = sys.argv[1:]
    rng, end, done, refused = random.Random(int(seed)), time.monotonic() + float(seconds), 0, 0
    images = open_images(photos)
    base = [p for p, path in enumerate(images.ids) if not path.startswith("copies/")]
    copies = [p for p, path in enumerate(images.ids) if path.startswith("copies/")]
    with ImageIndex.open(folder) as index:
        index.store.wait = int(seed)  # the first is refused at once, the second waits for a second
        while time.monotonic() < end:
            some = rng.sample(copies, rng.randint(1, len(copies) // 2))
            try:
                match rng.randrange(4):
                    case 0:
                        index.add(subset(images, some))
                    case 1:
                        index.remove([images.ids[p] for p in some if images.ids[p] in index.store.stats()])
                    case 2:
                        index.sync(subset(images, base + some))
                    case 3:
                        with index.store.writing():
                            index.store.compact()
                done += 1
            except StoreError as error:
                # the other process may have removed the same item
                assert "another process is writing" in str(error) or "is not in the index" in str(error), error
                refused += 1
                time.sleep(0.01)
    print(json.dumps([done, refused]))
    """


@pytest.mark.slow
def test_two_writers_and_ten_readers_meet_no_error_and_no_wrong_answer(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    base = open_images(photos).ids
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        truth = {Path(path).stem: index.store.item(path).code.tolist() for path in base}
    (tmp_path / "truth.json").write_text(json.dumps(truth), "utf-8")
    (tmp_path / "base.json").write_text(json.dumps(base), "utf-8")
    (photos / "copies").mkdir()
    for n in range(3):  # of the same bytes, so that no writer has to encode
        for path in base:
            shutil.copy(photos / path, photos / "copies" / f"{n}-{Path(path).name}")
    seconds = str(SECONDS)
    commands = [
        [READER, tmp_path / "i", tmp_path / "truth.json", tmp_path / "base.json", seconds, str(n)] for n in range(10)
    ]
    commands += [[WRITER, tmp_path / "i", photos, seconds, str(n)] for n in range(2)]
    running = [
        subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    ended = [(*process.communicate(), process.returncode) for process in running]
    assert [err for _, err, status in ended if status or err] == []
    assert all(int(out) > 0 for out, _, _ in ended[:10])
    assert sum(json.loads(out)[0] for out, _, _ in ended[10:]) > 0  # a busy machine may keep one of them from its turn
    assert list(faults(tmp_path / "i")) == []
    with ImageIndex.open(tmp_path / "i") as index:
        index.sync(photos)
        assert set(index.store.stats()) == set(open_images(photos).ids)
