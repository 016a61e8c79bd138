"""The copy of its model inside an index: decoder at once, the network only when a picture has to be encoded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spq.common.files import clear_place
from spq.common.json_file import read_json
from spq.errors import StoreError
from spq.index.codebooks import (
    MEND,
    MODEL_FILES,
    check_model,
    codebooks_check,
    decoder_of,
    files_check,
    read_codebooks,
    read_input_size,
)
from spq.index.manifest import Manifest
from spq.index.side_files import clear_odd
from spq.index.store import Store
from spq.model.own_parts import needed_parts
from spq.pq.scan import Scan
from spq.pq.tables import Decoder
from spq.pq.ties import Ids

if TYPE_CHECKING:
    from spq.model.model import Model

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


class ModelCopy:
    """The model of one index folder, for any number of threads.

    Attributes:
        was_written: whether `keep` has written the copy.
    """

    def __init__(self, folder: Path, manifest: Manifest, model: Model | None = None) -> None:
        self.folder, self.manifest = folder, manifest
        self._model = model
        self._decoder: Decoder | None = None
        self._loading = threading.Lock()
        self._is_kept = False
        self.was_written = False

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
                check_model(self.folder, self.manifest.model, loaded.hash, is_copy=True)
                self._model = loaded
            return self._model

    @property
    def decoder(self) -> Decoder:
        """What decodes codes and makes tables, without loading torch, unless the model has the caller's own quantizer.

        Raises:
            StoreError: such a model is not given.
        """
        if self._decoder is None:
            self._decoder = decoder_of(self._model) if self._model else read_codebooks(self.folder, self.manifest)
        return self._decoder

    @property
    def input_size(self) -> int:
        """The side of the pictures that the network sees, in pixels, without loading torch."""
        return self._model.config.input.size if self._model else read_input_size(self.folder)

    @property
    def can_embed(self) -> bool:
        """Whether pictures can be described: not without a part of the model that only its user has."""
        return self._model is not None or not self._needs_parts_of_the_caller()

    def use(self, model: Model) -> None:
        """Take a model that is loaded already.

        Raises:
            ModelMismatchError: it is not the model of this index.
        """
        check_model(self.folder, self.manifest.model, model.hash)
        self._model = self._model or model

    def keep(self, store: Store) -> None:
        """Make sure that the index folder holds the model, as it was written; record its checksums in the manifest.

        A missing or damaged copy is written again if a model is loaded. An index without pictures may have none yet.

        Raises:
            StoreError, ModelError: the copy is damaged, and no model is loaded.
        """
        if self._is_kept:
            return
        known, found = store.manifest.model_files, files_check(self.folder)
        if not self._model:
            if not known and (not found or self._needs_parts_of_the_caller()):
                return  # the first picture will need a model that the caller gives
            if known and known != found:
                raise StoreError(f"index {self.folder}: its copy of the model is damaged or missing; {MEND}")
        if not known or known != found:
            if self._model:
                if not (self.folder / "model").is_dir():
                    clear_place(self.folder / "model")
                for name in MODEL_FILES:
                    clear_odd(self.folder / "model" / name)  # saving would write through a link, and into a pipe
                self._model.save(self.folder / "model")
                self.was_written = True
            store.set_model_checks(codebooks_check(decoder_of(self.model)), files_check(self.folder))
        self._is_kept = True

    def _needs_parts_of_the_caller(self) -> bool:
        try:
            return bool(needed_parts(read_json(self.folder / "model" / "config.json")))
        except (OSError, ValueError):
            return False

    def tables(self, x: Floats) -> Floats:
        """Distance tables (Q, M, K) of descriptors (Q, D), in the index's distance."""
        return self.decoder.tables(x, self.manifest.distance)

    def make_scan(self, codes: Codes, ids: Ids) -> Scan:
        """A scan of codes (N, M) of this index, of items with these ids (N,)."""
        return Scan(codes, self.manifest.codebook_size, lambda some: self.tables(self.decoder.decode(some)), ids=ids)
