"""Collections at hand: each kind is decoded as its pictures are, and what is none of them says what to give."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from conftest import write_photos
from small_training import sample_images, small_recipe
from spq import SPQ, ImageIndex, ImageSet, evaluate, open_images
from spq.data.decode import load_pixels
from spq.data.image_set import subset
from spq.data.protocols import Protocol, custom_protocol
from spq.errors import DataError
from spq.model.model import Model

SAMPLE = sample_images(60)
RGB = np.stack([np.asarray(SAMPLE.image(position)) for position in range(60)])
LABELS = np.asarray(SAMPLE.labels)
WANTED = load_pixels(SAMPLE, 16).array


class Pairs(Dataset[Any]):
    """Pictures with labels, as many torch datasets give them."""

    def __init__(self, pictures: Any = RGB, labels: Any = LABELS, counts_labels: bool = False) -> None:
        self.pictures, self.labels_of, self.asked = pictures, labels, 0
        if counts_labels:
            self.targets, self.classes = [int(label) for label in labels], NAMES

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        self.asked += 1
        return self.pictures[position], int(self.labels_of[position])


NAMES = [f"kind {n}" for n in range(10)]


class ClassLabel:
    def __init__(self) -> None:
        self.names = NAMES


class HuggingFace:
    """As a `datasets.Dataset`: columns, rows as dicts, and features that say what a column holds."""

    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self.columns, self.features = columns, features

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def cast_column(self, name: str, feature: Any) -> HuggingFace:
        assert feature.decode is False
        return HuggingFace(self.columns, {**self.features, name: feature})

    def select_columns(self, names: list[str]) -> HuggingFace:
        return HuggingFace({name: self.columns[name] for name in names}, {})


def feature(kind: str) -> Any:
    return type(kind, (), {"__init__": lambda self, decode=True: setattr(self, "decode", decode)})()


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def rows(named: str = "image") -> HuggingFace:
    columns = {named: [{"bytes": png(array), "path": None} for array in RGB], "label": LABELS.tolist()}
    return HuggingFace(columns, {named: feature("Image"), "label": ClassLabel()})


KINDS: dict[str, Any] = {
    "PIL images": [Image.fromarray(array) for array in RGB],
    "arrays": list(RGB),
    "array (N, H, W, 3)": RGB,
    "array (N, 3, H, W)": np.ascontiguousarray(RGB.transpose(0, 3, 1, 2)),
    "grey array (N, H, W)": np.ascontiguousarray(RGB[..., 0]),
    "float array": RGB / 255,
    "tensor": torch.from_numpy(RGB).permute(0, 3, 1, 2),
    "tensors": [torch.from_numpy(array).permute(2, 0, 1) / 255 for array in RGB],
    "encoded bytes": [png(array) for array in RGB],
    "pairs in a list": list(zip(RGB, LABELS, strict=True)),
    "torch Dataset": Pairs(),
    "torch Subset": Subset(Pairs(counts_labels=True), range(60)),
    "dicts": [{"image": array, "label": label} for array, label in zip(RGB, LABELS, strict=True)],
    "Hugging Face": rows(),
    "Hugging Face, other name": rows("photo"),
}
LABELLED = ("pairs in a list", "torch Dataset", "torch Subset", "dicts", "Hugging Face", "Hugging Face, other name")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_collection_has_the_same_pixels(kind: str) -> None:
    images = open_images(KINDS[kind])
    found = load_pixels(images, 16)
    np.testing.assert_array_equal(found.array, WANTED)
    assert images.ids == [str(position) for position in range(60)]
    again = np.asarray(images.decode(7, images.read(7)))
    np.testing.assert_array_equal(again, RGB[7])
    assert images.rgba(3).mode == "RGBA"
    assert (images.labels is not None) == (kind in LABELLED)
    if images.labels is not None:
        np.testing.assert_array_equal(images.labels, LABELS)


def test_a_list_of_paths_keeps_its_order_and_counts_what_is_unreadable(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos")
    files = sorted(folder.rglob("*.png"), reverse=True)[:20]
    files[4].write_bytes(b"no picture")
    images = open_images([str(file) for file in files])
    assert images.ids == [file.as_posix() for file in files]
    found = load_pixels(images, 16)
    assert [position for position, _ in found.failures] == [4]
    assert open_images([Path("gone.jpg")]).path(0) == Path.cwd() / "gone.jpg"
    assert len(open_images(np.array([str(file) for file in files]))) == 20
    assert 0 < len(open_images(images, exclude=[files[0].name])) < 20
    with pytest.raises(DataError, match=r"a\.jpg is listed twice; give each picture once"):
        open_images(["b.jpg", "a.jpg", "a.jpg"])


def test_a_list_of_folders_still_opens_several_collections(tmp_path: Path) -> None:
    first, second = write_photos(tmp_path / "a"), write_photos(tmp_path / "b")
    assert len(open_images([first, second])) == len(open_images(first)) + len(open_images(second))


def test_a_dataset_is_read_only_when_a_picture_is_needed() -> None:
    dataset = Pairs(counts_labels=True)
    images = open_images(dataset)
    assert dataset.asked == 1  # the first item shows what the others are
    assert images.labels is not None
    assert images.class_names[3] == "kind 3"
    assert dataset.asked == 1
    slow = Pairs()
    some = subset(open_images(slow), [5, 2])
    assert slow.asked == 1
    assert some.labels is not None
    assert slow.asked == 61
    assert (some.labels.tolist(), some.class_names) == ([LABELS[5], LABELS[2]], [str(n) for n in range(10)])
    assert slow.asked == 61


def test_items_that_cannot_be_read_are_counted() -> None:
    class Broken(Pairs):
        def __getitem__(self, position: int) -> tuple[Any, Any]:
            if position == 5:
                raise KeyError("shard 2")
            return super().__getitem__(position)

    images = open_images(Broken())
    found = load_pixels(images, 16)
    assert len(found.array) == 59
    assert found.failures == [(5, "cannot read item 5 of Broken of 60 pictures: 'shard 2'")]
    assert images.labels is not None
    assert images.labels[5] == -1


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(RGB)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no collection given; give a folder of pictures"),
        (np.empty((0, 8, 8, 3), np.uint8), "ndarray is empty"),
        (RGB[0], r"an array of shape \(28, 28, 3\) is one picture; give \(N, H, W\)"),
        (np.zeros((2, 3, 4, 5, 6), np.uint8), "is no collection of pictures"),
        (RGB.astype(np.int64), "pixels of type int64 are ambiguous"),
        (RGB / 127.5 - 1, r"float pixels must lie in 0..1, got -1..1; undo the normalisation"),
        (
            Pairs(torch.from_numpy(RGB).permute(0, 3, 1, 2) / 127.5 - 1),
            r"item 0 of Pairs .*must lie in 0..1; .*`Normalize`",
        ),
        (Stream(), r"Stream gives its items in one order only; give a map-style dataset, or `list` of its items"),
        (iter(RGB), "gives its items in one order only"),
        (DataLoader(Pairs()), r"a DataLoader gives batches; give its dataset, `loader.dataset`"),
        ({"train": rows()}, r"dict is not a collection; give its part with the pictures"),
        (7, "int is not a collection; give a folder, a list of paths"),
        (Image.new("RGB", (8, 8)), "Image is not a collection"),
        ([3, 4], "its first item is int, not a picture"),
        ([{"pixels": 1}], "its items have no `image`, but pixels"),
        (HuggingFace({"text": ["a"]}, {"text": feature("Value")}), "has no column of pictures"),
        (
            HuggingFace({"a": [1], "b": [2]}, {"a": feature("Image"), "b": feature("Image")}),
            r"several .*\(a, b\); keep one",
        ),
    ],
)
def test_what_is_no_collection_is_refused_with_the_remedy(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_images(given)


class Noise(ImageSet):
    def __init__(self) -> None:
        super().__init__("noise", [f"{number}.png" for number in range(40)])

    def read(self, position: int) -> bytes:
        return png(np.random.default_rng(position).integers(0, 256, (16, 16, 3), np.uint8))


def test_an_image_set_without_a_method_names_it(tmp_path: Path, tiny_model: Model) -> None:
    class Nothing(ImageSet):
        pass

    class NoIds(Noise):
        def __init__(self) -> None:
            pass

    with pytest.raises(
        DataError, match=r"your image set Noise has no method `stat`\(position\); define it, as `def stat"
    ):
        ImageIndex.build(tmp_path / "index", tiny_model, Noise())
    with pytest.raises(DataError, match=r"your image set Nothing has no method `read`\(position\)"):
        SPQ.train(Nothing("nothing", ["a"]), recipe=small_recipe(epochs=1))
    with pytest.raises(DataError, match=r"your image set NoIds has no ids; call super\(\).__init__"):
        SPQ.train(NoIds(), recipe=small_recipe(epochs=1))
    assert not (tmp_path / "index").exists()


class Labelled(Dataset):
    """Pictures with labels of any kind; `classes` as torchvision's datasets name them."""

    def __init__(self, labels: Sequence[object], classes: Sequence[str] = ()) -> None:
        self.labels, self.classes = labels, list(classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[np.ndarray, object]:
        return RGB[position], self.labels[position]


@pytest.mark.parametrize("row", [np.array, torch.tensor, list])
def test_rows_of_zeros_and_ones_have_a_class_in_each_column(row: Any) -> None:
    rows = [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    images = open_images(Labelled([row(each) for each in rows], ["a", "b", "c"]))
    np.testing.assert_array_equal(images.labels, np.array(rows, bool))
    assert images.class_names == ["a", "b", "c"]
    lists = open_images(Labelled([[0, 3], [2]], "abcd"))  # numbers of classes
    np.testing.assert_array_equal(lists.labels, [[True, False, True], [False, True, False]])
    assert lists.class_names == ["0", "2", "3"]


@pytest.mark.parametrize("row", [np.array, torch.tensor])
def test_arrays_of_zeros_and_ones_are_rows_however_few_classes_there_are(row: Any) -> None:
    images = open_images(Labelled([row(each) for each in ([1, 0], [0, 1])]))
    np.testing.assert_array_equal(images.labels, [[True, False], [False, True]])


def test_labels_that_are_names_keep_them_whatever_the_dataset_numbers() -> None:
    pets = open_images(Labelled(["cat", "dog", "cat"], ["dog", "cat"]))
    assert [pets.class_names[n] for n in pets.labels] == ["cat", "dog", "cat"]
    numbered = open_images(Labelled([1, 0, 1], ["dog", "cat"]))
    assert [numbered.class_names[n] for n in numbered.labels] == ["cat", "dog", "cat"]


def nearest(index: ImageIndex, picture: np.ndarray) -> list[str]:
    """Paths of all pictures at the smallest distance: those of the same code."""
    hits = index.search(Image.fromarray(picture), top=60)
    return [hit.path for hit in hits if hit.distance == hits[0].distance]


def test_training_embedding_index_and_evaluation_take_them(tmp_path: Path) -> None:
    recipe = small_recipe(epochs=1)
    models = [SPQ.train(some, recipe=recipe, measure=False) for some in (RGB, Pairs(), rows())]
    assert len({model.hash for model in models}) == 1
    model = models[0]
    wanted = model.embed(list(RGB))
    for some in (RGB, Pairs(), rows(), open_images(RGB), KINDS["tensor"]):
        np.testing.assert_allclose(model.embed(some), wanted, atol=1e-5)
    with ImageIndex.build(tmp_path / "index", model, Pairs(counts_labels=True)) as index:
        assert len(index) == 60
        assert any(np.array_equal(RGB[int(path)], RGB[9]) for path in nearest(index, RGB[9]))
    other = Pairs(np.concatenate([RGB[:30], 255 - RGB[30:]]))
    with ImageIndex.build(tmp_path / "index", model, other) as index:  # the same number and sizes, other pictures
        found = nearest(index, 255 - RGB[40])
        assert any(np.array_equal(other.pictures[int(path)], 255 - RGB[40]) for path in found)
    report = evaluate(model, custom_protocol(Pairs(), Pairs(RGB[:20], LABELS[:20]), map_at=10))
    assert 0 < report.map <= 1
    same = evaluate(model, Protocol("own", Pairs(RGB[:20], LABELS[:20]), rows(), RGB, map_at=10))  # type: ignore[arg-type]
    assert same.map == report.map
    both = Pairs()
    with pytest.raises(DataError, match="gallery and queries are the same"):
        custom_protocol(both, both)


def test_a_real_hugging_face_dataset_is_opened(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)})
    table = {"picture": [Image.fromarray(array) for array in RGB], "kind": LABELS.tolist()}
    dataset = datasets.Dataset.from_dict(table, features=features)
    images = open_images(dataset.select(range(59, -1, -1)))
    np.testing.assert_array_equal(load_pixels(images, 16).array, WANTED[::-1])
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels, LABELS[::-1])
    assert images.class_names[4] == "kind 4"
    with pytest.raises(DataError, match="gives its items in one order only"):
        open_images(dataset.to_iterable_dataset())
    with pytest.raises(DataError, match="give its part with the pictures"):
        open_images(datasets.DatasetDict(train=dataset))
