"""Groups of duplicates as text, CSV and a contact sheet."""

from __future__ import annotations

import csv
import html
from collections.abc import Iterator
from pathlib import Path

from spq.cli.describe import counted
from spq.cli.reports.contact_sheet import figure, write_page
from spq.common.files import Replacing
from spq.common.text import printable
from spq.data.image_set import ImageSet
from spq.dupes.candidates import BY_CODE
from spq.dupes.find import KINDS, Group, Member, Report
from spq.errors import ImageError

SHOWN_GROUPS, SHOWN_OTHERS = 200, 11  # on the page: groups of each kind, and copies of each group
TITLES = {
    "identical": "identical files",
    "re-encoded": "the same picture, re-encoded or resized (confirmed on pixels)",
    "edited": "mirrored, cropped or brightened copies (confirmed on pixels)",
    "similar": "similar by code (not confirmed)",
}
COLUMNS = ("kind", "group", "keep", "path", "width", "height", "bytes", "modified", "note", "distance", "why")


def text(report: Report) -> str:
    """All groups, one picture per line, with `=` before the one to keep; then the meaning of the threshold."""
    lines = []
    for kind, groups in _by_kind(report):
        lines.append(f"{TITLES[kind]}: {_counted(groups)}")
        for group in groups:
            lines.append(f"  = {_line(group.keep)}  keep: {group.why}")
            lines += [f"    {_line(other)}  {_note(other)}" for other in group.others]
    return "\n".join(
        [*lines, f"{counted(report.pictures, 'picture')} compared; nothing was deleted", *threshold_text(report)]
    )


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


def write_csv(path: Path, report: Report) -> None:
    """One row per picture of a group; `keep` is yes or no."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, group in enumerate(report.groups, 1):
            for member, keep in [(group.keep, "yes"), *((other, "no") for other in group.others)]:
                facts = (member.path, member.width, member.height, member.bytes, member.modified, member.note)
                distance = "" if member.distance is None else f"{member.distance:.6g}"
                writer.writerow((group.kind, number, keep, *facts, distance, group.why if keep == "yes" else ""))


def write_html(path: Path, report: Report, images: ImageSet) -> None:
    """A self-contained page: the picture to keep with a frame, then its copies. Shows up to SHOWN_GROUPS groups of a kind."""
    place = {name: position for position, name in enumerate(images.ids)}
    parts = [f"<p>{html.escape(line)}</p>" for line in threshold_text(report)]
    for kind, groups in _by_kind(report):
        parts.append(f"<h2>{html.escape(TITLES[kind])}: {_counted(groups)}</h2>")
        parts += [_section(group, images, place) for group in groups[:SHOWN_GROUPS]]
        if len(groups) > SHOWN_GROUPS:
            parts.append(f"<p>and {counted(len(groups) - SHOWN_GROUPS, 'more group')}; --csv lists all</p>")
    write_page(path, f"Duplicates among {counted(report.pictures, 'picture')}", "\n".join(parts))


def _by_kind(report: Report) -> Iterator[tuple[str, list[Group]]]:
    return ((kind, [group for group in report.groups if group.kind == kind]) for kind in KINDS)


def _counted(groups: list[Group]) -> str:
    return f"{counted(len(groups), 'group')}, {sum(len(group.others) for group in groups):,} besides those to keep"


def _line(member: Member) -> str:
    return f"{printable(member.path)}  {member.width}x{member.height}  {member.bytes:,} bytes"


def _note(member: Member) -> str:
    return member.note if member.distance is None else f"{member.note} at {member.distance:.4g}"


def _section(group: Group, images: ImageSet, place: dict[str, int]) -> str:
    figures = [_figure(group.keep, f"keep: {group.why}", "query", images, place)]
    figures += [_figure(other, _note(other), "", images, place) for other in group.others[:SHOWN_OTHERS]]
    more = len(group.others) - SHOWN_OTHERS
    return f"<section>{''.join(figures)}{f'<p>and {more:,} more</p>' if more > 0 else ''}</section>"


def _figure(member: Member, note: str, style: str, images: ImageSet, place: dict[str, int]) -> str:
    try:
        image = images.image(place[member.path], 256)
    except (KeyError, ImageError):  # deleted after it was compared
        return f"<figure><figcaption>{html.escape(printable(member.path))}<br>no longer readable</figcaption></figure>"
    size = f"{member.width}x{member.height}, {member.bytes / 1000:,.0f} kB"
    return figure(image, f"{note}: {member.path}", member.path, f"{size}; {note}", style)
