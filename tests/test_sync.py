from __future__ import annotations

from pathlib import Path

import pytest

from spq import ImageIndex
from spq.data.sources import open_images
from spq.model.artifact import Model


def described(index: ImageIndex) -> dict[str, object]:
    return {path: index.store.item(path).metadata for path in index.store.stats()}


def test_labels_and_columns_of_the_collection_come_with_the_pictures(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    images = open_images(photos)
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        assert described(index) == {path: {"label": path.split("/")[0]} for path in images.ids}


def test_a_changed_table_is_noticed_without_opening_a_picture(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        first, second, *others = open_images(photos).ids
        rows = [f"{first},red|blue,9\n", f"{second},blue,10\n"]
        (photos / "metadata.csv").write_text("file_name,labels,price\n" + "".join(rows), "utf-8")
        monkeypatch.setattr(Path, "read_bytes", None)
        report = index.sync(photos)
        assert (report.unchanged, report.described) == (60, 60)
        found = described(index)
        assert found[first] == {"price": "9", "label": ["blue", "red"]}
        assert found[second] == {"price": "10", "label": ["blue"]}
        assert all(found[path] == {"price": "", "label": []} for path in others)
        assert index.sync(photos).described == 0
        (photos / "metadata.csv").write_text(f"file_name,labels,price\n{first},red|blue,9\n{second},blue,11\n", "utf-8")
        assert index.sync(photos).described == 1
        (photos / "metadata.csv").unlink()
        assert index.add(photos).described == 60
        assert described(index)[first] == {"label": first.split("/")[0]}
