"""Groups of duplicates as text, JSON, CSV and a contact sheet."""

from __future__ import annotations

import csv
import html
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from spq.cli.describe import counted
from spq.cli.file_paths import file_fields
from spq.cli.reports.contact_sheet import escaped, figure, write_page
from spq.common.files import Replacing
from spq.common.text import cell, encodable, printable
from spq.data.image_set import ImageSet
from spq.dupes.candidates import BY_CODE
from spq.dupes.find import KINDS, Group, Member, Report
from spq.dupes.groups import SPARE, Region
from spq.dupes.keep import REASONS
from spq.errors import ImageError

SHOWN_GROUPS, SHOWN_OTHERS = 200, 11  # on the page: groups of each kind, and copies of each group
TITLES = {
    "identical": "identical files",
    "re-encoded": "the same picture, re-encoded or resized (confirmed at full size)",
    "edited": "edited copies (confirmed at full size)",
    "almost": "almost the same, but not copies: each line says why",
    "burst": "taken within seconds of each other (not copies)",
    "similar": "similar by code (not confirmed)",
}
COLUMNS = (
    "kind", "group", "keep", "path", "width", "height", "bytes", "modified", "note", "distance", "why",
    "x", "y", "region_width", "region_height", "file", "file_bytes",
)  # fmt: skip
BOX = "#d55e00"


def text(report: Report) -> str:
    """All groups, one picture per line, with `=` before the one to keep; then what would be freed, and the threshold."""
    lines = []
    for kind, groups in _by_kind(report):
        lines.append(f"{TITLES[kind]}: {_counted(groups)}")
        for group in groups:
            mark, why = ("=", f"  keep: {printable(group.why)}") if group.is_confirmed else ("-", "")
            is_reference = group.why == REASONS[0]  # its name may be that of a picture of the other collection
            first = replace(group.keep, path=group.keep.file or group.keep.path) if is_reference else group.keep
            lines.append(f"  {mark} {_line(first)}{why}")
            lines += [f"    {_line(other)}  {printable(_note(other))}" for other in group.others]
    compared = f"{counted(report.pictures, 'picture')} compared; nothing was deleted"
    lines = lines or ["no copies found"]
    return "\n".join([*lines, *threshold_text(report), compared, f"{report.freed:,} bytes would be freed"])


def threshold_text(report: Report) -> list[str]:
    """How near `similar` is, and how often it is wrong."""
    if report.threshold is None:
        return []
    t = report.threshold
    lines = [
        f"similar: code distance up to {t.distance:.4g}; it finds {t.copies_found:.1%} of {t.copies} altered copies of your own "
        f"pictures, and {t.false_matches:.2%} of random pairs; {t.with_neighbour:.0%} of pictures have another one within it"
    ]
    if report.crowded:
        lines.append(
            f"{report.crowded:,} of them have more than {BY_CODE} others within it: their groups may be parts of larger ones; "
            "lower --threshold to see fewer"
        )
    if t.with_neighbour > 0.5:
        lines.append("warning: these codes hardly distinguish your pictures; train longer, or lower --threshold")
    return lines


def superfluous(report: Report) -> list[Member]:
    """The confirmed copies, each once, without the pictures to keep and without links."""
    return [other for group in report.groups for other in group.others if other.keep == SPARE]


def to_json(report: Report) -> dict[str, Any]:
    """The report for other programs. `others` are copies of `keep`; pictures of an unconfirmed kind are in `look` instead."""
    groups = []
    for group in report.groups:
        first, others = _fields(group.keep), [_fields(other) for other in group.others]
        known = {"kind": group.kind, "confirmed": group.is_confirmed}
        if group.is_confirmed:
            groups.append({**known, "keep": first, "why": group.why, "others": others, "look": []})
        else:
            groups.append({**known, "keep": None, "why": "", "others": [], "look": [first, *others]})
    facts = {key: value for key, value in asdict(report).items() if key != "groups"}
    return {**facts, "groups": groups}


def write_csv(path: Path, report: Report) -> None:
    """One row per picture of a group; `keep` is yes, no, link or look."""
    with Replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for number, group in enumerate(report.groups, 1):
            for member in (group.keep, *group.others):
                row = _fields(member) | {"kind": group.kind, "group": number}
                row["why"] = group.why if member is group.keep else ""
                row["distance"] = "" if member.distance is None else f"{member.distance:.6g}"
                box = [f"{value:.4g}" for value in member.region or ()]
                row |= dict(zip(("x", "y", "region_width", "region_height"), box, strict=False))
                writer.writerow({key: cell(_encodable(row.get(key, ""))) for key in COLUMNS})


