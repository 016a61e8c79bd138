"""Named sets: CIFAR-10 and Fashion-MNIST, below $SPQ_DATA or downloaded, and the sample of the package."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import importlib.resources
import io
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.common.files import expanded, user_cache
from spq.common.timeout import answer_within
from spq.data.decode import first_line, load_image
from spq.data.image_set import ImageSet
from spq.data.parquet import ParquetImages
from spq.errors import DataError

# fmt: off
FASHION_CLASSES = [
    "t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]
# fmt: on
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SECONDS = 4.0  # to wait for the first answer of a download
DOWNLOADS = {  # where torchvision downloads from, and the folder that it makes
    "CIFAR10": ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "FashionMNIST": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", "FashionMNIST"),
}
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist


class ArrayImages(ImageSet):
    """Pictures in one array: (N, H, W) or (N, H, W, 3) uint8."""

    def __init__(self, name: str, array: NDArray[np.uint8], labels: NDArray[np.int64], class_names: list[str]) -> None:
        width = len(str(len(array) - 1))
        super().__init__(name, [f"{position:0{width}d}" for position in range(len(array))], labels, class_names)
        self.array = array

    def rgba(self, position: int) -> Image.Image:
        return self.image(position).convert("RGBA")

    def read(self, position: int) -> bytes:
        data: bytes = self.array[position].tobytes()
        return data

    def decode(self, position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        return load_image(np.frombuffer(data, np.uint8).reshape(self.array.shape[1:]))

    def stat(self, position: int) -> tuple[int, int]:
        return self.array[position].nbytes, 0


def open_named(kind: str, split: str) -> ImageSet:
    """Open `kind:split`, for example cifar10:train.

    Raises:
        DataError: an unknown split, or the set is neither on disk nor downloadable.
    """
    if split not in ("train", "test"):
        raise DataError(f"{kind}:{split} has no such part; use {kind}:train or {kind}:test")
    return SETS[kind](split)


def _cifar10(split: str) -> ImageSet:
    local = _local("cifar10", f"{split}.parquet")
    if local:
        images: ImageSet = ParquetImages(f"cifar10:{split}", [local])
        images.class_names = CIFAR_CLASSES
        return images
    dataset = _fetch("CIFAR10", split)
    return ArrayImages(f"cifar10:{split}", dataset.data, np.array(dataset.targets, np.int64), CIFAR_CLASSES)


def _fashion_mnist(split: str) -> ImageSet:
    prefix = "train" if split == "train" else "t10k"
    debian = DEBIAN_FASHION / f"{prefix}-images-idx3-ubyte.gz"
    local = _local("fashion-mnist", debian.name) or (debian if debian.exists() else None)
    if local:
        labels = read_idx(local.with_name(f"{prefix}-labels-idx1-ubyte.gz")).astype(np.int64)
        return ArrayImages(f"fashion-mnist:{split}", read_idx(local), labels, FASHION_CLASSES)
    dataset = _fetch("FashionMNIST", split)
    return ArrayImages(f"fashion-mnist:{split}", dataset.data.numpy(), dataset.targets.numpy(), FASHION_CLASSES)


def _sample(split: str) -> ImageSet:
    """Open 5,000 or 500 Fashion-MNIST pictures, the tiles of one PNG that tools/make_sample.py made."""
    folder = importlib.resources.files("spq") / "sample"
    with Image.open(io.BytesIO((folder / f"{split}.png").read_bytes())) as sheet:
        tiles = np.asarray(sheet)
    rows, columns = tiles.shape[0] // 28, tiles.shape[1] // 28
    array = tiles.reshape(rows, 28, columns, 28).transpose(0, 2, 1, 3).reshape(-1, 28, 28)
    labels = np.frombuffer((folder / f"{split}.labels").read_bytes(), np.uint8).astype(np.int64)
    return ArrayImages(f"sample:{split}", array, labels, FASHION_CLASSES)


SETS: dict[str, Callable[[str], ImageSet]] = {"cifar10": _cifar10, "fashion-mnist": _fashion_mnist, "sample": _sample}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes, the format of MNIST.

    Raises:
        DataError: the file is damaged or has another format.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        ndim = content[3]
        shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(ndim)]
        if content[:3] != b"\0\0\x08":
            raise ValueError("not IDX of unsigned bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged ({error}); download it again") from None


def _local(kind: str, file: str) -> Path | None:
    """Return a set's file below $SPQ_DATA if it exists."""
    value = os.environ.get("SPQ_DATA")
    path = expanded(value) / kind / file if value else None
    return path if path and path.exists() else None


def _fetch(name: str, split: str) -> Any:
    root, (url, folder) = user_cache(), DOWNLOADS[name]
    try:
        if not (root / folder).exists():
            answer_within(SECONDS, lambda: _ask(url))
        import torchvision.datasets  # slow to import

        return getattr(torchvision.datasets, name)(root, train=split == "train", download=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataError(
            f"{name} is not below $SPQ_DATA, and the download failed ({first_line(error)}); set SPQ_DATA to a folder "
            "that contains it"
        ) from None


def _ask(url: str) -> None:
    """Return if a server answers at all; torchvision would wait for it without end."""
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(url, timeout=SECONDS).close()
