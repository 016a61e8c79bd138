from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.data import protocols
from spq.data.image_set import ImageSet
from spq.data.multilabel import MIRFLICKR_CONCEPTS
from spq.data.named import CIFAR_CLASSES, ArrayImages
from spq.data.open import open_images
from spq.data.protocols import (
    PROTOCOLS,
    Protocol,
    Split,
    custom_protocol,
    load_protocol,
    split_flickr25k,
    split_nuswide21,
)
from spq.errors import ConfigError, DataError


def check(protocol: Protocol) -> tuple[set[str], set[str], set[str]]:
    """Disjoint, within each other, without repetition; gives back the ids of queries, gallery, training."""
    parts = [set(images.ids) for images in (protocol.queries, protocol.gallery, protocol.training)]
    assert [len(part) for part in parts] == [len(protocol.queries), len(protocol.gallery), len(protocol.training)]
    if protocol.queries.name == protocol.gallery.name:
        assert not parts[0] & parts[1]
    assert parts[2] <= parts[1]
    return parts[0], parts[1], parts[2]


def fake_cifar10(spec: str | Path) -> ImageSet:
    """As many pictures as CIFAR-10 has, of one pixel each that tells which one it is."""
    count = {"cifar10:train": 50_000, "cifar10:test": 10_000}[str(spec)]
    labels = np.random.default_rng(count).permutation(np.arange(count) % 10)
    pixels = (np.arange(count) % 251).astype(np.uint8).reshape(-1, 1, 1)
    return ArrayImages(str(spec), pixels, labels, CIFAR_CLASSES)


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "open_images", fake_cifar10)


@pytest.mark.usefixtures("cifar10")
def test_cifar10_spq_has_the_test_pictures_as_queries_and_the_training_pictures_as_gallery() -> None:
    protocol = load_protocol("cifar10-spq")
    assert (protocol.queries.name, protocol.gallery.name, protocol.training.name) == (
        "cifar10:test",
        "cifar10:train",
        "cifar10:train",
    )
    assert (len(protocol.queries), len(protocol.gallery), protocol.map_at) == (10_000, 50_000, 1000)
    check(protocol)


@pytest.mark.usefixtures("cifar10")
@pytest.mark.parametrize(("name", "training_per_class"), [("cifar10-i", 5000), ("cifar10-ii", 500)])
def test_cifar10_i_and_ii_draw_1000_queries_per_class(name: str, training_per_class: int) -> None:
    protocol = load_protocol(name)
    queries, gallery, _ = check(protocol)
    assert len(queries | gallery) == 60_000
    assert np.bincount(protocol.queries.labels).tolist() == [1000] * 10
    assert np.bincount(protocol.training.labels).tolist() == [training_per_class] * 10
    assert {i.split("/")[0] for i in queries} == {"cifar10:train", "cifar10:test"}
    # the picture, its bytes and its label are those that the id names, on both sides of the border
    whole = {name: fake_cifar10(name) for name in ("cifar10:train", "cifar10:test")}
    for position in range(0, 10_000, 997):
        origin, _, number = protocol.queries.ids[position].partition("/")
        assert protocol.queries.labels[position] == whole[origin].labels[int(number)]
        assert protocol.queries.image(position).getpixel((0, 0)) == (int(number) % 251,) * 3
        assert protocol.queries.read(position) == bytes([int(number) % 251])
        assert protocol.queries.stat(position) == (1, 0)


@pytest.mark.usefixtures("cifar10")
def test_a_split_depends_only_on_its_seed() -> None:
    np.random.seed(1)  # noqa: NPY002 (the global state must not matter)
    one, again, other = (load_protocol("cifar10-ii", seed=seed) for seed in (3, 3, 4))
    for part in ("queries", "gallery", "training"):
        assert getattr(one, part).ids == getattr(again, part).ids
        assert getattr(one, part).ids != getattr(other, part).ids


