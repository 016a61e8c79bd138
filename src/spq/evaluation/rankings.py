"""Stored rankings: the answers of each query, to be scored again without the model (`Report.from_rankings`).

They are one .npz file without pickle.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spq.common.files import Replacing
from spq.data.decode import first_line
from spq.errors import DataError

FORMAT = 1
ARRAYS = ("rows", "distances", "query_labels", "gallery_labels", "query_ids", "gallery_ids")
FACTS = {"protocol": str, "map_at": int, "bits": int, "distance": str, "model": str, "split": str, "unreadable": int}


@dataclass(frozen=True)
class Rankings:
    """The first answers of each query.

    Attributes:
        rows: (Q, top) int32 positions in the gallery, best first. distances: (Q, top) float32 to the query.
        query_labels, gallery_labels: as an `ImageSet` has them. query_ids, gallery_ids: of the readable pictures with a label.
        facts: protocol, split, map_at, bits, distance, model and unreadable, as a `Report` has them, and perhaps split_seed.
    """

    rows: NDArray[np.int32]
    distances: NDArray[np.float32]
    query_labels: NDArray[Any]
    gallery_labels: NDArray[Any]
    query_ids: NDArray[np.str_]
    gallery_ids: NDArray[np.str_]
    facts: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Write an .npz file: the arrays of this class by name, and the facts as JSON."""
        facts = json.dumps({"format": FORMAT, **self.facts})
        with Replacing(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, facts=np.array(facts), **{name: getattr(self, name) for name in ARRAYS})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            DataError: there is none, it is damaged, or it has another format.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as content:
                facts = json.loads(str(content["facts"]))
                found = cls(**{name: content[name] for name in ARRAYS}, facts=facts)
            if facts.pop("format") != FORMAT:
                raise DataError(f"{path} holds rankings of another format than {FORMAT}; evaluate again with this spq")
            found._check()
            return found
        except FileNotFoundError:
            raise DataError(f"no rankings at {path}; check the path") from None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise DataError(f"{path} holds no rankings of spq ({first_line(error)}); evaluate again") from None

    def _check(self) -> None:
        """Raise ValueError if the arrays do not belong together."""
        Q, N = len(self.query_labels), len(self.gallery_labels)
        if self.rows.ndim != 2 or self.rows.dtype.kind != "i" or self.rows.shape != self.distances.shape:
            raise ValueError("rows and distances have different shapes")
        if len(self.rows) != Q or len(self.query_ids) != Q or len(self.gallery_ids) != N:
            raise ValueError("labels and ids are of other pictures")
        if self.rows.size and not 0 <= self.rows.min() <= self.rows.max() < N:
            raise ValueError("a row is not in the gallery")
        if any(not isinstance(self.facts.get(name), kind) for name, kind in FACTS.items()):
            raise ValueError("a fact is missing")
