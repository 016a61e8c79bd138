from __future__ import annotations

import numpy as np
import pytest

from spq.index.checksums import CODE_BITS, code_checks, row_check


@pytest.mark.parametrize("M", [1, 7, 8, 16, 21])
def test_one_row_and_many_give_the_same_checksum(M: int) -> None:
    rng = np.random.default_rng(M)
    codes, ids = rng.integers(0, 256, (50, M), dtype=np.uint8), rng.integers(1, 2**62, 50)
    key = int(rng.integers(0, 2**63 - 1))
    checks = [row_check(key, int(id_), code.tobytes()) & CODE_BITS for id_, code in zip(ids, codes, strict=True)]
    assert code_checks(key, ids, codes).tolist() == checks


def test_every_flipped_bit_and_every_swap_changes_the_checksum() -> None:
    codes, ids = np.random.default_rng(0).integers(0, 256, (2, 8), dtype=np.uint8), np.array([3, 4])
    before = code_checks(9, ids, codes)
    for bit in range(128):
        flipped = np.packbits(np.unpackbits(codes.ravel()) ^ (np.arange(128) == bit)).reshape(2, 8)
        assert ((code_checks(9, ids, flipped) != before) == [bit < 64, bit >= 64]).all()
    assert (code_checks(9, ids, codes[::-1]) != before).all()
    assert (code_checks(9, ids[::-1], codes) != before).all()
    assert (code_checks(8, ids, codes) != before).all()  # the key of another index


def test_facts_of_another_value_or_type_change_the_checksum_and_keep_that_of_the_code() -> None:
    facts = (b"a.jpg", b"hash", 5, -1, 7, 8, 0, None, b"{}", 0, 1)
    before = row_check(9, 3, b"code", *facts)
    for place in range(len(facts)):
        for value in (b"x", 6, None, 1.0, "a.jpg"):
            if value != facts[place]:
                after = row_check(9, 3, b"code", *facts[:place], value, *facts[place + 1 :])
                assert after >> 32 != before >> 32
                assert after & CODE_BITS == before & CODE_BITS
    assert 0 <= before < 2**63  # SQLite's integers end there


def test_a_row_of_any_types_has_a_checksum() -> None:
    assert row_check(None, 1, "text", 1.5, "\udcff") >= 0
