from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spq import ImageIndex
from spq.errors import ConfigError, ImageError, SPQError, StoreError
from spq.index.request import NEGATIVE_WEIGHT, SearchRequest


@pytest.mark.parametrize(
    ("message", "queries", "options"),
    [
        ("`top` must be 1 or more, got 0", [1], {"top": 0}),
        ("`offset` must be 0 or more, got -1", [1], {"offset": -1}),
        ("`max_distance` must be a number, got nan", [1], {"max_distance": float("nan")}),
        ("the search has no query", [[]], {}),
        ("the search has no query", [1, []], {}),
        ("`box` belongs to one picture, got 2", [["a.jpg", "b.jpg"]], {"box": (0, 0, 5, 5)}),
        ("`box` belongs to one picture, got an id or a descriptor", [3], {"box": (0, 0, 5, 5)}),
        ("`box` belongs to one picture, got an id", [np.zeros(32, np.float32)], {"box": (0, 0, 5, 5)}),
        ("`weights` must hold 2 numbers, one for each of 2 query and 0 negative pictures, got 1", [[1, 2]], {"weights": [1]}),
        ("`weights` must hold 2 numbers, one for each of 1 query and 1 negative pictures, got 3", [1],
         {"weights": [1, 1, 1], "negative": [2]}),
        ("`weights` must hold 1 numbers, one for each of 1 query", [1, [2, 3]], {"weights": [1, 1]}),
        ("`weights` must lie between 0 and 1,000,000, got -1", [[1, 2]], {"weights": [1, -1]}),
        ("`weights` must lie between 0 and 1,000,000, got 1e+308", [[1, 2]], {"weights": [1e308, 1e308]}),
        ("`weights` must lie between 0 and 1,000,000, got nan", [1], {"weights": [float("nan")]}),
        ("`weights` of all query pictures are 0", [1], {"weights": [0, 1], "negative": [2]}),
        ("`weights` must be numbers", [[1, 2]], {"weights": ["x", "y"]}),
        ("`where`: ends at 8; expected a value", [1], {"where": "label ="}),
        ("`method` ivf does not work with `where`", [1], {"where": "width > 1", "method": "ivf"}),
        ("`nprobe` 3 does not work with `where`", [1], {"where": "width > 1", "nprobe": 3}),
        ("`recall_target` 0.9 does not work with `where`", [1], {"where": "width > 1", "recall_target": 0.9}),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_in_one_line(
    message: str, queries: list[object], options: dict[str, object]
) -> None:
    with pytest.raises(ConfigError) as caught:
        SearchRequest(queries, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_one_picture_and_a_list_of_one_are_the_same_query() -> None:
    assert SearchRequest([7, [8, "a.jpg"], ("b.jpg",)]).groups == [[7], [8, "a.jpg"], ["b.jpg"]]


def test_weights_are_1_for_a_query_and_less_for_a_negative_unless_they_are_given() -> None:
    request = SearchRequest([[1, 2]], negative=[3])
    assert request.weights_of([1, 2]).tolist() == [1, 1, NEGATIVE_WEIGHT]
    assert SearchRequest([[1, 2]], negative=[3], weights=[2, 0, 5]).weights_of([1, 2]).tolist() == [2, 0, 5]


def test_a_filter_goes_with_every_exact_method(photo_index: Path) -> None:
    with ImageIndex.open(photo_index) as index:
        expected = index.search(1, 60, where="width > 1")
        assert len(expected) == 60
        for method in ("auto", "exact", "fast"):
            assert index.search(1, 60, where="width > 1", method=method) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"method": "ivf"}, {"nprobe": 3}, {"recall_target": 0.9}])
def test_a_filter_is_never_searched_approximately(photo_index: Path, options: dict[str, object]) -> None:
    with ImageIndex.open(photo_index) as index:
        with pytest.raises(ConfigError, match="does not work with `where`: a filtered search is always exact"):
            index.search(1, where="width > 1", **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="does not work with `where`"):
            index.search_many([1, 2], where="width > 1", **options)


def test_the_search_refuses_what_only_the_index_can_check(photo_index: Path, photos: Path) -> None:
    a = min(photos.rglob("*.png"))
    cases: list[tuple[type[SPQError], str, dict[str, object]]] = [
        (StoreError, "no picture with id 999", {"negative": [999]}),
        (
            StoreError,
            "a descriptor must have 32 numbers for this index, got 3",
            {"negative": [np.zeros(3, np.float32)]},
        ),
        (ImageError, "nowhere.jpg", {"negative": [a.with_name("nowhere.jpg")]}),
        (ConfigError, "unknown column colour", {"where": "colour = red"}),
    ]
    with ImageIndex.open(photo_index) as index:
        for error, message, options in cases:
            with pytest.raises(error, match=message):
                index.search(a, **options)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="colour"):
            index.search_many([a], colour="red")
