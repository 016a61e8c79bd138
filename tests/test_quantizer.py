from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import paper
from spq.config import DISTANCES, QuantizerConfig
from spq.errors import CodebookError, ConfigError
from spq.model.quantizer import Quantizer

GOLDEN = np.load(Path(__file__).parent / "golden" / "spq_reference.npz")  # outputs of the authors' public code


def golden_quantizer() -> Quantizer:
    quantizer = Quantizer(QuantizerConfig(num_codebooks=8, codebook_size=16, codeword_dim=16))
    C = torch.from_numpy(GOLDEN["C"]).view(16, 8, 16).transpose(0, 1)  # K x (M*d) -> (M, K, d)
    quantizer.codebooks.data.copy_(C)
    return quantizer


def random_quantizer(M: int, K: int, d: int, tau_q: float = 0.2) -> Quantizer:
    torch.manual_seed(M * 1000 + K)
    return Quantizer(QuantizerConfig(num_codebooks=M, codebook_size=K, codeword_dim=d, temperature=tau_q))


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


@pytest.mark.parametrize("K", [2, 16, 64, 256])
def test_a_codeword_encodes_to_itself_and_decodes_back(K: int) -> None:
    quantizer = random_quantizer(4, K, 8)
    codes = torch.randint(0, K, (20, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x = quantizer.decode(codes)
    assert torch.equal(quantizer.encode(x), codes)
    tables = quantizer.tables(x, "l2")
    own = tables.gather(2, codes.long()[:, :, None])
    assert own.abs().max() == 0


def test_a_cold_soft_assignment_is_the_hard_one() -> None:
    quantizer = random_quantizer(3, 16, 8, tau_q=1e-5)
    x = torch.randn(10, 24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(quantizer(x), quantizer.decode(quantizer.encode(x)), atol=1e-5, rtol=0)


def test_squared_tables_are_the_squares_of_the_others() -> None:
    quantizer, x = random_quantizer(2, 8, 4), torch.ones(1, 8)
    torch.testing.assert_close(quantizer.tables(x, "l2").square(), quantizer.tables(x, "sqeuclidean"))
    with pytest.raises(ConfigError, match="unknown distance 'cosine'; use l2, sqeuclidean or dot"):
        quantizer.tables(x, "cosine")  # type: ignore[arg-type]


@given(M=st.integers(1, 5), bits=st.integers(1, 6), d=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_dot_is_minus_the_inner_product_with_what_a_code_stands_for(M: int, bits: int, d: int, seed: int) -> None:
    quantizer, rng = random_quantizer(M, 2**bits, d), np.random.default_rng(seed)
    x = rng.normal(size=(3, M * d)).astype(np.float32)
    codes = rng.integers(0, 2**bits, (20, M)).astype(np.uint8)
    tables = quantizer.tables(torch.from_numpy(x), "dot").detach().numpy()
    decoded = quantizer.decode(torch.from_numpy(codes)).detach().numpy()
    distances = sum(tables[:, m][:, codes[:, m]] for m in range(M))
    np.testing.assert_allclose(distances, -(x.astype(np.float64) @ decoded.T), rtol=1e-4, atol=1e-5)


def test_the_distance_changes_tables_and_no_code() -> None:
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(2))
    quantizers = [Quantizer(QuantizerConfig(codeword_dim=4, distance=distance)) for distance in DISTANCES]
    for quantizer in quantizers:
        quantizer.load_state_dict(quantizers[0].state_dict())
        assert torch.equal(quantizer.encode(x), quantizers[0].encode(x))
        assert torch.equal(quantizer.tables(x), quantizers[0].tables(x, quantizer.config.distance))


@pytest.mark.parametrize(("M", "K", "bits"), [(4, 16, 16), (8, 16, 32), (16, 16, 64), (8, 256, 64), (6, 64, 36)])
def test_bits_are_m_times_log2_k(M: int, K: int, bits: int) -> None:
    assert QuantizerConfig(num_codebooks=M, codebook_size=K).bits == bits


@pytest.mark.parametrize("K", [0, 1, 3, 12, 512])
def test_a_codebook_size_that_is_no_power_of_two_is_refused(K: int) -> None:
    with pytest.raises(CodebookError, match=f"K={K}; try 16, 64 or 256"):
        QuantizerConfig(codebook_size=K)
