"""Which pictures of a group to keep: what the report suggests, and rules for many groups at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from spq.dupes.groups import KINDS, LINK, SPARE

Group = dict[str, Any]  # as `report_json` gives it
SUGGESTED, OLDEST, NEWEST, LARGEST, PIXELS, FOLDER = "suggested", "oldest", "newest", "largest", "pixels", "folder"
RULES = (SUGGESTED, OLDEST, NEWEST, LARGEST, PIXELS, FOLDER)
UNSURE = KINDS[-1]  # the kind that is not shown unless it is requested
MOST_FOLDERS = 200


def suggested(group: Group) -> frozenset[int]:
    """The positions of the pictures that the report would keep: all that are not superfluous copies."""
    return frozenset(n for n, item in enumerate(group["items"]) if item["keep"] != SPARE)


def kept_by(group: Group, rule: str, folder: str = "") -> frozenset[int] | None:
    """The positions that a rule keeps; None if it does not decide the group.

    In a group of confirmed copies, links and pictures to be looked at are kept as well, and so is the first picture if it
    shows more than the one of the rule. A rule decides nothing if it would keep all.

    Args:
        folder: of the rule FOLDER.
    """
    items, first = group["items"], suggested(group)
    if rule == SUGGESTED:
        kept: frozenset[int] | None = first if group["confirmed"] else None
    else:
        best = _best([n for n, item in enumerate(items) if item["keep"] != LINK], items, rule, folder)
        stay = frozenset(n for n in first if group["confirmed"] and (n or best is None or _shows_more(group, best)))
        kept = None if best is None else stay | {best}
    return None if kept is None or len(kept) == len(items) else kept


def _shows_more(group: Group, best: int) -> bool:
    """Whether the first picture of a group of copies shows more than another one."""
    pixels = [item["width"] * item["height"] for item in (group["items"][0], group["items"][best])]
    return group["kind"] != "identical" and best > 0 and (group["kind"] == "edited" or pixels[0] > pixels[1])


def _best(able: list[int], items: list[dict[str, Any]], rule: str, folder: str) -> int | None:
    """The position that a rule prefers. Where several are equal, the report's order decides."""
    if rule == FOLDER:
        inside = [n for n in able if is_in(items[n]["path"], folder)]
        return inside[0] if inside and len(inside) < len(able) else None
    if rule in (OLDEST, NEWEST):
        able = [n for n in able if items[n]["time"]]
    if not able:
        return None
    if rule == OLDEST:
        return min(able, key=lambda n: items[n]["time"])
    if rule == NEWEST:
        return max(able, key=lambda n: items[n]["time"])
    if rule == LARGEST:
        return max(able, key=lambda n: items[n]["size"])
    return max(able, key=lambda n: items[n]["width"] * items[n]["height"])


def is_in(path: str, folder: str) -> bool:
    """Whether a path is below a folder; the empty one is the collection itself, without its folders.

    >>> is_in("a/b/c.jpg", "a"), is_in("ab/c.jpg", "a"), is_in("c.jpg", ""), is_in("a/c.jpg", "")
    (True, False, True, False)
    """
    return path.startswith(f"{folder}/") if folder else "/" not in path


def folders_of(groups: Iterable[Group]) -> list[tuple[str, int]]:
    """(folder, how many groups the rule FOLDER decides by it), those of most groups first."""
    found: Counter[str] = Counter()
    for group in groups:
        inside: list[set[str]] = [set(_folders(item["path"])) for item in group["items"]]
        found.update(set[str]().union(*inside) - inside[0].intersection(*inside))
    return sorted(found.items(), key=lambda each: (-each[1], each[0]))[:MOST_FOLDERS]


def _folders(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    if not parts:
        yield ""
    for end in range(len(parts)):
        yield "/".join(parts[: end + 1])
