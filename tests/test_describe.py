"""Facts as text."""

from __future__ import annotations

from collections import Counter

from spq.cli.describe import LISTED, aligned, counted, listed, passed_over
from spq.data.walk import Aside


def test_numbers_have_nouns_in_the_right_number() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 1.0, 2, 0.5, 21.1)] == [
        "0 epochs",
        "1 epoch",
        "1 epoch",
        "2 epochs",
        "0.5 epochs",
        "21.1 epochs",
    ]
    assert counted(1_234_567, "picture") == "1,234,567 pictures"


def test_facts_are_aligned_and_inner_tables_indented() -> None:
    facts = {"bits": 64, "lengths": [16, 64], "health": {"entropy": 0.9, "dead": 0}, "labels": None, "more": {}}
    assert aligned(facts).splitlines() == [
        "bits     64",
        "lengths  16, 64",
        "health",
        "  entropy  0.9",
        "  dead     0",
        "labels   none",
        "more     none",
    ]


def test_long_lists_are_cut_and_counted() -> None:
    pictures = [(f"{number}.jpg", "no picture") for number in range(LISTED + 3)]
    lines = listed("left out", pictures).splitlines()
    assert lines[0] == "left out: 0.jpg: no picture"
    assert lines[LISTED:] == [f"left out: 3 more, {LISTED + 3} in total; --json lists them"]
    assert listed("left out", pictures[:LISTED]).count("\n") == LISTED - 1
    assert listed("left out", []) == ""


def test_what_lies_beside_the_pictures_is_told_with_the_way_to_take_it() -> None:
    assert passed_over(Aside(other=Counter({".zip": 2, ".jxl": 1}))) == "not read: 2 .zip, 1 .jxl"
    held = passed_over(Aside(other=Counter({".tar": 1, ".parquet": 1200})))
    assert held == "not read: 1,200 .parquet, 1 .tar; give .parquet and .tar files themselves"


def test_facts_with_commands_of_a_terminal_are_spelled_out() -> None:
    assert aligned({"source": "/x\x1b[31m", "more": ["a\u202eb"]}) == "source  /x\\x1b[31m\nmore    a\\u202eb"
