"""Facts of a training in `config.json`: what was measured, for reports and the model card. They do not affect codes."""

from __future__ import annotations

from typing import Any

from spq.model.own_parts import checked_parts

CODES = (  # numbers that are measured for each code length, as in `spq.training.fidelity`
    "bits", "codeword_use", "dead_codewords", "entropy", "error", "copy_at_1", "copy_at_10", "float_copy_at_1",
    "float_copy_at_10", "kept", "pictures", "queries",
)  # fmt: skip
DEPTH = 8  # of tables and lists inside each other


def checked_facts(facts: Any) -> dict[str, Any]:
    """Return the facts of a training, or {} if there are none.

    Raises:
        ValueError: they do not have the types that reports need.
    """
    if facts is None:
        return {}
    if not isinstance(facts, dict) or not _is_plain(facts, DEPTH):
        raise ValueError("facts of the training are no table of plain values")
    checked_parts(facts.get("parts"))
    codes, health = facts.get("codes", []), facts.get("health", {})
    if not isinstance(codes, list) or not all(isinstance(each, dict) for each in codes):
        raise ValueError("training.codes is no list of tables")
    if any(not _is_number(each.get(name)) for each in codes for name in CODES):
        raise ValueError("training.codes lacks a number")
    if not isinstance(health, dict) or not all(map(_is_number, health.values())):
        raise ValueError("training.health is no table of numbers")
    return facts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _is_plain(value: Any, depth: int) -> bool:
    if isinstance(value, dict | list):
        return depth > 0 and all(
            _is_plain(each, depth - 1) for each in (value.values() if isinstance(value, dict) else value)
        )
    return value is None or isinstance(value, str | int | float)
