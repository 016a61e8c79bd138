"""`spq search`: from names and options to a search request, and from hits to lines and a contact sheet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

    from spq.data.image_set import ImageSet
    from spq.index.answers import Hit
    from spq.index.image_index import ImageIndex
    from spq.index.request import Box, SearchRequest

SHOWN = 256  # pixels of a side of a picture on the contact sheet


@dataclass(frozen=True)
class QueryNames:
    """The pictures of a command line: files, or `-` for stdin, and ids."""

    images: Sequence[str]
    ids: Sequence[int]
    negative: Sequence[str]

    def __post_init__(self) -> None:
        if not self.images and not self.ids:
            raise ConfigError("the search has no query; give an IMAGE, or --id with an id of `spq search --json`")
        if [*self.images, *self.negative].count("-") > 1:
            raise ConfigError("stdin can be read once; give - one time")


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


def read_request(
    names: QueryNames,
    index: ImageIndex,
    options: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda *_: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> SearchRequest:
    """The request of a command line, with each picture decoded, once.

    Args:
        options: of `SearchRequest`.
        progress: called with (pictures read, pictures to read).
        on_note: told of items that are compared by their codes, not by their pictures.
    Raises:
        ImageError: a picture cannot be read. ConfigError: as `SearchRequest`.
    """
    from spq.data.decode import load_image
    from spq.index.request import SearchRequest

    size = index.model_copy.input_size  # of the pictures that the model sees
    stdin = sys.stdin.buffer.read() if "-" in [*names.images, *names.negative] else b""

    read, total = count(1), len(names.images) + len(names.negative)

    def load(name: str, size: int | None) -> Image.Image:
        picture = load_image(stdin, size, "standard input") if name == "-" else load_image(name, size)
        progress(next(read), total)
        return picture

    in_full = options["box"] is not None  # a box counts the pixels of the full picture
    pictures = [load(name, None if in_full else size) for name in names.images]
    negative = [load(name, size) for name in names.negative]
    items = [index.like(id_, None if in_full else size) for id_ in names.ids]
    for id_ in items:
        if isinstance(id_, int) and index.model_copy.can_embed:
            on_note(
                f"--id {id_}: its picture cannot be read or has changed, so spq compares its code; update the index"
            )
    return SearchRequest([[*pictures, *items]], negative=negative, exclude=names.ids, **options)


def line(hit: Hit, as_json: bool, fold: bool, file_of: Callable[[str], str]) -> str:
    """Format a hit as a line of stdout. In JSON, `folded` is present whenever --fold is given.

    Args:
        file_of: path in the index -> absolute path.
    """
    from spq.cli.file_paths import file_fields
    from spq.common.text import printable

    if as_json:
        facts = {key: value for key, value in asdict(hit).items() if fold or key != "folded"}
        return json.dumps(facts | file_fields(file_of(hit.path)))
    more = f"  (and {len(hit.folded)} of the same code)" if hit.folded else ""
    return f"{hit.rank:4d}  {hit.distance:10.4f}  {printable(hit.path)}{more}"


def write_sheet(path: Path, index: ImageIndex, names: QueryNames, request: SearchRequest, hits: Sequence[Hit]) -> None:
    """Write the contact sheet: the pictures of the request, as they were decoded for it, and the hits."""
    from spq.cli.reports.contact_sheet import Row, answers, write_html
    from spq.data.open import open_images
    from spq.index.query import query_pictures

    images = open_images(index.store.manifest.origin)
    pictures: list[Any] = query_pictures(request)
    captions = ["query" if name == "-" else Path(name).name for name in names.images]
    negative_captions = [f"not {'query' if name == '-' else Path(name).name}" for name in names.negative]
    shown = [
        *zip(pictures, captions, strict=False),
        *_of_ids(index, names.ids, images),
        *zip(pictures[len(pictures) - len(negative_captions) :], negative_captions, strict=True),
    ]
    (image, caption), *more = shown
    title = f"{len(index):,} pictures, {index.store.manifest.bits} bits each"
    first = hits[0].rank if hits else 1
    write_html(path, [Row(image, caption, answers(images, hits), more, first)], title)


def _of_ids(index: ImageIndex, ids: Sequence[int], images: ImageSet) -> list[tuple[Image.Image, str]]:
    position = {name: p for p, name in enumerate(images.ids)}
    paths = index.store.paths(ids)
    lost = next((paths[i] for i in ids if paths[i] not in position), None)
    if lost:
        raise DataError(f"{images.name} no longer holds {lost}; restore it, or omit --html")
    return [(images.image(position[paths[i]], SHOWN), paths[i]) for i in ids]
