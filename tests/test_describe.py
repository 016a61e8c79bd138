"""Facts as text."""

from __future__ import annotations

from spq.cli.describe import LISTED, aligned, counted, listed, printable


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


def test_a_file_name_is_one_printable_line() -> None:
    assert printable("a\nb\udce9.png") == "a b?.png"
