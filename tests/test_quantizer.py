from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import paper
from spq.config import DISTANCES, QuantizerConfig
from spq.errors import CodebookError, ConfigError
from spq.model.quantizer import ProductQuantizer

GOLDEN = np.load(Path(__file__).parent / "golden" / "spq_reference.npz")  # outputs of the authors' public code


def golden_quantizer() -> ProductQuantizer:
    quantizer = ProductQuantizer(QuantizerConfig(num_codebooks=8, codebook_size=16, codeword_dim=16))
    C = torch.from_numpy(GOLDEN["C"]).view(16, 8, 16).transpose(0, 1)  # K x (M*d) -> (M, K, d)
    quantizer.codebooks.data.copy_(C)
    return quantizer


def random_quantizer(M: int, K: int, d: int, tau_q: float = 0.2) -> ProductQuantizer:
    torch.manual_seed(M * 1000 + K)
    return ProductQuantizer(QuantizerConfig(num_codebooks=M, codebook_size=K, codeword_dim=d, temperature=tau_q))


@pytest.mark.parametrize("view", ["a", "b"])
def test_soft_quantization_equals_the_authors_code(view: str) -> None:
    z = golden_quantizer()(torch.from_numpy(GOLDEN[f"X{view}"]))
    np.testing.assert_allclose(z.detach().numpy(), GOLDEN[f"Z{view}"], atol=1e-5)


def test_codes_equal_the_authors_code() -> None:
    codes = golden_quantizer().encode(torch.from_numpy(GOLDEN["gallery"]))
    assert codes.dtype == torch.uint8
    np.testing.assert_array_equal(codes.numpy(), GOLDEN["codes"])


def test_l2_tables_sum_to_the_authors_distances() -> None:
    tables = golden_quantizer().tables(torch.from_numpy(GOLDEN["queries"]), "l2").detach().numpy()
    distances = sum(tables[:, m, GOLDEN["codes"][:, m]] for m in range(8))
    np.testing.assert_allclose(distances, GOLDEN["distances"], rtol=1e-5)


