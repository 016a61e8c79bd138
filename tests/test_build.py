from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spq import ImageIndex
from spq.errors import DataError, ModelMismatchError, StoreError
from spq.index.build import BuildOptions, build
from spq.index.store import Store
from spq.model.model import Model
from spq.model.network import Network


def test_nothing_is_left_behind_if_no_picture_is_readable(tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 1 pictures .* the file is empty"):
        ImageIndex.build(tmp_path / "i", tiny_model, tmp_path / "p")
    assert not (tmp_path / "i").exists()


def test_a_folder_that_is_not_an_index_stays_unchanged(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="exists and is not an index"):
        ImageIndex.build(photos, tiny_model, photos)
    assert not (photos / "items.sqlite").exists()
    with pytest.raises(StoreError, match="no index at"):
        ImageIndex.open(tmp_path / "none")


def test_codes_of_two_models_do_not_mix(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = Model(Network(tiny_model.config), tiny_model.config)
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    with pytest.raises(ModelMismatchError, match=f"{tiny_model.hash}, not of {other.hash}"):
        index.sync(photos, other)
    with pytest.raises(ModelMismatchError):
        ImageIndex.build(tmp_path / "i", other, photos)
    other.save(tmp_path / "i" / "model")
    with pytest.raises(ModelMismatchError):
        _ = ImageIndex.open(tmp_path / "i").model


KILLED = """if True:
    import os, signal, sys
    from spq import ImageIndex
    from spq.index import sync
    from spq.index.store import Store
    from spq.model.model import Model
    folder, model, photos, when = sys.argv[1:]
    sync.BATCH, die = 16, lambda: os.kill(os.getpid(), signal.SIGKILL)
    if when == "creating":
        Model.save = lambda *_: die()
    elif when == "writing":
        from spq.index import store
        row, seen = store.to_row, []
        store.to_row = lambda item: (seen.append(item), die() if len(seen) == 40 else row(item))[1]
    ImageIndex.build(folder, Model.load(model), photos)
    """


@pytest.mark.slow
@pytest.mark.parametrize(("when", "kept"), [("creating", 0), ("writing", 32)])
def test_a_killed_build_keeps_what_it_committed_and_the_next_build_completes_it(
    photos: Path, tiny_model: Model, tmp_path: Path, when: str, kept: int
) -> None:
    tiny_model.save(tmp_path / "m")
    arguments = [str(tmp_path / "i"), str(tmp_path / "m"), str(photos), when]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Store.open(tmp_path / "i") as store:
        assert len(store) == len(store.codes()[1]) == kept
    store, copy, report = build(tmp_path / "i", tiny_model, photos)
    with ImageIndex(store, copy) as index:
        assert (report.unchanged, report.added) == (kept, 60 - kept)
        assert index.search(1)[0].distance == 0
    with ImageIndex.build(tmp_path / "fresh", tiny_model, photos) as fresh, ImageIndex.open(tmp_path / "i") as again:
        np.testing.assert_array_equal(again.store.codes()[1], fresh.store.codes()[1])


def test_a_failed_first_build_leaves_an_empty_folder_of_the_user_empty(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "i").mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Model, "save", full)
    with pytest.raises(OSError, match="No space"):
        ImageIndex.build(tmp_path / "i", tiny_model, photos)
    assert list((tmp_path / "i").iterdir()) == []


def test_a_build_reports_what_it_did_and_a_second_one_changes_nothing(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"none")
    counts: list[tuple[int, int, int]] = []
    store, _, report = build(tmp_path / "i", tiny_model, photos, lambda *done: counts.append(done))
    with store:
        assert (report.added, report.unchanged, len(store)) == (60, 0, 60)
        assert [path for path, _ in report.failed] == ["broken.jpg"]
        assert counts == [(0, 61, 0), (61, 61, 1)]
    store, _, report = build(tmp_path / "i", tiny_model, str(photos))
    with store:
        assert (report.added, report.unchanged, len(store)) == (0, 60, 60)


def test_pictures_that_vanished_are_kept_if_that_is_asked_for(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    build(tmp_path / "i", tiny_model, photos).store.close()
    min(photos.rglob("*.png")).unlink()
    for keep_missing, images in ((True, 60), (False, 59)):
        built = build(tmp_path / "i", tiny_model, photos, options=BuildOptions(keep_missing=keep_missing))
        with built.store as store:
            assert len(store) == images
            assert (built.report.kept, built.report.removed) == ((1, 0) if keep_missing else (0, 1))