def test_an_incomplete_cifar10_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ArrayImages("cifar10:few", np.zeros((90, 1, 1), np.uint8), np.arange(90) % 9, CIFAR_CLASSES)
    monkeypatch.setattr(protocols, "open_images", lambda _: few)
    with pytest.raises(
        DataError, match="a class of CIFAR-10 has 0 pictures left, but the protocol draws 1,000; check that the coll"
    ):
        load_protocol("cifar10-i")


# ---- MIRFLICKR-25000


def mirflickr(root: Path, count: int, members: Callable[[int], list[int]]) -> Path:
    """The layout of mirflickr25k.zip and mirflickr25k_annotations_v080.zip, tags and stricter variants included."""
    (root / "mirflickr" / "meta" / "tags").mkdir(parents=True)
    (root / "mirflickr" / "meta" / "tags" / "tags1.txt").write_text("2007\n")  # a tag, not a picture's number
    notes = root / "mirflickr25k_annotations_v080"
    notes.mkdir()
    (notes / "README.txt").write_text("Annotations of 25000 pictures")
    for column, name in enumerate(MIRFLICKR_CONCEPTS):
        lines = "".join(f"{number}\r\n" for number in members(column))
        (notes / f"{name}.txt").write_text(lines)
        (notes / f"{name}_r1.txt").write_text(lines[: len(lines) // 2])
    for number in range(1, count + 1):
        (root / "mirflickr" / f"im{number}.jpg").touch()
    return root


def test_mirflickr_is_read_from_its_original_layout(tmp_path: Path) -> None:
    root = mirflickr(tmp_path, 11, lambda column: {0: [2, 10], 23: [10, 11]}.get(column, []))
    Image.new("RGB", (4, 4), "red").save(root / "mirflickr" / "im10.jpg")
    images = open_images(f"mirflickr:{root}")
    assert images.ids[:3] == ["mirflickr/im1.jpg", "mirflickr/im2.jpg", "mirflickr/im3.jpg"]  # by number, not by letter
    assert images.ids[9:] == ["mirflickr/im10.jpg", "mirflickr/im11.jpg"]
    assert images.class_names == MIRFLICKR_CONCEPTS
    assert images.labels.shape == (11, 24)
    assert [images.labels[:, column].nonzero()[0].tolist() for column in (0, 1, 23)] == [[1, 9], [], [9, 10]]
    assert images.image(9).size == (4, 4)
    assert images.path(9) == root / "mirflickr" / "im10.jpg"
    assert images.read(9) == images.path(9).read_bytes()
    assert images.stat(0)[0] == 0


def test_mirflickr_with_missing_or_damaged_annotations_is_refused(tmp_path: Path) -> None:
    root = mirflickr(tmp_path, 3, lambda _: [1])
    (root / "mirflickr25k_annotations_v080" / "sky.txt").write_text("one\n")
    with pytest.raises(DataError, match=r"sky\.txt must contain only whole numbers"):
        open_images(f"mirflickr:{root}")
    (root / "mirflickr25k_annotations_v080" / "sky.txt").unlink()
    with pytest.raises(DataError, match=r"lacks the annotations sky\.txt; unpack"):
        open_images(f"mirflickr:{root}")


def test_flickr25k_draws_2000_queries_and_5000_training_pictures(tmp_path: Path) -> None:
    root = mirflickr(tmp_path, 7100, lambda column: list(range(column + 1, 7101, 24)))
    protocol = load_protocol("flickr25k", root=root)
    queries, gallery, training = check(protocol)
    assert (len(queries), len(gallery), len(training), protocol.map_at) == (2000, 5100, 5000, 5000)
    number = int(protocol.queries.ids[7].removeprefix("mirflickr/im").removesuffix(".jpg"))
    assert protocol.queries.labels[7].nonzero()[0].tolist() == [(number - 1) % 24]


def test_flickr25k_of_too_few_pictures_is_refused() -> None:
    split = split_flickr25k(np.ones((9, 2), bool), np.random.default_rng(0), queries=2, training=7)
    assert (len(split.queries), len(split.gallery), len(split.training)) == (2, 7, 7)
    with pytest.raises(DataError, match="MIRFLICKR-25000 has 9 pictures left, but the protocol draws 7,000"):
        split_flickr25k(np.ones((9, 2), bool), np.random.default_rng(0))


# ---- NUS-WIDE


def nuswide(root: Path, labels: np.ndarray) -> Path:
    """The layout of ImageList.zip, Groundtruth.zip and the pictures below Flickr/."""
    every, halves = root / "Groundtruth" / "AllLabels", root / "Groundtruth" / "TrainTestLabels"
    for folder in (root / "ImageList", every, halves, root / "Flickr" / "actor"):
        folder.mkdir(parents=True)
    names = [f"actor\\{number:04d}_{number}.jpg" for number in range(len(labels))]
    (root / "ImageList" / "Imagelist.txt").write_text("".join(f"{name}\r\n" for name in names))
    (root / "ImageList" / "TrainImagelist.txt").write_text(f"{names[0]}\r\n")
    for column in range(labels.shape[1]):
        rows = labels[:, column].astype(int).astype(str)
        (every / f"Labels_c{column:02d}.txt").write_text("\n".join(rows) + "\n")
        (halves / f"Labels_c{column:02d}_Train.txt").write_text("1\n")
    return root


def test_nuswide_is_read_from_its_original_layout(tmp_path: Path) -> None:
    labels = np.zeros((40, 23), bool)
    for column in range(23):
        labels[: 25 - column, column] = True  # concept 0 is the most frequent, 21 and 22 are beyond the 21
    labels[30, 22] = True
    root = nuswide(tmp_path, labels)
    Image.new("RGB", (4, 4), "red").save(root / "Flickr" / "actor" / "0003_3.jpg")
    images = open_images(f"nuswide:{root}")
    assert images.class_names == [f"c{column:02d}" for column in range(21)]
    assert len(images) == 25  # row 30 has a rare concept alone, the others none
    np.testing.assert_array_equal(images.labels, labels[:25, :21])
    assert images.ids[3] == "Flickr/actor/0003_3.jpg"
    assert images.image(3).size == (4, 4)


def test_nuswide_of_unequal_or_too_few_lists_is_refused(tmp_path: Path) -> None:
    root = nuswide(tmp_path, np.ones((5, 21), bool))
    file = root / "Groundtruth" / "AllLabels" / "Labels_c07.txt"
    file.write_text("1\n0\n")
    with pytest.raises(DataError, match=r"Labels_c07\.txt has 2 rows, Imagelist\.txt 5; unpack both again"):
        open_images(f"nuswide:{root}")
    file.unlink()
    with pytest.raises(DataError, match=r"lacks Labels_CONCEPT\.txt files \(20 of at least 21 found\)"):
        open_images(f"nuswide:{root}")


def test_nuswide21_draws_by_concept(tmp_path: Path) -> None:
    labels = np.zeros((21 * 700, 21), bool)
    labels[np.arange(len(labels)), np.arange(len(labels)) % 21] = True
    labels[::10, 0] = True  # some carry two
    protocol = load_protocol("nuswide21", root=nuswide(tmp_path, labels), seed=1)
    queries, gallery, training = check(protocol)
    assert (len(queries), len(training), len(queries | gallery), protocol.map_at) == (2100, 10_500, len(labels), 5000)
    assert (protocol.queries.labels.sum(0) >= 100).all()
    assert (protocol.training.labels.sum(0) >= 500).all()


def test_nuswide21_says_which_concept_has_too_few() -> None:
    labels = np.ones((50, 2), bool)
    labels[3:, 1] = False
    with pytest.raises(DataError, match=r"concept 1 has [0-3] pictures left, but the protocol draws 5"):
        split_nuswide21(labels, np.random.default_rng(0), per_query=5, per_train=1)


# ---- protocols as such


def test_a_split_with_overlapping_parts_is_refused() -> None:
    three = np.arange(3)
    with pytest.raises(DataError, match="queries and gallery overlap"):
        Split(three, three, three)
    with pytest.raises(DataError, match="must come from the gallery"):
        Split(three, three + 3, three)


def test_an_unknown_protocol_or_one_without_its_files_is_a_usage_error() -> None:
    with pytest.raises(
        ConfigError, match="no protocol 'cifar'; there are cifar10-spq, cifar10-i, cifar10-ii, cifar10-all, flickr25k"
    ):
        load_protocol("cifar")
    for name in ("flickr25k", "nuswide21"):
        with pytest.raises(ConfigError, match=f"protocol {name} needs `root`"):
            load_protocol(name)
    assert PROTOCOLS == [
        "cifar10-spq", "cifar10-i", "cifar10-ii", "cifar10-all", "flickr25k", "nuswide21", "imagenet100", "coco",
    ]  # fmt: skip


def test_a_custom_protocol_of_two_named_sets() -> None:
    protocol = custom_protocol("sample:train", "sample:test", 50)
    assert (len(protocol.queries), len(protocol.gallery), protocol.map_at) == (500, 5000, 50)
    assert protocol.training is protocol.gallery


def classes(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / name / "q.png")
    return root


def test_queries_that_are_in_the_gallery_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are the same: sample:test; every query would find itself"):
        custom_protocol("sample:test", "sample:test")
    with pytest.raises(DataError, match="are the same"):
        custom_protocol(photos, f"{photos}/../{photos.name}")
    inner = classes(photos / "inner", "bag", "shirt")
    with pytest.raises(DataError, match=r"have 2 pictures in common: .*inner; every query would find itself"):
        custom_protocol(photos, inner)
    linked = tmp_path / "linked"
    linked.symlink_to(photos)
    with pytest.raises(DataError, match="are the same"):
        custom_protocol(photos, linked)


def test_collections_with_different_classes_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the class 'hat', but the gallery does not; give both the same classes"):
        custom_protocol(photos, classes(tmp_path / "hats", "hat", "bag"))
    bare = classes(tmp_path / "bare", "bag")
    with pytest.raises(
        DataError, match=r"bare has no labels; evaluation needs two class subfolders or more, or a metadata\.csv"
    ):
        custom_protocol(photos, bare)
    (bare / "metadata.csv").write_text("file_name,labels\nbag/q.png,bag|shirt\n")
    with pytest.raises(DataError, match="is multi-label; both must agree"):
        custom_protocol(photos, bare)


def test_multi_label_queries_take_the_columns_of_the_gallery(tmp_path: Path) -> None:
    tables = {"gallery": "bag/q.png,sea|sky\nhat/q.png,boat\n", "queries": "bag/q.png,sky\nhat/q.png,sky|boat\n"}
    for name, rows in tables.items():
        (classes(tmp_path / name, "bag", "hat") / "metadata.csv").write_text(f"file_name,labels\n{rows}")
    protocol = custom_protocol(tmp_path / "gallery", tmp_path / "queries")
    assert protocol.queries.class_names == protocol.gallery.class_names == ["boat", "sea", "sky"]
    assert protocol.queries.labels.tolist() == [[False, False, True], [True, False, True]]


def test_pictures_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    gallery, queries = classes(tmp_path / "gallery", "bag", "hat", "tie"), classes(tmp_path / "queries", "hat", "bag")
    (gallery / "stray.png").write_bytes((gallery / "hat" / "q.png").read_bytes())
    protocol = custom_protocol(gallery, queries)
    assert (protocol.gallery.labels.min(), "stray.png" in protocol.gallery.ids) == (0, False)
    assert protocol.gallery.remarks == [(str(gallery), "1 of 4 pictures have no label and are left out")]
    assert protocol.queries.remarks == []
    names = [protocol.gallery.class_names[label] for label in protocol.queries.labels]
    assert names == [id_.split("/")[0] for id_ in protocol.queries.ids]