@given(M=st.integers(1, 5), bits=st.integers(1, 6), d=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_soft_and_hard_assignment_equal_the_papers_loops(M: int, bits: int, d: int, seed: int) -> None:
    quantizer = random_quantizer(M, 2**bits, d)
    x = np.random.default_rng(seed).normal(size=(3, M * d)).astype(np.float32)
    C = quantizer.codebooks.detach().numpy().astype(np.float64)
    z = quantizer(torch.from_numpy(x)).detach().numpy()
    codes = quantizer.encode(torch.from_numpy(x)).numpy()
    for row in range(3):
        np.testing.assert_allclose(z[row], paper.soft_quantize(x[row].astype(np.float64), C, 0.2), atol=1e-4)
        assert codes[row].tolist() == paper.hard_code(x[row].astype(np.float64), C)


@given(M=st.integers(1, 4), bits=st.integers(1, 5), d=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_tables_add_up_to_the_distances_of_plain_loops(M: int, bits: int, d: int, seed: int) -> None:
    quantizer, rng = random_quantizer(M, 2**bits, d), np.random.default_rng(seed)
    x = rng.normal(size=(2, M * d)).astype(np.float32)
    codes = rng.integers(0, 2**bits, (3, M))
    C = quantizer.codebooks.detach().numpy().astype(np.float64)
    for distance in DISTANCES:
        tables = quantizer.tables(torch.from_numpy(x), distance).detach().numpy()
        for row in range(2):
            for code in codes.tolist():
                expected = paper.asymmetric_distance(x[row].astype(np.float64), code, C, distance)
                assert sum(tables[row, m, k] for m, k in enumerate(code)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.fixture
def by_hand() -> ProductQuantizer:
    """Two codebooks of two codewords of one number: 0 and 2, and -1 and 1."""
    quantizer = ProductQuantizer(QuantizerConfig(num_codebooks=2, codebook_size=2, codeword_dim=1, temperature=0.5))
    quantizer.codebooks.data.copy_(torch.tensor([[[0.0], [2.0]], [[-1.0], [1.0]]]))
    return quantizer


def test_known_values(by_hand: ProductQuantizer) -> None:
    x = torch.tensor([[0.5, 3.0]])
    assert by_hand.encode(x).tolist() == [[0, 1]]
    assert by_hand.decode(torch.tensor([[0, 1], [1, 0]])).tolist() == [[0, 1], [2, -1]]
    # squared distances 0.25 and 2.25, 16 and 4, divided by 0.5: weights 1 to e^-4, and e^-24 to 1
    z = by_hand(x)[0].tolist()
    assert z == pytest.approx([2 * math.exp(-4) / (1 + math.exp(-4)), 1.0], abs=1e-6)
    assert by_hand.tables(x, "l2").tolist() == [[[0.5, 1.5], [4.0, 2.0]]]
    assert by_hand.tables(x, "sqeuclidean").tolist() == [[[0.25, 2.25], [16.0, 4.0]]]
    assert by_hand.tables(x, "dot").tolist() == [[[0.0, -1.0], [3.0, -3.0]]]


def test_the_distance_of_the_configuration_is_the_default(by_hand: ProductQuantizer) -> None:
    x, expected = torch.tensor([[0.5, 3.0]]), {"l2": 4.0, "sqeuclidean": 16.0, "dot": 3.0}
    for distance in DISTANCES:
        quantizer = ProductQuantizer(replace(by_hand.config, distance=distance))
        quantizer.load_state_dict(by_hand.state_dict())
        assert quantizer.tables(x)[0, 1, 0].item() == expected[distance]
        assert quantizer.encode(x).tolist() == [[0, 1]]  # codes do not depend on it
    with pytest.raises(ConfigError, match="unknown distance 'cosine'; use l2, sqeuclidean or dot"):
        by_hand.tables(x, "cosine")  # type: ignore[arg-type]


@pytest.mark.parametrize("K", [2, 16, 64, 256])
def test_a_codeword_encodes_to_itself_at_distance_zero(K: int) -> None:
    quantizer = random_quantizer(4, K, 8)
    codes = torch.randint(0, K, (20, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x = torch.cat([quantizer.codebooks[m, codes[:, m].long()] for m in range(4)], 1)
    assert torch.equal(quantizer.encode(x), codes)
    assert torch.equal(quantizer.decode(codes), x)
    tables = quantizer.tables(x, "l2")
    assert all(tables[row, m, k] == 0 for row, code in enumerate(codes.tolist()) for m, k in enumerate(code))


def test_soft_assignment_at_a_low_temperature_is_the_hard_one() -> None:
    quantizer = random_quantizer(3, 16, 8, tau_q=1e-5)
    x = torch.randn(10, 24, generator=torch.Generator().manual_seed(1))
    C = quantizer.codebooks.detach().numpy().astype(np.float64)
    for row, z in zip(x, quantizer(x).detach().numpy(), strict=True):
        code = paper.hard_code(row.numpy().astype(np.float64), C)
        np.testing.assert_allclose(z, np.concatenate([C[m, k] for m, k in enumerate(code)]), atol=1e-5)


def test_codewords_start_uniform_within_the_bound_of_xavier_over_all_codebooks() -> None:
    codebooks = random_quantizer(8, 16, 16).codebooks
    bound = math.sqrt(6 / (16 + 8 * 16))  # the authors draw one matrix, 16 x 128
    assert codebooks.shape == (8, 16, 16)
    assert 0.99 * bound < codebooks.max() <= bound
    assert -bound <= codebooks.min() < -0.99 * bound
    assert abs(codebooks.mean()) < 0.05 * bound


@pytest.mark.parametrize(("M", "d", "rows"), [(8, 128, [256, 256, 88]), (128, 4096, [1] * 600)])
def test_many_descriptors_are_encoded_in_parts_whose_differences_need_256_mb(M: int, d: int, rows: list[int]) -> None:
    class Recorded(ProductQuantizer):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            parts.append(len(x))
            return torch.empty(len(x), 16, dtype=torch.uint8)

    parts: list[int] = []
    with torch.device("meta"):  # nothing is computed
        quantizer = Recorded(QuantizerConfig(num_codebooks=M, codebook_size=256, codeword_dim=d))
        assert len(quantizer.encode_many(torch.empty(600, M * d))) == 600
    assert parts == rows


def test_many_descriptors_have_the_codes_of_each() -> None:
    quantizer = random_quantizer(2, 4, 3)
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(quantizer.encode_many(x), torch.cat([quantizer.encode(row[None]) for row in x]))


@pytest.mark.parametrize(("M", "K", "bits"), [(4, 16, 16), (8, 16, 32), (16, 16, 64), (8, 256, 64), (6, 64, 36)])
def test_bits_are_m_times_log2_k(M: int, K: int, bits: int) -> None:
    assert QuantizerConfig(num_codebooks=M, codebook_size=K).bits == bits


@pytest.mark.parametrize("K", [3, 12, 255])
def test_a_codebook_size_must_be_a_power_of_two(K: int) -> None:
    with pytest.raises(CodebookError, match=f"K={K}; try 16, 64 or 256"):
        QuantizerConfig(codebook_size=K)


@pytest.mark.parametrize("K", [0, 1, 512])
def test_a_codebook_size_must_fit_a_byte(K: int) -> None:
    with pytest.raises(CodebookError, match=f"codebook_size must be from 2 to 256, got {K}; omit it"):
        QuantizerConfig(codebook_size=K)