def write_html(path: Path, report: Report, images: ImageSet, reference: ImageSet | None = None) -> None:
    """A self-contained page: the picture to keep with a frame, then its copies. Shows up to SHOWN_GROUPS groups of a kind.

    Args:
        reference: the collection that `images` was compared with.
    """
    place: Places = {}
    for collection in (images, reference) if reference else (images,):
        for position, name in enumerate(collection.ids):
            place[str(collection.path(position) or name)] = (collection, position)
    parts = [f"<p>{html.escape(line)}</p>" for line in threshold_text(report)]
    for kind, groups in _by_kind(report):
        parts.append(f"<h2>{html.escape(TITLES[kind])}: {_counted(groups)}</h2>")
        parts += [_section(group, place) for group in groups[:SHOWN_GROUPS]]
        if len(groups) > SHOWN_GROUPS:
            parts.append(f"<p>and {counted(len(groups) - SHOWN_GROUPS, 'more group')}; --csv lists all</p>")
    write_page(path, f"Duplicates among {counted(report.pictures, 'picture')}", "\n".join(parts))


Places = dict[str, tuple[ImageSet, int]]  # file or id -> collection and position


def _by_kind(report: Report) -> Iterator[tuple[str, list[Group]]]:
    found = ((kind, [group for group in report.groups if group.kind == kind]) for kind in KINDS)
    return ((kind, groups) for kind, groups in found if groups)


def _counted(groups: list[Group]) -> str:
    others = sum(len(group.others) for group in groups)
    what = f"{others:,} besides those to keep" if groups[0].is_confirmed else counted(others + len(groups), "picture")
    return f"{counted(len(groups), 'group')}, {what}"


def _line(member: Member) -> str:
    return f"{printable(member.path)}  {member.width}x{member.height}  {member.bytes:,} bytes"


def _note(member: Member) -> str:
    if member.region:
        x, y, width, height = (round(100 * value) for value in member.region)
        return f"{member.note}: {width} % x {height} % of the picture, {x} % from the left, {y} % from the top"
    return member.note if member.distance is None else f"{member.note} at {member.distance:.4g}"


def _fields(member: Member) -> dict[str, Any]:
    return {**asdict(member), "file": "", **file_fields(member.file)}


def _encodable(value: object) -> object:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _section(group: Group, place: Places) -> str:
    note, style = (f"keep: {group.why}", "query") if group.is_confirmed else ("compared with", "")
    first_region = next((other.region for other in group.others if other.region), None)
    figures = [_figure(group.keep, note, style, place, first_region)]
    figures += [_figure(other, _note(other), "", place, other.region) for other in group.others[:SHOWN_OTHERS]]
    more = len(group.others) - SHOWN_OTHERS
    return f"<section>{''.join(figures)}{f'<p>and {more:,} more</p>' if more > 0 else ''}</section>"


def _figure(member: Member, note: str, style: str, place: Places, region: Region | None) -> str:
    try:
        images, position = place[member.file or member.path]
        image = images.image(position, 256)
    except (KeyError, ImageError):  # deleted after it was compared
        return f"<figure><figcaption>{escaped(encodable(member.path))}<br>no longer readable</figcaption></figure>"
    size = f"{member.width}x{member.height}, {member.bytes / 1000:,.0f} kB"
    return figure(_boxed(image, region), f"{note}: {member.path}", member.path, f"{size}; {note}", style)


def _boxed(image: Image.Image, region: Region | None) -> Image.Image:
    """The picture at the size of a page, with a frame around a region."""
    if region is None:
        return image
    image = image.convert("RGB")
    factor = 192 / max(image.size)
    image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    x, y, width, height = region
    left, top = x * image.width - 3, y * image.height - 3
    right, bottom = (x + width) * image.width + 2, (y + height) * image.height + 2
    box = (max(0, left), max(0, top), min(image.width - 1, right), min(image.height - 1, bottom))
    ImageDraw.Draw(image).rectangle(box, outline=BOX, width=3)
    return image
