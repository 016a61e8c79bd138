from __future__ import annotations

from typing import Any

import pytest

from spq.model.training_facts import CODES, checked_facts

GOOD: dict[str, Any] = dict.fromkeys(CODES, 1)


def test_facts_of_a_training_are_kept_as_they_are() -> None:
    facts = {"images": 3, "source": "photos", "own": [{"a": None}], "codes": [GOOD], "health": {"spread": 0.5}}
    assert checked_facts(facts) is facts
    assert checked_facts(None) == {}


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    "facts",
    [
        [1],
        "text",
        {"codes": 3},
        {"codes": [3]},
        {"codes": [{**GOOD, "kept": "much"}]},
        {"codes": [{**GOOD, "kept": True}]},
        {"codes": [{**GOOD, "bits": 10**400}]},
        {"codes": [{key: 1 for key in CODES if key != "kept"}]},
        {"health": [0.5]},
        {"health": {"spread": None}},
        {"own": nested(500)},
    ],
)
def test_facts_that_reports_could_not_show_are_damage(facts: Any) -> None:
    with pytest.raises(ValueError, match="training"):
        checked_facts(facts)
