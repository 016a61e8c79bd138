"""The copy of its model inside an index: codebooks at once, the network only when a picture has to be encoded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spq.index.codebooks import check_model, read_codebooks, read_input_size
from spq.index.format import Manifest
from spq.pq.scan import Scan
from spq.pq.tables import decode, distance_tables

if TYPE_CHECKING:
    from spq.model.model import Model

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


class ModelCopy:
    """The model of one index folder, for any number of threads."""

    def __init__(self, folder: Path, manifest: Manifest, model: Model | None = None) -> None:
        self.folder, self.manifest = folder, manifest
        self._model = model
        self._codebooks: Floats | None = None
        self._loading = threading.Lock()

    @property
    def model(self) -> Model:
        """The whole model, loaded once.

        Raises:
            ModelMismatchError: the copy is not the model that the manifest names.
        """
        with self._loading:
            if self._model is None:
                from spq.model.model import Model  # torch takes seconds to load

                loaded = Model.load(self.folder / "model")
                check_model(self.folder, self.manifest.model, loaded.hash)
                self._model = loaded
            return self._model

    @property
    def codebooks(self) -> Floats:
        """(M, K, d), without loading torch."""
        if self._codebooks is None:
            self._codebooks = self._model.codebooks if self._model else read_codebooks(self.folder, self.manifest)
        return self._codebooks

    @property
    def input_size(self) -> int:
        """The side of the pictures that the network sees, in pixels, without loading torch."""
        return self._model.config.input.size if self._model else read_input_size(self.folder)

    def use(self, model: Model) -> None:
        """Take a model that is loaded already.

        Raises:
            ModelMismatchError: it is not the model of this index.
        """
        check_model(self.folder, self.manifest.model, model.hash)
        self._model = self._model or model

    def write(self) -> None:
        """Write a loaded model into the index folder, if the folder has no copy yet."""
        if self._model and not (self.folder / "model" / "config.json").exists():  # the last file that `save` writes
            self._model.save(self.folder / "model")

    def tables(self, x: Floats) -> Floats:
        """Distance tables (Q, M, K) of descriptors (Q, D), in the index's distance."""
        return distance_tables(x, self.codebooks, self.manifest.distance)

    def make_scan(self, codes: Codes) -> Scan:
        """A scan of codes (N, M) of this index."""
        return Scan(codes, self.manifest.codebook_size, lambda some: self.tables(decode(some, self.codebooks)))
