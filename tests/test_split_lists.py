"""List files of published splits, in the forms of DeepHash, HashNet and MeCoQ, on miniatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.data import protocols
from spq.data.protocols import PROTOCOLS, load_protocol
from spq.data.split_lists import find_pool, find_split
from spq.errors import ConfigError, DataError

NAMES = [f"images/p{number}.png" for number in range(12)]


def line(number: int) -> str:
    """A picture with label `number % 3`, and with label 0 too if its number is even."""
    row = [number % 3 == column or (column == 0 and number % 2 == 0) for column in range(3)]
    return " ".join("1" if one else "0" for one in row)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve pictures, their split as DeepHash publishes it: 3 queries, 9 in the gallery, 4 of these to train on."""
    (tmp_path / "images").mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (4, 4), (20 * number, 0, 0)).save(tmp_path / name)
    for part, numbers in (("test", range(3)), ("database", range(3, 12)), ("train", range(4, 8))):
        write(tmp_path / f"{part}.txt", numbers)
    return tmp_path


def write(file: Path, numbers: range, prefix: str = "") -> None:
    file.write_text("".join(f"{prefix}{NAMES[number]} {line(number)}\n" for number in numbers))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_protocol_takes_the_split_of_lists(name: str, root: Path) -> None:
    protocol = load_protocol(name, root=root, seed=7)
    assert protocol.queries.ids == NAMES[:3]
    assert protocol.gallery.ids == NAMES[3:]
    assert protocol.training.ids == NAMES[4:8]
    assert protocol.queries.labels is not None
    assert protocol.queries.labels.tolist() == [[True, False, False], [False, True, False], [True, False, True]]
    assert protocol.gallery.image(2).getpixel((0, 0)) == (100, 0, 0)
    assert protocol.split_seed is None  # the lists decide
    assert protocol.map_at == {"cifar10-all": 9, "flickr25k": 5000, "nuswide21": 5000, "coco": 5000}.get(name, 1000)
    record = {"name": name, "split": protocol.split, "training": protocol.training_hash}
    assert protocol.training.protocol == record
    remarks = [remark for _, remark in protocol.queries.remarks]
    assert remarks[0] == "the split is that of the lists test.txt, database.txt, train.txt"
    sizes = {"imagenet100": "5,000, 128,503, 13,000", "coco": "5,000, 117,218, 10,000"}
    expected = f"3, 9, 4 queries, gallery and training pictures; those of {name} have {sizes.get(name)}"
    assert remarks[1:] == ([expected] if name in sizes else [])


def test_lists_in_numbered_pieces_with_paths_of_another_machine(root: Path) -> None:
    """HashNet's: `test/database0.txt` and so on, absolute paths."""
    for file in root.glob("*.txt"):
        file.unlink()
    (root / "test").mkdir()
    there = "/home/somebody/dataset/coco/"
    write(root / "test" / "test0.txt", range(3), there)
    for piece, numbers in ((10, range(10, 12)), (0, range(3, 6)), (2, range(6, 10))):
        write(root / "test" / f"database{piece}.txt", numbers, there)
    write(root / "train.txt", range(4, 8), there)
    split = find_split(root)
    assert split
    assert (split.queries.ids, split.gallery.ids, split.training.ids) == (NAMES[:3], NAMES[3:], NAMES[4:8])


