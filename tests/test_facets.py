"""How many pictures have each value, and what choosing one filters by."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from spq.index.filter import parse
from spq.index.filter_tree import Column
from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.web.server.facets import colours, facets
from spq.web.server.settings import Settings
from spq.web.server.values import Numbers, Texts, Values
from web import TestClient, assert_problem, client_of


@pytest.fixture(scope="module")
def client(
    shop: Any, tiny_model: Model, server_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A client of a server over the shop, which has a table."""
    with (
        ImageIndex.build(tmp_path_factory.mktemp("facets") / "i", tiny_model, shop) as index,
        client_of(index, server_settings) as opened,
    ):
        yield opened


def ask(client: TestClient, where: str = "") -> dict[str, list[dict[str, Any]]]:
    """The values of each facet, by name."""
    for _ in range(300):
        found = client.get("/api/facets", params={"where": where} if where else {})
        if found.status_code == 200:
            return {facet["name"]: facet["values"] for facet in found.json()["facets"]}
        assert found.status_code == 202, found.text
        time.sleep(0.1)
    raise AssertionError("not ready in 30 seconds")


def total(client: TestClient, where: str) -> int:
    return int(client.get("/api/browse", params={"where": where, "top": 1}).json()["total"])


def test_each_value_has_as_many_pictures_as_its_filter_finds(client: TestClient) -> None:
    found = ask(client)
    assert {"label", "folder", "size", "width", "height", "shop", "price"} <= set(found)
    assert {value["text"] for value in found["label"]} == {"shoe", "hat", "copy"}
    assert {value["text"] for value in found["shop"]} == {"north", "été"}
    for values in found.values():
        for value in values:
            assert value["count"] == total(client, value["where"]), value


def test_with_a_filter_the_counts_are_of_what_it_leaves(client: TestClient) -> None:
    before = ask(client)
    shoe = next(value for value in before["label"] if value["text"] == "shoe")
    after = ask(client, shoe["where"])
    for name, values in after.items():
        for value in values:
            if not value["chosen"] and name != "label":
                assert value["count"] == total(client, value["where"]) <= shoe["count"], (name, value)
    chosen = [value for values in after.values() for value in values if value["chosen"]]
    assert [value["text"] for value in chosen] == ["shoe"]
    assert chosen[0]["where"] == ""


def test_several_values_of_a_column_can_be_chosen(client: TestClient) -> None:
    first = ask(client)["label"]
    shoe = next(value for value in first if value["text"] == "shoe")
    with_size = f"{shoe['where']} and size > 0"
    one = ask(client, with_size)["label"]
    assert [(value["text"], value["count"]) for value in one] == [(value["text"], value["count"]) for value in first]
    hat = next(value for value in one if value["text"] == "hat")
    assert hat["where"] == '(label = "shoe" or label = "hat") and size > 0'
    assert total(client, hat["where"]) == shoe["count"] + hat["count"]
    both = ask(client, hat["where"])
    assert {value["text"] for value in both["label"] if value["chosen"]} == {"shoe", "hat"}
    given_up = {value["text"]: value["where"] for value in both["label"] if value["chosen"]}
    assert given_up == {"shoe": 'label = "hat" and size > 0', "hat": 'label = "shoe" and size > 0'}
    assert {value["text"] for value in ask(client, "label = shoe or label = ghost")["label"] if value["chosen"]} == {
        "shoe", "ghost",
    }  # fmt: skip
    sizes = {value["where"] for value in both["size"] if not value["chosen"]}
    assert sizes
    assert all(where.startswith('(label = "shoe" or label = "hat") and') for where in sizes)


def test_what_was_chosen_can_be_given_up(client: TestClient) -> None:
    where = "width >= 60 or label = hat"
    size = ask(client, where)["size"][1]
    assert str(parse(size["where"])).startswith('(width >= 60 or label = "hat") and size')
    chosen = [value for value in ask(client, size["where"])["size"] if value["chosen"]]
    assert chosen[0]["where"] == 'width >= 60 or label = "hat"'
    left = next(value for value in ask(client)["folder"] if value["text"] == "left")
    folders = ask(client, left["where"])["folder"]
    assert [(value["text"], value["chosen"], value["where"]) for value in folders] == [("left", True, "")]


