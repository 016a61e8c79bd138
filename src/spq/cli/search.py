"""`spq search`: what the options ask for, the answers as lines, and the contact sheet."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

    from spq.data.image_set import ImageSet
    from spq.index.image_index import Hit, ImageIndex
    from spq.index.query import Box

SHOWN = 256  # pixels of a side that the contact sheet needs


@dataclass(frozen=True)
class Asked:
    """The pictures of a command line: `-` is stdin."""

    images: Sequence[str]
    ids: Sequence[int]
    negative: Sequence[str]
    box: Box | None = None
    weights: Sequence[float] | None = None  # of images, ids and negatives, in this order

    def __post_init__(self) -> None:
        if not self.images and not self.ids:
            raise ConfigError("nothing to be like; give an IMAGE, or --id with an id of `spq search --json`")
        if [*self.images, *self.negative].count("-") > 1:
            raise ConfigError("stdin can be read once; give - one time")
        if self.box and (self.ids or len(self.images) != 1):
            raise ConfigError("--box belongs to one picture; give one IMAGE and no --id")
        count = len(self.images) + len(self.ids) + len(self.negative)
        if self.weights is not None and len(self.weights) != count:
            raise ConfigError(
                f"--weights has {len(self.weights)} for {count} pictures; give one for each IMAGE, --id, --not"
            )


def parse_box(text: str | None) -> Box | None:
    """
    >>> parse_box("10,20,100,80")
    (10, 20, 100, 80)
    """
    if text is None:
        return None
    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError:
        raise ConfigError(f"--box {text} is not x,y,width,height in pixels; write --box 10,20,100,80") from None
    return x, y, width, height


def parse_weights(text: str | None) -> list[float] | None:
    """
    >>> parse_weights("1,2,0.5")
    [1.0, 2.0, 0.5]
    """
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--weights {text} is not numbers; write --weights 1,2,0.5") from None


def run_search(index: ImageIndex, asked: Asked, top: int, html: Path | None, options: dict[str, Any]) -> list[Hit]:
    """The hits; the contact sheet goes to `html`.

    Raises:
        ImageError, ConfigError, StoreError: as `ImageIndex.search`; a wrong path before the model is loaded.
    """
    from spq.data.decode import load_image

    content = {"-": sys.stdin.buffer.read()} if "-" in [*asked.images, *asked.negative] else {}
    sources = [content.get(name, name) for name in [*asked.images, *asked.negative]]
    shown = [load_image(source, None if asked.box else SHOWN) for source in sources]
    positive, negative = sources[: len(asked.images)], sources[len(asked.images) :]
    found = index.search(
        [*positive, *asked.ids],
        top,
        negative=negative,
        weights=asked.weights,
        box=asked.box,
        exclude=asked.ids,
        **options,
    )
    if html:
        _write_sheet(html, index, asked, shown, found)
    return found


def line(hit: Hit, as_json: bool, fold: bool) -> str:
    """A hit for stdout. In JSON `folded` is there whenever folding was asked for."""
    from spq.common.text import printable

    if as_json:
        return json.dumps({key: value for key, value in asdict(hit).items() if fold or key != "folded"})
    more = f"  (and {len(hit.folded)} of the same code)" if hit.folded else ""
    return f"{hit.rank:4d}  {hit.distance:10.4f}  {printable(hit.path)}{more}"


def _write_sheet(html: Path, index: ImageIndex, asked: Asked, shown: list[Image.Image], found: Sequence[Hit]) -> None:
    from spq.cli.reports.contact_sheet import Row, answers, write_html
    from spq.data.open import open_images
    from spq.index.query import cut

    images = open_images(index.store.manifest.source)
    if asked.box:
        shown[0] = cut(shown[0], asked.box)
    captions = ["query" if name == "-" else Path(name).name for name in [*asked.images, *asked.negative]]
    positive = [*zip(shown, captions[: len(asked.images)], strict=False), *_of_ids(index, asked.ids, images)]
    negative = [(image, f"not {name}") for image, name in list(zip(shown, captions, strict=True))[len(asked.images) :]]
    (image, caption), *more = positive + negative
    title = f"{len(index):,} pictures, {index.store.manifest.bits} bits each"
    first = found[0].rank if found else 1
    write_html(html, [Row(image, caption, answers(images, found), more, first)], title)


def _of_ids(index: ImageIndex, ids: Sequence[int], images: ImageSet) -> list[tuple[Image.Image, str]]:
    position = {name: p for p, name in enumerate(images.ids)}
    paths = index.store.paths(ids)
    gone = next((paths[i] for i in ids if paths[i] not in position), None)
    if gone:
        raise DataError(f"{images.name} no longer holds {gone}; restore it, or leave --html away")
    return [(images.image(position[paths[i]], SHOWN), paths[i]) for i in ids]
