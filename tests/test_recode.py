"""An index gets the codes of another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import run_spq
from spq.common.locks import held
from spq.data.open import open_images
from spq.errors import DataError, ModelMismatchError
from spq.index.build import BuildOptions, build
from spq.index.format import NOT_DUPLICATES
from spq.index.image_index import ImageIndex
from spq.index.replacing import finish_replacing
from spq.index.shared import SharedIndex
from spq.index.store import Store
from spq.index.verify import faults
from spq.model.model import Model
from spq.model.network import Network

REPLACE = BuildOptions(replace_model=True)


@pytest.fixture
def models(tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Model, Model]:
    """Two models of the same frozen backbone, with other heads and codebooks."""
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    config = replace(tiny_model.config, train=replace(tiny_model.config.train, frozen=True))
    torch.manual_seed(1)
    network = Network(config)
    network.backbone.load_state_dict(tiny_model.network.backbone.state_dict())
    return Model(tiny_model.network, config), Model(network, config)


def items(index: ImageIndex) -> list[tuple[object, ...]]:
    return [(i.id, i.path, i.size, i.mtime_ns, i.hash, i.width, i.height, i.metadata) for i in index.store.items()]


def test_known_features_give_the_new_codes_without_reading_a_picture(
    photos: Path, models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = models
    (photos / "bag" / "broken.jpg").write_bytes(b"no picture")
    with ImageIndex.build(tmp_path / "i", old, photos) as index:
        index.remove([next(index.store.items()).path])
        index.sync(photos)
        before = items(index)
    expected = new.encode([photos / path for _, path, *_ in before])
    monkeypatch.setattr("spq.data.folder.FolderImages.read", lambda *_: pytest.fail("a picture was read"))
    with build(tmp_path / "i", new, photos, options=REPLACE).store as store:
        assert store.manifest.model == new.hash
    with ImageIndex.open(tmp_path / "i") as index:
        assert items(index) == before
        np.testing.assert_array_equal(index.store.codes()[1], expected)
        assert [path for path, _ in index.store.unreadable()] == ["bag/broken.jpg"]
    assert list(faults(tmp_path / "i")) == []


def test_pictures_without_a_known_feature_are_read_again(
    photos: Path, models: tuple[Model, Model], tmp_path: Path
) -> None:
    old, new = models
    build(
        tmp_path / "i", Model(old.network, replace(old.config, train=replace(old.config.train, frozen=False))), photos
    )
    with Store.open(tmp_path / "i") as store:
        ids = store.codes()[0].tolist()
    built = build(tmp_path / "i", new, photos, options=REPLACE)
    with built.store as store:
        assert (built.report.changed, built.report.recoded) == (60, 0)
        assert store.codes()[0].tolist() == ids
        expected = new.encode([photos / path for path in store.paths(ids).values()])
        np.testing.assert_array_equal(store.codes()[1], expected)


def test_the_old_index_stays_until_the_new_one_is_complete(
    photos: Path, models: tuple[Model, Model], tmp_path: Path
) -> None:
    old, new = models
    ImageIndex.build(tmp_path / "i", old, photos).close()

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    extra = photos / "new.png"
    extra.write_bytes(next(photos.rglob("*.png")).read_bytes() + b" ")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "i", new, photos, stop, REPLACE)
    with ImageIndex.open(tmp_path / "i") as index:
        assert index.store.manifest.model == old.hash
        assert len(index) == 60
    with pytest.raises(ModelMismatchError, match="do not mix"):
        build(tmp_path / "i", new, photos)
    (tmp_path / "i" / NOT_DUPLICATES).write_text("what the user said")
    built = build(tmp_path / "i", new, photos, options=REPLACE)
    with built.store as store:
        assert len(store) == 61
    assert (tmp_path / "i" / NOT_DUPLICATES).read_text() == "what the user said"
    assert not list(tmp_path.glob(".i.*"))


def test_whoever_has_the_old_index_open_writes_nothing_into_the_new_one(
    photos: Path, models: tuple[Model, Model], tmp_path: Path
) -> None:
    old, new = models
    with ImageIndex.build(tmp_path / "i", old, photos) as index:
        shared = SharedIndex(index)
        try:
            assert not shared.is_another()
            build(tmp_path / "i", new, photos, options=REPLACE).store.close()
            assert shared.is_another()
            assert len(index.search(next(photos.rglob("*.png")), top=3)) == 3  # the old codes still answer
            with pytest.raises(ModelMismatchError, match=f"has codes of model {new.hash} now"):
                index.sync(open_images(photos))
            with pytest.raises(ModelMismatchError, match="open it again"):
                shared.of_thread()
            with pytest.raises(ModelMismatchError, match="open it again"):
                shared.open()  # the old model would encode pictures for it
        finally:
            shared.close()


def test_a_collection_that_is_gone_changes_nothing(photos: Path, models: tuple[Model, Model], tmp_path: Path) -> None:
    old, new = models
    ImageIndex.build(tmp_path / "i", old, photos).close()
    images = open_images(photos)
    images.ids.clear()
    with pytest.raises(DataError, match="nothing was removed"):
        build(tmp_path / "i", new, images, options=REPLACE)
    with Store.open(tmp_path / "i") as store:
        assert (store.manifest.model, len(store)) == (old.hash, 60)


@pytest.mark.parametrize("killed", ["between the renames", "before the old one was deleted"])
def test_a_replacement_that_was_killed_is_finished_by_the_next_update(
    photos: Path, models: tuple[Model, Model], tmp_path: Path, killed: str
) -> None:
    old, new = models
    folder, before = tmp_path / "i", tmp_path / ".i.replaced"
    build(folder, old, photos).store.close()
    folder.rename(before)
    place = tmp_path / ".i.recoded" if killed == "between the renames" else folder
    build(place, new, photos).store.close()
    with held(before / ".lock"):  # by the process that is at it
        assert run_spq("index", folder) == (2 if place != folder else 0)
    assert before.exists()
    assert run_spq("index", folder) == 0
    assert not before.exists()
    assert not (tmp_path / ".i.recoded").exists()
    with Store.open(folder) as store:
        assert (store.manifest.model, len(store)) == (new.hash, 60)


def test_without_a_killed_replacement_nothing_is_finished(tmp_path: Path) -> None:
    finish_replacing(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("sample:test", "/", "", "x" * 250, "a\0b", str(tmp_path / "circle")):
        finish_replacing(Path(name))
    for name in ("model", "mine"):
        (tmp_path / ".x.replaced" / name).mkdir(parents=True)
        finish_replacing(tmp_path / "x")  # there is no new index, or a folder is not one of spq
        assert (tmp_path / ".x.replaced" / name).exists()
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / "manifest.json").touch()
