"""Facts as text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from spq.cli.failures import as_options
from spq.common.text import printable
from spq.data.rules import is_side
from spq.data.walk import COLLECTIONS

if TYPE_CHECKING:
    from spq.data.walk import Aside

LISTED = 20  # pictures that are listed one by one
NAMED = 3  # folders that are named in a line about all of them


def codes_text(codes: list[dict[str, Any]]) -> str:
    """A table of what codes of each length keep; empty if the model has no measurements.

    Args:
        codes: one `spq.training.fidelity.Fidelity` as a dictionary for each length.
    """
    if not codes:
        return ""
    lines = [
        "bits  codewords dead  entropy  variance lost  copies find their original first, in 10  top 10 kept",
        *(
            f"{c['bits']:4d}  {c['codeword_use']:7.0%} {c['dead_codewords']:6d}  {c['entropy']:7.0%}  {c['error']:13.0%}"
            f"  {_pair(c, 'copy_at_1'):>25s}  {_pair(c, 'copy_at_10'):>12s}  {c['kept']:11.0%}"
            for c in codes
        ),
    ]
    last = codes[-1]
    lines += [
        f"{-(-last['bits'] // 8)} bytes keep {last['kept']:.0%} of the 10 pictures that exact descriptors find first",
        f"measured without labels: {last['queries']:,} altered copies among {last['pictures']:,} training pictures; "
        "in brackets: without quantization",
    ]
    return "\n".join(lines)


def _pair(codes: dict[str, Any], key: str) -> str:
    return f"{codes[key]:.0%} ({codes['float_' + key]:.0%})"


def aligned(facts: dict[str, Any], indent: str = "") -> str:
    """One fact a line; facts of an inner table are indented below its name.

    >>> print(aligned({"bits": 64, "health": {"entropy": 0.9}}))
    bits    64
    health
      entropy  0.9
    """
    facts = {printable(str(key)): value for key, value in facts.items()}
    width = max(map(len, facts), default=0)
    lines = []
    for key, value in facts.items():
        if value and isinstance(value, dict):
            lines += [f"{indent}{key}", aligned(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"{indent}{key:{width}s}  {printable(text) if value or value == 0 else 'none'}")
    return "\n".join(lines)


def listed(what: str, pictures: list[tuple[str, str]]) -> str:
    """One line for each (path, reason), up to LISTED of them; empty if there are none."""
    named = [(printable(path), printable(as_options(reason, {"--max-pixels"}))) for path, reason in pictures[:LISTED]]
    lines = [f"{what}: {path}: {reason}" for path, reason in named]
    if len(pictures) > LISTED:
        lines.append(f"{what}: {len(pictures) - LISTED} more, {len(pictures)} in total; --json lists them")
    return "\n".join(lines)


def passed_over(aside: Aside) -> str:
    """What lies beside the pictures of a collection and was not taken; a line for each kind, empty if there is nothing."""
    lines = []
    if aside.other:
        held = sorted(COLLECTIONS.intersection(aside.other))
        hint = f"; give {' and '.join(held)} files themselves" if held else ""
        lines.append(
            f"not read: {', '.join(f'{number:,} {suffix}' for suffix, number in aside.other.most_common())}{hint}"
        )
    if aside.skipped:
        where = ", ".join(f"{number:,} in {printable(name)}" for name, number in aside.skipped.most_common(NAMED))
        others = len(aside.skipped) - NAMED
        more = f", and {counted(others, 'other name')}" if others > 0 else ""
        total = f"{'at least ' if aside.more else ''}{counted(aside.skipped.total(), 'picture')}"
        side = next(filter(is_side, aside.skipped), "")
        hint = f"; --include {shlex.quote(printable(side))} takes that folder in" if side else ""
        lines.append(f"passed over: {total} in side folders ({where}{more}){hint}")
    if aside.links:
        names = ", ".join(map(printable, aside.links[:NAMED])) + (", ..." if len(aside.links) > NAMED else "")
        lines.append(f"not followed: {counted(len(aside.links), 'linked folder')} ({names}); --follow-links lists them")
    return "\n".join(lines)


def counted(number: float, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1.

    >>> counted(1, "epoch"), counted(0.5, "minute"), counted(60000, "picture")
    ('1 epoch', '0.5 minutes', '60,000 pictures')
    """
    return f"{number:{',' if isinstance(number, int) else 'g'}} {noun}{'' if number == 1 else 's'}"
