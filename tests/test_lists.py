"""Lists of similar codes of an index with shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spq.errors import ConfigError
from spq.index.gallery import ShardedGallery, follow
from spq.index.items import Item
from spq.index.manifest import FORMAT, Manifest
from spq.index.shards.lists import make_lists
from spq.index.shards.open_store import open_store
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_shards
from spq.index.store import Store
from spq.pq.scan import Scan
from spq.pq.tables import decode, distance_tables
from spq.pq.ties import Ids

N, M, K = 6000, 8, 16
RNG = np.random.default_rng(0)
BOOKS = RNG.normal(size=(M, K, 2)).astype(np.float32)


def tables_of(codes: np.ndarray) -> np.ndarray:
    return distance_tables(decode(codes, BOOKS), BOOKS, "sqeuclidean")


def make_scan(codes: np.ndarray, ids: Ids) -> Scan:
    return Scan(codes, K, tables_of, ids=ids)


@pytest.fixture(scope="module")
def clustered() -> np.ndarray:
    """Codes around 60 centres."""
    centres = RNG.normal(size=(60, M, 1, 2)).astype(np.float32) * 1.5
    x = centres[RNG.integers(0, 60, N)] + RNG.normal(size=(N, M, 1, 2)).astype(np.float32) * 0.3
    return np.square(x - BOOKS).sum(-1).argmin(-1).astype(np.uint8)


@pytest.fixture
def folder(clustered: np.ndarray, tmp_path: Path) -> Path:
    with Store.create(tmp_path / "i", Manifest(FORMAT, "0", "h", "sqeuclidean", M, K, 4 * M)) as store, store.writing():
        store.put(Item(f"{n}.jpg", n, n, b"h" * 16, 1, 1, code) for n, code in enumerate(clustered[:5000]))
    with open_store(tmp_path / "i") as store:
        to_shards(store, 2000)
    return tmp_path / "i"


def opened(store: Store) -> ShardedGallery:
    gallery = follow(store, make_scan)
    assert isinstance(gallery, ShardedGallery)
    return gallery


def test_lists_find_most_of_the_exact_answers_and_new_shards_get_theirs(folder: Path, clustered: np.ndarray) -> None:
    queries = tables_of(clustered[::100])
    with open_store(folder) as store:
        assert isinstance(store, ShardedStore)
        assert opened(store).scan.coarse is None
        part = store.live()[1]  # more paths than are read one by one
        assert part.shard.paths(np.arange(2000)) == [f"{n}.jpg" for n in range(2000, 4000)]
        assert make_lists(store, opened(store).scan) == 3
        gallery = opened(store)
        assert gallery.lists
        exact, rows = gallery.scan.search(queries, 50)
        found = gallery.scan.search(queries, 50, method="ivf", nprobe=12)[1]
        assert np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(rows, found, strict=True)]) > 0.9
        one = gallery.scan.search(queries, 50, method="ivf", nprobe=1)[1]
        assert not np.array_equal(one, rows)  # else these are no lists
        all_lists = gallery.scan.search(queries, 50, method="ivf", nprobe=len(gallery.lists.coarse))
        assert np.array_equal(all_lists[0], exact)
        assert np.array_equal(all_lists[1], rows)
        with store.writing():
            store.put(Item(f"{n}.jpg", n, n, b"h" * 16, 1, 1, code) for n, code in enumerate(clustered[5000:], 5000))
        to_shards(store, 2000)
        gallery = opened(store)
        assert make_lists(store, gallery.scan) == 1
        assert all(part.scan.list_sizes is not None for part in opened(store).scan.parts[:-1])


def test_damaged_lists_are_not_used_and_made_again(folder: Path, clustered: np.ndarray) -> None:
    queries = tables_of(clustered[:5])
    with open_store(folder) as store:
        assert isinstance(store, ShardedStore)
        make_lists(store, opened(store).scan)
        exact = opened(store).scan.search(queries, 50)
        for file in sorted((folder / "shards" / "lists").iterdir()):
            whole = file.read_bytes()
            for at in RNG.integers(0, len(whole), 20).tolist():
                file.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
                gallery = opened(store)
                count = len(gallery.lists.coarse) if gallery.lists else 1
                assert np.array_equal(gallery.scan.search(queries, 50, method="ivf", nprobe=count)[0], exact[0])
            file.write_bytes(whole[:-30])
            make_lists(store, opened(store).scan)
        assert all(part.scan.list_sizes is not None for part in opened(store).scan.parts[:-1])


def test_lists_need_sixteen_codewords(tmp_path: Path) -> None:
    with Store.create(tmp_path / "i", Manifest(FORMAT, "0", "h", "l2", 2, 256, 16)) as store, store.writing():
        store.put([Item("a.jpg", 1, 1, b"h" * 16, 1, 1, np.array([200, 3], np.uint8))])
    with open_store(tmp_path / "i") as store:
        to_shards(store)
    with open_store(tmp_path / "i") as store:
        assert isinstance(store, ShardedStore)
        scan = follow(store, lambda codes, ids: Scan(codes, 256, ids=ids)).scan
        with pytest.raises(ConfigError, match="lists are for 16 codewords"):
            make_lists(store, scan)
