"""Tables of results in Markdown pages."""

from __future__ import annotations

import re
from pathlib import Path


def write_table(page: Path, name: str, lines: str) -> None:
    """Replace what is between `<!-- NAME -->` and `<!-- end -->` in a page.

    Raises:
        SystemExit: the page has no such place.
    """
    text, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)",
        lambda place: f"{place[1]}{lines}\n{place[2]}",
        page.read_text("utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise SystemExit(
            f"{page} has {count} places for {name}; it needs one, between <!-- {name} --> and <!-- end -->"
        )
    page.write_text(text, "utf-8")