def test_one_label_column_is_a_class_number_and_a_path_may_have_spaces(root: Path) -> None:
    (root / "a 1 b.png").write_bytes((root / NAMES[0]).read_bytes())
    (root / "test.txt").write_text("a 1 b.png 2\n\n./images/p1.png\t0\r\n")
    (root / "database.txt").write_text("images\\p2.png 11\n")
    (root / "train.txt").unlink()
    split = find_split(root)
    assert split
    assert split.queries.ids == ["a 1 b.png", "images/p1.png"]
    assert split.queries.labels is not None
    assert split.queries.labels.tolist() == [2, 0]
    assert split.gallery.ids == ["images/p2.png"]
    assert split.training is split.gallery
    assert "no train.txt, so the gallery is the training set" in [remark for _, remark in split.training.remarks]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "test.txt",
            "images/p0.png 1 0 0\nimages/p1.png 1 0\n",
            "test.txt, line 2: expected a path and 3 labels of 0 or 1",
        ),
        ("test.txt", "images/p0.png 1 0 0\nimages/p1.png 1 0 2\n", "test.txt, line 2: expected a path and 3 labels"),
        ("test.txt", "images/p0.png\n", "test.txt, line 1: expected a path and its labels, such as a/b.jpg 0 1 0"),
        (
            "database.txt",
            "images/p5.png 1 0 0\nimages/p1.png 1 0 0\n",
            "database.txt, line 2: images/p1.png is a query too",
        ),
        ("train.txt", "images/p2.png 1 0 0\n", "train.txt, line 1: images/p2.png is a query too"),
        (
            "train.txt",
            "images/p5.png 1 0 0\n\nimages/p5.png 1 0 0\n",
            "line 3: images/p5.png is listed before, in line 1",
        ),
        ("database.txt", "images/none.png 1 0 0\n", "database.txt, line 1: images/none.png is not below"),
        ("database.txt", "", "database.txt is empty"),
    ],
)
def test_a_damaged_list_is_refused_by_file_and_line(root: Path, file: str, text: str, message: str) -> None:
    (root / file).write_text(text)
    with pytest.raises(DataError) as error:
        find_split(root)
    assert message in str(error.value)


def test_a_split_without_its_gallery_is_refused(root: Path) -> None:
    (root / "database.txt").unlink()
    with pytest.raises(DataError, match=r"has lists of a split, but no database\.txt; copy it there too"):
        find_split(root)


@pytest.fixture
def pool(root: Path) -> Callable[[int], Path]:
    """As MeCoQ publishes Flickr25k: names in one file, labels in another, pictures in a folder of their own."""

    def make(count: int) -> Path:
        for file in root.glob("*.txt"):
            file.unlink()
        (root / "img.txt").write_text("p0.png\n" + "".join(f"im{number}.png\n" for number in range(1, count)))
        (root / "targets.txt").write_text("".join(f"{line(number)}\n" for number in range(count)))
        return root

    return make


def test_flickr25k_is_drawn_from_a_listed_pool(pool: Callable[[int], Path]) -> None:
    folder = pool(7100)
    protocol = load_protocol("flickr25k", root=folder, seed=3)
    assert (len(protocol.queries), len(protocol.gallery), len(protocol.training)) == (2000, 5100, 5000)
    record = {"name": "flickr25k", "split": protocol.split, "training": protocol.training_hash, "split_seed": 3}
    assert protocol.training.protocol == record
    assert protocol.split == load_protocol("flickr25k", root=folder, seed=3).split
    assert protocol.split != load_protocol("flickr25k", root=folder, seed=4).split
    found = find_pool(folder)
    assert found
    assert found.ids[:2] == ["images/p0.png", "images/im1.png"]


def test_a_pool_whose_files_differ_in_length_is_refused(pool: Callable[[int], Path]) -> None:
    folder = pool(10)
    (folder / "targets.txt").write_text("1 0 0\n")
    with pytest.raises(DataError, match=r"img\.txt has 10 lines and targets\.txt 1; copy both again"):
        find_pool(folder)


@pytest.mark.parametrize("name", ["imagenet100", "coco", "cifar10-ii"])
def test_a_folder_without_lists_is_refused(name: str, tmp_path: Path) -> None:
    assert find_split(tmp_path) is None
    assert find_pool(tmp_path / "nowhere") is None
    with pytest.raises(DataError, match=rf"has no lists of {name}; put test\.txt, database\.txt and train\.txt there"):
        load_protocol(name, root=tmp_path)
    if name != "cifar10-ii":
        with pytest.raises(
            ConfigError, match=f"protocol {name} needs `root`, the folder with its pictures and the lists"
        ):
            load_protocol(name)


def test_cifar10_all_has_the_queries_of_cifar10_ii_and_ranks_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from test_protocols import fake_cifar10

    monkeypatch.setattr(protocols, "open_images", fake_cifar10)
    everything, first_thousand = load_protocol("cifar10-all", seed=2), load_protocol("cifar10-ii", seed=2)
    assert everything.split == first_thousand.split == load_protocol("cifar10-i", seed=2).split
    assert everything.training_hash == first_thousand.training_hash != load_protocol("cifar10-i", seed=2).training_hash
    assert (everything.map_at, len(everything.queries), len(everything.training)) == (50_000, 10_000, 5000)
    assert np.bincount(everything.queries.labels).tolist() == [1000] * 10
