"""Features of whole pictures on disk."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from spq.common.locks import held
from spq.config import InputConfig
from spq.data import decode
from spq.model.feature_store import FeatureStore, Known, features_key, hash_of, make_room


def some(count: int, dim: int = 6) -> list[tuple[bytes, Known]]:
    rng = np.random.default_rng(0)
    return [(hash_of(bytes([n])), Known(rng.random(dim, np.float32), n, n + 1)) for n in range(count)]


def test_what_was_put_is_found_again_by_another_process(tmp_path: Path) -> None:
    known = some(20)
    FeatureStore("key", tmp_path).put(known)
    store = FeatureStore("key", tmp_path)
    for digest, (feature, width, height) in known:
        found = store.get(digest)
        assert found
        np.testing.assert_array_equal(found.feature, feature)
        assert (found.width, found.height) == (width, height)
    assert store.get(hash_of(b"other")) is None
    assert FeatureStore("other key", tmp_path).get(known[0][0]) is None


def test_a_damaged_feature_or_file_counts_as_unknown(tmp_path: Path) -> None:
    known = some(2)
    FeatureStore("key", tmp_path).put(known)
    with sqlite3.connect(tmp_path / "key.sqlite") as database:
        database.execute("UPDATE features SET feature = zeroblob(24) WHERE hash = ?", (known[0][0],))
    database.close()
    store = FeatureStore("key", tmp_path)
    assert store.get(known[0][0]) is None
    assert store.get(known[1][0])
    (tmp_path / "key.sqlite").write_bytes(b"no database, " * 1000)
    store = FeatureStore("key", tmp_path)
    assert store.get(known[1][0]) is None
    store.put(known)
    assert FeatureStore("key", tmp_path).get(known[1][0])


def test_a_picture_over_the_limit_of_pixels_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = some(20)  # n x (n + 1) pixels
    store = FeatureStore("key", tmp_path)
    store.put(known)
    monkeypatch.setattr(decode, "_max_pixels", 8 * 9)
    assert [n for n, (digest, _) in enumerate(known) if store.get(digest)] == list(range(9))


def test_without_a_folder_to_write_to_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = FeatureStore("key", tmp_path / "file")
    store.put(some(2))
    assert store.get(some(1)[0][0]) is None


def test_a_file_over_the_limit_loses_its_older_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQ_CACHE_GB", "1e-4")  # 100,000 bytes
    known = some(40, dim=1280)
    store = FeatureStore("key", tmp_path)
    for one in known:
        store.put([one])
    kept = [store.get(digest) is not None for digest, _ in known]
    assert 8 <= sum(kept) < 24
    assert kept == sorted(kept)  # the newest ones
    store.put(known[:1])
    assert store.get(known[0][0])


def test_the_key_depends_on_all_that_decides_a_feature() -> None:
    network, pixels = nn.Linear(3, 4), InputConfig(size=16)
    keys = {
        features_key(network, pixels, False, "fp32"),
        features_key(network, InputConfig(size=20), False, "fp32"),
        features_key(network, pixels, True, "fp32"),
        features_key(network, pixels, False, "bf16"),
        features_key(nn.Sequential(network), pixels, False, "fp32"),
    }
    assert len(keys) == 5
    before = features_key(network, pixels, False, "fp32")
    assert before in keys
    network.bias.data[0] += 1e-3
    assert features_key(network, pixels, False, "fp32") not in keys


def test_features_that_are_being_computed_are_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQ_CACHE_GB", "0.000002")
    (tmp_path / "making.npy").write_bytes(bytes(1500))
    with held(tmp_path / "making.lock"):
        make_room(tmp_path, 1500)
        assert (tmp_path / "making.npy").exists()
    make_room(tmp_path, 1500)
    assert not (tmp_path / "making.npy").exists()


def test_the_least_recently_used_features_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQ_CACHE_GB", "3e-6")  # 3,000 bytes
    for age, name in enumerate(["new", "middle", "old"]):
        for suffix, content in ((".npy", b"x" * 1000), (".json", b"{}")):
            (tmp_path / (name + suffix)).write_bytes(content)
        os.utime(tmp_path / f"{name}.npy", (1e9 - age, 1e9 - age))
    make_room(tmp_path, 1500)
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix != ".lock") == ["new.json", "new.npy"]


def test_files_of_whole_pictures_make_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FeatureStore("old", tmp_path).put(some(2))
    os.utime(tmp_path / "old.sqlite", (1e9, 1e9))
    monkeypatch.setenv("SPQ_CACHE_GB", "1e-5")
    FeatureStore("new", tmp_path)
    assert not (tmp_path / "old.sqlite").exists()
    assert (tmp_path / "new.sqlite").exists()


@pytest.mark.parametrize(
    "change",
    [
        "width = 4000",
        "height = NULL",
        "height = 'tall'",
        "feature = 7",
        "feature = NULL",
        "checksum = 'x'",
        "(feature, width, height, checksum) = (SELECT feature, width, height, checksum FROM features WHERE width = 1)",
    ],
)
def test_a_changed_row_or_that_of_another_picture_is_unknown(tmp_path: Path, change: str) -> None:
    known = some(3)
    FeatureStore("key", tmp_path).put(known)
    with sqlite3.connect(tmp_path / "key.sqlite") as database:
        database.execute(f"UPDATE features SET {change} WHERE hash = ?", (known[0][0],))
    database.close()
    store = FeatureStore("key", tmp_path)
    assert store.get(known[0][0]) is None
    assert store.damaged == 1
    assert store.get(known[2][0])
    store.put(known[:1])
    assert store.get(known[0][0])


def test_a_table_of_other_columns_or_a_page_of_zeros_is_made_again(tmp_path: Path) -> None:
    known = some(40, dim=900)
    FeatureStore("key", tmp_path).put(known)
    with sqlite3.connect(tmp_path / "key.sqlite") as database:
        database.execute("ALTER TABLE features RENAME COLUMN width TO other")
    database.close()
    store = FeatureStore("key", tmp_path)
    store.put(known)
    assert store.get(known[0][0])
    data = (tmp_path / "key.sqlite").read_bytes()
    (tmp_path / "key.sqlite").write_bytes(data[:4096] + bytes(len(data) - 4096))
    store = FeatureStore("key", tmp_path)
    assert store.get(known[0][0]) is None
    store.put(known)
    assert all(store.get(digest) for digest, _ in known)


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "key.sqlite").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "c" / "lost.npy").symlink_to("lost.npy")
    monkeypatch.setenv("SPQ_CACHE_GB", "1e-9")
    FeatureStore("key", tmp_path / "c").put(some(1))
    assert not (tmp_path / "elsewhere").exists()
