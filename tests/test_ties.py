from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spq.pq.ties import ids_at, tie_keys


def slow_key(id_: int) -> int:
    """The same in whole numbers of Python."""
    x = (id_ % 2**32) ^ ((id_ >> 32) * 0x9E3779B1 % 2**32)
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return (x ^ x >> 16) << 32 | id_ % 2**32


@given(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 300), min_size=1))
def test_keys_equal_those_of_a_slow_version(ids: list[int]) -> None:
    assert tie_keys(np.array(ids, np.int64)).tolist() == [slow_key(id_) for id_ in ids]


def test_ids_of_each_type_have_the_same_and_different_keys() -> None:
    rows = np.array([0, 3, 9])
    ids = range(2**31, 2**31 + 20, 2)
    for kind in (np.int64, np.uint32):
        some = np.array(ids, kind)
        np.testing.assert_array_equal(tie_keys(ids_at(ids, rows)), tie_keys(ids_at(some, rows)))
    near_the_limit = np.concatenate([np.arange(50_000), np.arange(2**32 - 50_000, 2**32 + 50_000)])
    assert len(np.unique(tie_keys(near_the_limit))) == 150_000


def test_the_order_has_nothing_to_do_with_that_of_the_ids() -> None:
    order = tie_keys(np.arange(10_000)).argsort()
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.03
    first = order[:1000]  # by tenths of the ids, such as classes of a collection sorted by class
    assert np.bincount(first // 1000, minlength=10).min() > 70
