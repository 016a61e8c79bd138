"""Export an index as a static site: a folder of files for any host, searched in the browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from PIL import Image

from spq.common.parallel import batches
from spq.data.open import open_images
from spq.dupes.bands import find_bands
from spq.errors import ConfigError, DataError, ModelError, ModelMismatchError
from spq.index.codebooks import read_codebooks
from spq.index.image_index import ImageIndex
from spq.index.items import Item
from spq.index.originals import Originals
from spq.web.site.content import PAGE, Content
from spq.web.site.runtime import read_runtime
from spq.web.site.site_folder import SiteFolder, check_site, open_site
from spq.web.site.site_page import write_page
from spq.web.site.thumbnail_files import ThumbnailWriter
from spq.web.unusual import Features, unusual_first

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """What a site contains.

    Attributes:
        thumbnail: pixels of a thumbnail's longer side.
        dupes: whether to look for duplicates.
        onnxruntime_web: so that visitors can search by their own pictures: a package, "fetch" to download it, or
            None for a site without.
    """

    thumbnail: int = 256
    dupes: bool = False
    onnxruntime_web: str | None = None

    def __post_init__(self) -> None:
        if not 16 <= self.thumbnail <= 1024:
            raise ConfigError(f"`thumbnail` must be 16 to 1024 pixels, got {self.thumbnail}")


def export_web(folder: Path, out: Path, options: Options, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Write a site, or update one, and return its facts.

    Args:
        progress: called with (what, done, total): thumbnails, the copies that bands are calibrated on, and the steps that look
            for duplicates.
    Raises:
        ConfigError: `out` holds something else, or a package is missing. StoreError, DataError: the index or its collection
            cannot be read, another process writes to `out`, or the disk is full.
    """
    check_site(out)
    if options.onnxruntime_web and find_spec("onnx") is None:
        raise ConfigError(
            "`onnxruntime_web` needs the package onnx, which writes the model; run pip install 'spq-retrieval[onnx]'"
        )
    runtime = read_runtime(options.onnxruntime_web) if options.onnxruntime_web else None
    with ImageIndex.open(folder) as index, index.store.snapshot():
        if not len(index):
            raise DataError(f"index {folder} is empty; add pictures first")
        images = open_images(index.store.manifest.origin)
        codebooks = read_codebooks(folder, index.store.manifest)
        if codebooks.sharing > 1:
            raise ConfigError(
                f"index {folder} has codes of a residual quantizer, which a site cannot search: its page reads distances between "
                "codewords, and those of several stages do not add up; serve the index instead"
            )
        with open_site(out) as site:
            site.begin()
            content, new = _write_pictures(index, images, site, options.thumbnail, progress)
            names = set(content.thumbs) - {""}
            if not names:
                path, reason = content.without[0]
                raise DataError(f"no picture of {images.name} can be shown, for example {path}: {reason}")
            more: dict[str, Any] = {"runtime": None} if runtime is None else _write_model(index, site.content, runtime)
            more["duplicates"] = _write_dupes(index, images, content, progress) if options.dupes else None
            more["bands"] = _find_bands(index, progress)
            has_unusual = _write_unusual(index, content)
            facts = content.finish(index.store, codebooks, more)
            checksum = crc32((site.content / "index.json").read_bytes())
            can = {
                "upload": runtime is not None,
                "duplicates": options.dupes,
                "unusual": has_unusual,
                "checksum": checksum,
            }
            name = site.commit(write_page(site.content, can))
            dropped = site.drop_thumbs(names)
    returned = ("images", "bits", "distance", "model", "runtime", "duplicates")
    return {key: facts[key] for key in returned} | {
        "content": name,
        "thumbnails": {"made": new, "kept": len(names) - new, "dropped": dropped},
        "without": content.without,
    }


def _write_pictures(
    index: ImageIndex, images: ImageSet, site: SiteFolder, size: int, progress: Progress
) -> tuple[Content, int]:
    """Write thumbnails and descriptions of all items. Return the content, and how many thumbnails are new."""
    content, new = Content(site.content, index.store.manifest), 0
    writer = ThumbnailWriter(images, site.thumbs, size)
    with closing(writer.write(batches(index.store.items(), PAGE))) as pages:  # ends its threads also after an error
        for written in pages:
            content.add(written)
            new += written.new
            progress("thumbnails", len(content.ids), len(index))
    content.without += [(f"item {id_}", f"left out: {why}") for id_, why in index.store.damaged.items()]
    return content, new


def _write_unusual(index: ImageIndex, content: Content) -> bool:
    """Write the order of unusual pictures if the features of most are in the cache: else it would take as long as indexing."""
    ids = np.array(content.ids, np.int64)
    try:
        features = Features(index, reads=False)
    except (ModelError, ModelMismatchError):
        return False
    some = ids[:: max(1, len(ids) // 64)]
    if len(features.of(some.tolist())[0]) < len(some) / 2:
        return False
    content.write_order("unusual", unusual_first(ids, features))
    return True


def _write_model(index: ImageIndex, folder: Path, runtime: tuple[str, dict[str, bytes]]) -> dict[str, Any]:
    """Write the model as ONNX and the runtime. Return what the page needs to know of them."""
    from spq.model.onnx import export_onnx

    version, files = runtime
    facts = export_onnx(index.model, folder / "model.onnx")
    (folder / "ort").mkdir()
    for name, data in files.items():
        (folder / "ort" / name).write_bytes(data)
    return {"runtime": version, "image_size": facts["image_size"]}


def _write_dupes(index: ImageIndex, images: ImageSet, content: Content, progress: Progress) -> int:
    """Write the report as in the answer of /api/duplicates. Return the number of groups."""
    from spq.dupes.find import find_duplicates
    from spq.dupes.groups import SPARE
    from spq.web.view import report_json

    report = find_duplicates(index, images, progress=progress)
    ids = {member.id for group in report.groups for member in (group.keep, *group.others)}
    found = report_json(report, max(index.store.revision(), 0), index.store.items_by_id(ids)) | {"stale": False}
    thumbs = dict(zip(content.ids, content.thumbs, strict=True))
    for group in found["groups"]:
        del group["hashes"]
        group["suggested"] = [item["id"] for item in group["items"] if item["keep"] != SPARE]
        group["decision"] = {"choice": "open", "keep": [], "stays": [], "revision": 0, "outdated": False}
        for item in group["items"]:
            item["thumb"] = thumbs[item["id"]]
    (content.folder / "duplicates.json").write_text(json.dumps(found, separators=(",", ":")), "utf-8")
    return len(report.groups)


def _find_bands(index: ImageIndex, progress: Progress) -> dict[str, Any] | None:
    """The bands as in the answer of /api/bands; none if the model does not load."""
    originals = Originals(index.store.manifest.origin)

    def read(item: Item, side: int) -> Image.Image:
        data, decode = originals.unchanged(item)
        return decode(data, side)

    try:
        found = find_bands(index, read, progress)
    except (ModelError, ModelMismatchError):  # the codes are there, and a site needs nothing else
        return None
    return None if found is None else asdict(found)
