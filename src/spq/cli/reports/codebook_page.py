"""One HTML file about the codes: which pictures share a codeword, and how much each codebook adds to a distance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.cli.describe import counted
from spq.cli.reports.contact_sheet import data_uri, escaped, figure, write_page
from spq.common.text import printable
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import DataError, ImageError
from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.pq.codewords import usage
from spq.training.fidelity import evenly_spaced

PICTURES = 1000  # sample size, evenly spread over the collection
GALLERIES, SHOWN = 256, 6  # codewords on the page, and pictures of each
QUERIES, ANSWERS = 8, 5
HIGHEST = 1.25  # value of a bar at full height, relative to a random pair
SIDE = 80  # pixels of a thumbnail
_HEADS = [
    "bits", "codewords in use", "dead", "entropy", "variance lost", "copies find their original first", "in 10", "top 10 kept",
]  # fmt: skip
Near = Callable[[int], list[tuple[str, NDArray[np.uint8]]]]  # sample row -> paths and codes of its nearest neighbours


@dataclass(frozen=True)
class Sample:
    """Some pictures of a collection: their positions in it (n,), descriptors (n, D) and codes (n, M)."""

    images: ImageSet
    positions: NDArray[np.int64]
    x: NDArray[np.float32]
    codes: NDArray[np.uint8]
    model: Model

    def path(self, row: int) -> str:
        return self.images.ids[int(self.positions[row])]


def write_codebook_page(path: Path, of: Path, facts: dict[str, Any]) -> None:
    """Write the page of an index, or of a model if its training pictures still exist.

    Args:
        facts: of `spq info`.
    Raises:
        DataError: the pictures do not exist any more.
    """
    if facts["kind"] == "index":
        with ImageIndex.open(of) as index:
            images = open_images(index.store.manifest.origin)
            some = [p for p in evenly_spaced(len(images), PICTURES) if _has(index, images.ids[p])]
            sample = _look(images, some, index.model)
            _write(path, of, facts, sample, lambda row: _in_index(index, sample, row))
    else:
        model, source = Model.load(of), str(facts["training"].get("source", ""))
        try:
            images = open_images(source)
        except DataError as error:
            raise DataError(f"cannot open the training pictures of {of} ({error}); give an index instead") from None
        sample = _look(images, evenly_spaced(len(images), PICTURES), model)
        _write(path, of, facts, sample, lambda row: _in_sample(sample, row))


def _look(images: ImageSet, positions: Sequence[int] | NDArray[np.int64], model: Model) -> Sample:
    pixels = load_pixels(images, model.config.input.size, positions=list(map(int, positions)))
    if not len(pixels.array):
        raise DataError(
            f"{images.name} no longer has the pictures of the index; restore them, or build the index again"
        )
    x = model.embed(pixels.array)
    return Sample(images, pixels.kept, x, model.encode_descriptors(x), model)


def _has(index: ImageIndex, path: str) -> bool:
    item = index.store.item(path)
    return item is not None and item.code is not None


def _in_index(index: ImageIndex, sample: Sample, row: int) -> list[tuple[str, NDArray[np.uint8]]]:
    hits = [hit.path for hit in index.search(sample.x[row], ANSWERS + 1) if hit.path != sample.path(row)]
    items = [index.store.item(path) for path in hits[:ANSWERS]]
    return [(item.path, item.code) for item in items if item is not None and item.code is not None]


def _in_sample(sample: Sample, row: int) -> list[tuple[str, NDArray[np.uint8]]]:
    table = sample.model.tables(sample.x[row : row + 1])[0]
    distances = table[np.arange(len(table)), sample.codes].sum(1)
    nearest = [int(r) for r in np.argsort(distances, kind="stable") if r != row][:ANSWERS]
    return [(sample.path(r), sample.codes[r]) for r in nearest]


def _write(path: Path, of: Path, facts: dict[str, Any], sample: Sample, near: Near) -> None:
    thumbnails = _Thumbnails(sample)
    body = [
        f"<p>{counted(len(sample.x), 'picture')} of {escaped(printable(sample.images.name))}, at {facts['bits']} bits each.</p>",
        _health(facts),
        _matches(sample, near),
        _codebooks(sample, thumbnails),
    ]
    write_page(path, f"Codes of {printable(of.name)}", "\n".join(body), _STYLE + thumbnails.rules())


def _health(facts: dict[str, Any]) -> str:
    """A table of what the codes keep; empty if training did not measure it."""
    codes = [*facts.get("codes", []), *(facts.get("training") or {}).get("codes", [])]
    if not codes:
        return ""
    rows = [_HEADS] + [
        [
            str(c["bits"]), f"{c['codeword_use']:.0%}", str(c["dead_codewords"]), f"{c['entropy']:.0%}", f"{c['error']:.0%}",
            f"{c['copy_at_1']:.0%} ({c['float_copy_at_1']:.0%})", f"{c['copy_at_10']:.0%} ({c['float_copy_at_10']:.0%})",
            f"{c['kept']:.0%}",
        ]
        for c in codes
    ]  # fmt: skip
    lines = [
        f"<tr>{''.join(f'<t{kind}>{escaped(cell)}</t{kind}>' for cell in row)}</tr>"
        for row, kind in zip(rows, "h" + "d" * len(codes), strict=True)
    ]
    sample = f"{codes[-1]['queries']:,} altered copies among {codes[-1]['pictures']:,} training pictures"
    return (
        f"<h2>What the codes keep</h2><div class='wide'><table>{''.join(lines)}</table></div>"
        f"<p>Measured without labels, with {sample}. Brackets: without quantization.</p>"
    )


def _matches(sample: Sample, near: Near) -> str:
    """Some pictures and their nearest neighbours, with one bar for what each codebook adds to the distance."""
    place = {name: position for position, name in enumerate(sample.images.ids)}
    tables = sample.model.tables(sample.x)  # (n, M, K)
    M = tables.shape[1]
    is_dot = sample.model.config.quantizer.distance == "dot"  # entries may be below 0, without a lower bound
    heights = tables - tables.min(2, keepdims=True) if is_dot else tables
    usual = heights.mean(0)[np.arange(M), sample.codes].mean(0)  # (M,): mean of random pairs
    sections = []
    for row in map(int, evenly_spaced(len(sample.x), QUERIES)):
        parts = [_figure(sample.images, place, sample.path(row), "", "query")]
        for path, code in near(row):
            added = tables[row][np.arange(M), code]
            same = code == sample.codes[row]
            note = f"distance {added.sum():.3f}, {same.sum()} of {M} codewords the same"
            bars = _bars(added, heights[row][np.arange(M), code] / np.maximum(usual, 1e-9), same, code)
            parts.append(f"<div class='match'>{_figure(sample.images, place, path, note)}{bars}</div>")
        sections.append(f"<section>{''.join(parts)}</section>")
    return (
        "<h2>Nearest pictures, and what each codebook adds to the distance</h2>"
        "<p>One bar for each codebook. The line is the mean of random pairs, and low bars mean similar pictures. "
        f"{'Bars start at the smallest value that a codeword of the codebook would add. ' if is_dot else ''}"
        "<span class='key same-word'></span> same codeword, <span class='key'></span> another codeword. "
        f"Click a bar to see the pictures of its codeword.</p>{''.join(sections)}"
    )


def _figure(images: ImageSet, place: dict[str, int], path: str, note: str, style: str = "") -> str:
    try:
        return figure(images.image(place[path], 256), path, printable(path), note, style)
    except (KeyError, ImageError):
        return f"<figure><figcaption>{escaped(printable(path))}<br>no longer readable</figcaption></figure>"


def _bars(
    added: NDArray[np.float32], shares: NDArray[np.float32], same: NDArray[np.bool_], code: NDArray[np.uint8]
) -> str:
    """Bars as SVG.

    Args:
        added: (M,) what each codebook adds to the distance. shares: (M,) heights, relative to a random pair, 0 or more.
    """
    M, high, step = len(added), 48, 10
    line, shapes = round(high * (1 - 1 / HIGHEST), 1), []
    for m in range(M):
        share = float(shares[m])
        height = round(high * min(share / HIGHEST, 1), 1)
        label = f"codebook {m}, codeword {code[m]}: {added[m]:.3f}, {share:.0%} of a random pair's"
        kind = " class='same-word'" if same[m] else ""
        shapes.append(
            f"<a href='#m{m}k{code[m]}'><rect{kind} x='{m * step}' y='{high - height}' width='{step - 2}' "
            f"height='{max(height, 1)}'><title>{label}</title></rect></a>"
        )
    return (
        f"<svg viewBox='0 0 {M * step} {high}' role='img' aria-label='share of each codebook in the distance'>"
        f"{''.join(shapes)}<line x1='0' x2='{M * step}' y1='{line}' y2='{line}'/></svg>"
    )


def _codebooks(sample: Sample, thumbnails: _Thumbnails) -> str:
    """The codewords of each codebook, the most used first, with the pictures nearest to them."""
    q = sample.model.config.quantizer
    M, K = q.num_codebooks, q.codebook_size
    tables = sample.model.tables(sample.x)
    most = max(2, GALLERIES // M)
    cut = f" Of {K} codewords in a codebook the {most} most used are shown." if most < K else ""
    parts = [
        f"<h2>Codewords</h2><p>Pictures in a box have the same sub-code in this codebook. "
        f"The pictures nearest to the codeword come first.{cut}</p>"
    ]
    counts_of_codewords = usage(sample.codes, K)
    for m in range(M):
        counts = counts_of_codewords[m]
        used = [int(k) for k in np.argsort(-counts, kind="stable")[:most] if counts[k]]
        boxes = "".join(_box(sample, thumbnails, (m, k), tables[:, m, k], int(counts[k])) for k in used)
        parts.append(
            f"<details id='m{m}'{' open' if m == 0 else ''}><summary>codebook {m}: {np.count_nonzero(counts)} of {K} codewords "
            f"in use</summary><div class='words'>{boxes}</div></details>"
        )
    return "\n".join(parts)


def _box(sample: Sample, thumbnails: _Thumbnails, place: tuple[int, int], far: NDArray[np.float32], count: int) -> str:
    """A codeword (m, k), with its nearest pictures.

    Args:
        far: (n,) what it adds to the distance of each picture of the sample.
    """
    m, k = place
    rows = np.flatnonzero(sample.codes[:, m] == k)
    pictures = "".join(thumbnails.of(int(row)) for row in rows[np.argsort(far[rows], kind="stable")[:SHOWN]])
    return (
        f"<div class='word' id='m{m}k{k}'><p>codeword {k}: {counted(count, 'picture')}, {count / len(sample.codes):.1%}</p>"
        f"<div class='thumbs'>{pictures}</div></div>"
    )


class _Thumbnails:
    """Thumbnails as style rules, so that the page has each picture only once."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.addresses: dict[int, str] = {}

    def of(self, row: int) -> str:
        """The picture of a row of the sample as HTML; empty if it cannot be read any more."""
        if row not in self.addresses:
            self.addresses[row] = self._address(int(self.sample.positions[row]))
        name = escaped(printable(self.sample.path(row)))
        known = self.addresses[row]
        return f'<span class="t p{row}" role="img" title="{name}" aria-label="{name}"></span>' if known else ""

    def _address(self, position: int) -> str:
        try:
            image = self.sample.images.image(position, SIDE).convert("RGB")
        except ImageError:
            return ""
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        return data_uri(image)

    def rules(self) -> str:
        return "\n".join(self._rules())

    def _rules(self) -> Iterator[str]:
        for row, address in self.addresses.items():
            if address:
                yield f".p{row} {{ background-image: url({address}); }}"


_STYLE = """p { max-width: 60rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: bottom; }
th { font-weight: 500; font-size: .8rem; max-width: 8rem; }
td { border-top: 1px solid #8886; white-space: nowrap; }
.match { width: 168px; }
.match figure { width: auto; }
svg { width: 100%; height: 48px; display: block; margin-top: .3rem; }
rect, .key { fill: #8a8f98; background: #8a8f98; }
rect.same-word, .key.same-word { fill: var(--good); background: var(--good); }
rect:hover { opacity: .6; }
line { stroke: currentColor; stroke-dasharray: 3 3; opacity: .6; }
.key { display: inline-block; width: .7em; height: .7em; margin-left: .4em; }
summary { cursor: pointer; padding: .6rem 0; border-top: 1px solid #8886; }
.words { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 1rem; padding: .4rem 0 1.2rem; }
.word p { margin: 0 0 .3rem; font-size: .8rem; }
.word:target { outline: 2px solid var(--frame); outline-offset: 4px; }
.thumbs { display: grid; grid-template-columns: repeat(3, 1fr); gap: 3px; }
.t { aspect-ratio: 1; background: #8881 center / contain no-repeat; }
"""
