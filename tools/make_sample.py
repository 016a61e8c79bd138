"""Makes the sample in the package: 5,000 + 500 Fashion-MNIST pictures, balanced, as one tiled PNG and labels each.

python tools/make_sample.py FOLDER        # with the four idx files, for example of Debian's dataset-fashion-mnist
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from spq.data.named import read_idx

OUT = Path(__file__).parents[1] / "src" / "spq" / "sample"


def main(folder: Path) -> None:
    rng = np.random.default_rng(2021)
    for split, prefix, count in (("train", "train", 5000), ("test", "t10k", 500)):
        array = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        per_class = [rng.choice(np.flatnonzero(labels == c), count // 10, replace=False) for c in range(10)]
        chosen = rng.permutation(np.concatenate(per_class))
        columns = 50
        tiles = array[chosen].reshape(-1, columns, 28, 28).transpose(0, 2, 1, 3).reshape(-1, columns * 28)
        Image.fromarray(tiles).save(OUT / f"{split}.png", optimize=True)
        (OUT / f"{split}.labels").write_bytes(labels[chosen].tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
