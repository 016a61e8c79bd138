"""Read the codes of an export and rank all pictures for one of them, with NumPy alone.

spq export photos.index --to codes --out photos.npz
python examples/read_codes_with_numpy.py photos.npz shoes/1.jpg
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export")
    parser.add_argument("path", help="a picture of the index")
    parser.add_argument("--top", type=int, default=10)
    options = parser.parse_args()

    data = np.load(options.export)
    text, ends = data["paths"].tobytes(), data["path_offsets"]
    paths = [text[a:b].decode("utf-8", "replace") for a, b in itertools.pairwise(ends)]
    codes, codebooks, distance = data["codes"], data["codebooks"], str(data["distance"])
    M, _, d = codebooks.shape

    x = codebooks[np.arange(M), codes[paths.index(options.path)]].reshape(M, 1, d)  # what its code stands for
    table = -(x * codebooks).sum(2) if distance == "dot" else np.square(x - codebooks).sum(2)  # (M, K)
    table = np.sqrt(table) if distance == "l2" else table
    distances = table[np.arange(M), codes].sum(1)  # (N,)
    for row in np.argsort(distances, kind="stable")[: options.top]:
        print(f"{distances[row]:.4f}  {paths[row]}")


if __name__ == "__main__":
    main()