def test_names_are_quoted_and_wildcards_in_folders_are_none() -> None:
    names = ["a [1]/x", 'it"s *', ""]
    rows = np.arange(3)
    values = Values(
        rows,
        {
            "folder": Texts(Column("path"), names, rows, rows),
            "[my name]": Texts(Column("my name", True), names, rows, rows),
        },
    )
    found = {facet["name"]: facet["values"] for facet in facets(values, lambda where: np.ones(3, bool), None)}
    assert [value["where"] for value in found["folder"]] == ['path ~ "a [[]1]/*"', 'path ~ "it""s [*]/*"']
    assert '[my name] = "it""s *"' in {value["where"] for value in found["[my name]"]}


def test_values_that_are_too_long_for_a_filter_are_not_offered() -> None:
    names = ["a", "b", "c" * 5000, "d" * 3000]
    texts = Texts(Column("text"), names, np.arange(4), np.arange(4))
    (found,) = facets(Values(np.arange(4), {"text": texts}), lambda where: np.ones(4, bool), None)
    assert [value["text"][0] for value in found["values"]] == ["a", "b", "d"]
    assert found["more"] == 1
    (found,) = facets(Values(np.arange(4), {"text": texts}), lambda where: np.ones(4, bool), f'text != "{"x" * 2000}"')
    assert [value["text"][0] for value in found["values"]][-2:] == ["a", "b"]


def test_dates_are_years_and_in_one_year_months() -> None:
    months = ["2023-12", "2024-01", "2024-03"]
    rows = np.arange(3)
    values = Values(rows, {"time": Texts(Column("time"), months, rows, rows)})
    assert [value["text"] for value in facets(values, lambda where: np.ones(3, bool), None)[0]["values"]] == [
        "2024",
        "2023",
    ]
    within = facets(values, lambda where: rows > 0, "time = 2024")[0]["values"]
    assert [(value["text"], value["chosen"]) for value in within] == [
        ("2024", True), ("2024-03", False), ("2024-01", False),
    ]  # fmt: skip


def test_ranges_count_each_picture_once_also_below_zero() -> None:
    depths = np.array([-9.0, -7, -5, -3, -1, *[0] * 6, 1, 3, 5, 7, 9])
    values = Values(np.arange(len(depths)), {"[depth]": Numbers(Column("depth", True), depths)})
    ranges = facets(values, lambda where: np.ones(len(depths), bool), None)[0]["values"]
    assert "0" in {bound for value in ranges for bound in value["text"].split(" - ")}
    assert sum(value["count"] for value in ranges) == len(depths)


def test_colours_are_places_in_the_most_frequent_names() -> None:
    column = Texts(Column("label"), ["a", "b", "c"], np.array([0, 1, 2, 2, 3]), np.array([1, 1, 2, 0, 0]))
    found = colours(column, np.arange(5), 5)
    assert found["names"] == ["b", "a", "c"] or found["names"] == ["b", "c", "a"]
    assert [([*found["names"], "other", None])[place] for place in found["values"]] == ["b", "b", "c", "a", None]
    numbers = colours(Numbers(Column("size"), np.array([1.0, np.nan, 3.0])), np.array([2, 1]), 3)
    assert numbers["values"][0] == 3
    assert np.isnan(numbers["values"][1])


def test_the_map_gets_a_value_for_each_of_its_pictures(client: TestClient) -> None:
    ask(client)
    points, values = client.get("/api/map").json(), client.get("/api/map/values?column=label").json()
    assert values["ids"] == points["ids"]
    assert sorted(values["names"]) == ["copy", "hat", "shoe"]
    assert client.get("/api/map/values?column=price").json()["kind"] == "number"
    assert_problem(client.get("/api/map/values?column=nothing"), 404, "no column nothing; columns are label, folder")
