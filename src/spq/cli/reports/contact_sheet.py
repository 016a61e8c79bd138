"""Contact sheets: queries with their answers, as one self-contained HTML file and as PNG."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from spq.common.files import Replacing
from spq.common.text import printable
from spq.data.image_set import NO_LABEL, ImageSet
from spq.errors import DataError, ImageError
from spq.index.image_index import Hit

GOOD, BAD, FRAME, INK = (
    "#0a8f5b",
    "#d55e00",
    "#2563eb",
    "#444444",
)  # colours that colour-blind people can distinguish; captions have the same information


@dataclass(frozen=True)
class Answer:
    """A picture that was found. same: whether it has the label of the query; None if that is unknown."""

    image: Image.Image
    caption: str
    distance: float
    same: bool | None = None


@dataclass(frozen=True)
class Row:
    """A query and its answers. more: other pictures of the query, with captions. first: rank of the first answer."""

    image: Image.Image
    caption: str
    answers: Sequence[Answer]
    more: Sequence[tuple[Image.Image, str]] = ()
    first: int = 1


def answers(images: ImageSet, hits: Sequence[Hit], label: int | None = None) -> list[Answer]:
    """The pictures of hits, read from the collection that was indexed. Unreadable ones are left out.

    Args:
        label: class number of the query if it is known; answers of the same class get a mark.
    Raises:
        DataError: the collection has none of them.
    """
    position = {name: p for p, name in enumerate(images.ids)}
    if hits and not any(hit.path in position for hit in hits):
        raise DataError(
            f"{images.name} no longer has the pictures of the index; restore them, or build the index again"
        )
    found = []
    for hit in hits:
        try:
            image = images.image(position[hit.path], 256)
        except (KeyError, ImageError):
            continue
        is_single = label is not None and images.labels is not None and images.labels.ndim == 1
        number = int(images.labels[position[hit.path]]) if is_single and images.labels is not None else NO_LABEL
        known = number != NO_LABEL
        caption = images.class_names[number] if known else hit.path
        if hit.folded:
            caption += f" (and {len(hit.folded)} of the same code)"
        found.append(Answer(image, caption, hit.distance, number == label if known else None))
    return found


def write_html(path: Path, rows: Sequence[Row], title: str) -> None:
    """Write a page without scripts or external files, with dark and light colours, for any screen size."""
    body = "\n".join(
        "<section>"
        + "\n".join(
            figure(image, f"query: {caption}", caption, style="query")
            for image, caption in ((row.image, row.caption), *row.more)
        )
        + "\n"
        + "\n".join(_answer(rank, answer) for rank, answer in enumerate(row.answers, row.first))
        + "</section>"
        for row in rows
    )
    write_page(path, title, body)


def write_page(path: Path, title: str, body: str, style: str = "") -> None:
    """Write a page with the common style, additional style rules, and a body of sections with figures."""
    with Replacing(path) as temporary:
        temporary.write_text(_PAGE.format(title=escaped(title), body=body, style=style), "utf-8")


def figure(image: Image.Image, alt: str, caption: str, small: str = "", style: str = "") -> str:
    """One picture with its caption, as HTML. style: query, same, other, or empty."""
    mark, note = f' class="{style}"' if style else "", f"<br><small>{escaped(small)}</small>" if small else ""
    return f"<figure{mark}>{_img(image, alt)}<figcaption>{escaped(caption)}{note}</figcaption></figure>"


def draw_png(rows: Sequence[Row], tile: int = 84, scale: int = 2) -> Image.Image:
    """Draw the contact sheet as one picture: the query with a frame at the left, its answers at the right."""
    tile, gap, bar = tile * scale, 8 * scale, 4 * scale
    columns = max((len(row.answers) for row in rows), default=0)
    left, head = tile + 3 * gap, 26 * scale
    size = left + columns * (tile + gap), head + len(rows) * (tile + gap + bar) + gap
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12 * scale)
    draw.text((gap, 5 * scale), "query", fill=INK, font=font)
    draw.text((left, 5 * scale), "answers, most similar first", fill=INK, font=font)
    if any(answer.same is not None for row in rows for answer in row.answers):
        edge = size[0] - gap
        for text, colour in (("another class", BAD), ("same class", GOOD)):
            draw.text((edge, 5 * scale), text, fill=colour, font=font, anchor="ra")
            edge -= round(draw.textlength(text, font=font)) + 2 * gap
    for r, row in enumerate(rows):
        y = head + r * (tile + gap + bar)
        sheet.paste(_square(row.image, tile), (gap, y))
        draw.rectangle((gap - scale, y - scale, gap + tile, y + tile), outline=FRAME, width=2 * scale)
        for c, answer in enumerate(row.answers):
            x = left + c * (tile + gap)
            sheet.paste(_square(answer.image, tile), (x, y))
            if answer.same is not None:
                draw.rectangle((x, y + tile, x + tile - 1, y + tile + bar - 1), fill=GOOD if answer.same else BAD)
    return sheet


def _answer(rank: int, answer: Answer) -> str:
    style = "" if answer.same is None else "same" if answer.same else "other"
    note = "" if answer.same is None else ", same class" if answer.same else ", another class"
    alt = f"answer {rank}: {answer.caption}{note}"
    return figure(answer.image, alt, answer.caption, f"{answer.distance:.3f}{note}", style)


def _img(image: Image.Image, alt: str) -> str:
    small = image.convert("RGB")
    if max(small.size) < 128:
        small = small.resize((small.width * 4, small.height * 4), Image.Resampling.NEAREST)
    small.thumbnail((192, 192))
    return f'<img src="{data_uri(small)}" alt="{escaped(alt)}" width="{small.width}" height="{small.height}">'


def data_uri(image: Image.Image) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _square(image: Image.Image, side: int) -> Image.Image:
    """The whole picture on a white square."""
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    filtered = image.convert("RGB").resize(size, Image.Resampling.LANCZOS if factor < 3 else Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), "white")
    square.paste(filtered, ((side - filtered.width) // 2, (side - filtered.height) // 2))
    return square


def escaped(value: str) -> str:
    """Text for HTML, also inside quoted attributes. What would reorder a name, or is not UTF-8, is spelled out."""
    return html.escape(printable(value))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --good: #0a7a4f; --bad: #b84e00; --frame: #2563eb; }}
@media (prefers-color-scheme: dark) {{ :root {{ --good: #3ecf8e; --bad: #ff9248; --frame: #7aa2ff; }} }}
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 1200px; padding: 0 1rem; }}
h1 {{ font-size: 1.2rem; font-weight: 600; }}
h2 {{ font-size: 1rem; font-weight: 600; margin: 2rem 0 .5rem; }}
section {{ display: flex; flex-wrap: wrap; gap: .6rem; padding: .8rem 0; border-top: 1px solid #8886; }}
figure {{ margin: 0; width: 104px; }}
img {{ width: 100px; height: 100px; object-fit: contain; background: #8881; border: 2px solid transparent; }}
.query {{ margin-right: 1rem; }}
.query img {{ border-color: var(--frame); }}
.same img {{ border-bottom-color: var(--good); }}
.other img {{ border-bottom-color: var(--bad); }}
figcaption {{ overflow-wrap: anywhere; font-size: .8rem; }}
{style}</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
