"""Index a folder of pictures and search it by one of them.

python examples/index_and_search.py photos/ photos/a.jpg
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from spq import SPQ, ImageIndex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("query")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training")
    parser.add_argument("--recipe", default="spq")
    parser.add_argument("--top", type=int, default=10)
    options = parser.parse_args()

    model = SPQ.train(options.photos, recipe=options.recipe, bits=64, minutes=options.minutes)
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex.build(Path(folder) / "index", model, options.photos) as index,
    ):
        print(f"{len(index)} pictures, {index.info()['bytes_per_image']} bytes each")
        for hit in index.search(options.query, top=options.top):
            print(f"{hit.rank:3d}  {hit.distance:.4f}  {hit.path}")


if __name__ == "__main__":
    main()
