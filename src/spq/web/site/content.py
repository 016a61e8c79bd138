"""The files that a browser needs of an index: codes to search, and descriptions in small pages that load when shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from spq.errors import StoreError
from spq.index.store import Manifest, Store
from spq.pq import projection
from spq.pq.sums import pack
from spq.pq.tables import Codebooks
from spq.web.layout import Layout, follow, layout_file, read_layout
from spq.web.site.columns import write_columns
from spq.web.site.thumbnail_files import Written
from spq.web.view import ON_MAP, ORDERS, facts, facts_of_codes

PAGE = 64  # descriptions in a file; few, because each hit may be in another file
PAGES = 256  # files in a folder
Floats = NDArray[np.float32]


class Content:
    """Writes into `folder`: first items, in the order of ids, then with `finish` the files about all of them."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.ids: list[int] = []
        self.codes = bytearray()  # M each
        self.thumbs: list[str] = []  # names; "" for none
        self.without: list[tuple[str, str]] = []  # (path, reason) of each picture without a thumbnail

    def add(self, page: Written) -> None:
        """Write a page of items. All pages except the last have PAGE items."""
        described = []
        for item, name, reason in zip(page.items, page.names, page.reasons, strict=True):
            assert item.code is not None  # items without a code are not exported
            self.ids.append(item.id)
            self.codes += item.code.tobytes()
            self.thumbs.append(name)
            fields = {key: value for key, value in facts(item).items() if key != "code"}
            described.append(fields | {"thumb": name})
            if reason:
                self.without.append((item.path, reason))
        number = (len(self.ids) - 1) // PAGE
        target = self.folder / _page_name(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(described, separators=(",", ":")), "utf-8")

    def finish(self, store: Store, codebooks: Codebooks, more: dict[str, Any]) -> dict[str, Any]:
        """Write codes, codebooks, orders, the map, and `index.json` with `more` facts. Return these facts."""
        ids, M = np.array(self.ids, np.int64), self.manifest.num_codebooks
        if ids.max(initial=0) >= 2**32:
            raise StoreError(
                f"index {store.folder} has ids beyond {2**32 - 1:,}, which a site cannot hold; make a new index"
            )
        codes = np.frombuffer(self.codes, np.uint8).reshape(-1, M)
        self._write("ids", ids.astype("<u4"))
        self._write("codes", pack(codes, self.manifest.codebook_size))
        self._write("codebooks", codebooks.words.astype("<f4"))
        self._write("tables", tables_of_codewords(codebooks, self.manifest.distance).astype("<f4"))
        for name in ("path", "time", "new"):
            by = ORDERS[name if name != "new" or store.revision() >= 0 else "last"]
            self.write_order(name, store.ids(f"SELECT id FROM items WHERE status = 0 ORDER BY {by}"))
        before = read_layout(layout_file(self.manifest, store.folder))
        self._write_map(ids, codes, codebooks, before)
        content = self._facts(store) | more | {"checksums": self._checksums()}
        (self.folder / "index.json").write_text(json.dumps(content, indent=1, sort_keys=True), "utf-8")
        return content

    def write_order(self, name: str, ordered: NDArray[np.int64]) -> None:
        """Write the ids of all items in an order, as rows; without damaged items, which were passed over."""
        ids = np.array(self.ids, np.int64)
        self._write(f"order-{name}", np.searchsorted(ids, ordered[np.isin(ordered, ids)]).astype("<u4"))

    def _write_map(
        self, ids: NDArray[np.int64], codes: NDArray[np.uint8], codebooks: Codebooks, before: Layout | None
    ) -> None:
        """Write the places of pictures: by neighbours, if the server has computed them for most of these pictures."""
        rows = projection.sample(ids, ON_MAP)
        layout = follow(before, ids[rows], codes[rows], codebooks) if before else None
        points = layout.points if layout else projection.project(codes[rows], codebooks)
        names = np.array([int(self.thumbs[row] or "0", 16) for row in rows], ">u8")
        self._write("map", rows.astype("<u4"), points[:, 0].astype("<f4"), points[:, 1].astype("<f4"), names)

    def _facts(self, store: Store) -> dict[str, Any]:
        """Return facts as in the answer of /api/status, and the sizes of pages and folders."""
        return {
            **facts_of_codes(store),
            "images": len(self.ids),
            "unreadable": len(store.unreadable()),
            "generation": max(store.revision(), 0),
            "columns": write_columns(store, self.ids, self.folder / "columns"),
            "page": PAGE,
            "pages": PAGES,
        }

    def _checksums(self) -> dict[str, int]:
        """Return the checksum of each file that answers come from, and write those of the descriptions into a file."""
        pages = [self.folder / _page_name(number) for number in range(-(-len(self.ids) // PAGE))]
        self._write("items", np.array([crc32(page.read_bytes()) for page in pages], "<u4"))
        files = [file for file in self.folder.rglob("*") if file.suffix in (".bin", ".json", ".onnx")]
        return {
            file.relative_to(self.folder).as_posix(): crc32(file.read_bytes())
            for file in sorted(set(files).difference(pages))
        }

    def _write(self, name: str, *columns: NDArray[Any]) -> None:
        """Write columns one after the other into a file."""
        (self.folder / f"{name}.bin").write_bytes(b"".join(column.tobytes() for column in columns))


def _page_name(number: int) -> str:
    return f"items/{number // PAGES}/{number}.json"


def tables_of_codewords(codebooks: Codebooks, distance: str) -> Floats:
    """Return (K, M, K) distances: entry [k, m] holds the distances from codeword k of codebook m to all its codewords.

    The browser takes the table of an item from these, so it adds up the same numbers as a search in Python by an id.
    """
    M, K, _ = codebooks.words.shape
    same = np.repeat(np.arange(K, dtype=np.uint8)[:, None], M, 1)
    return codebooks.tables(codebooks.decode(same), distance)
