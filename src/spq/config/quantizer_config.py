"""Section `[quantizer]` of a recipe: the shape of codes, and their distance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from spq.config.ranges import check_ranges, ranged, shown
from spq.errors import CodebookError, ConfigError

# The distance of a code is a sum over the codebooks: of norms (l2, the paper's code), of squared norms (plain PQ), or of negative
# inner products (dot), which may be below 0. Smaller is nearer.
Distance = Literal["l2", "sqeuclidean", "dot"]
DISTANCES: tuple[Distance, ...] = ("l2", "sqeuclidean", "dot")
MOST_CODEBOOKS = 1024
CROSS_TERMS = (
    "a norm of the difference to a sum of codewords has terms of pairs of codewords, which no table of one has"
)


def check_distance(name: str) -> None:
    """Refuse a name that is not in `DISTANCES`.

    Raises:
        ConfigError: lists the names that are allowed.
    """
    if name not in DISTANCES:
        *others, last = DISTANCES
        raise ConfigError(f"unknown distance {name!r}; use {', '.join(others)} or {last}")


@dataclass(frozen=True)
class QuantizerConfig:
    """M codebooks of K codewords of d numbers, and the temperature of soft assignment."""

    num_codebooks: int = ranged(8, 1, MOST_CODEBOOKS)  # M
    codebook_size: int = ranged(16, 2, 256)  # K, a power of two
    codeword_dim: int = ranged(16, 1, 4096)  # d
    temperature: float = ranged(0.2, 0, 1000, above=True)  # tau_q is a divisor; the paper prints the factor 5 = 1/0.2
    distance: Distance = "l2"
    # numbers of leading sub-codes that are codes too, rising to M; empty: only M
    prefixes: tuple[int, ...] = ranged((), 0, MOST_CODEBOOKS)
    # product: each codebook quantizes numbers of its own. residual: `stages` codebooks, one after the other, quantize the same
    # numbers, each what those before it left. Training with the caller's own module writes `given/CLASS`.
    kind: str = "product"
    stages: int = ranged(2, 2, MOST_CODEBOOKS)  # of a residual quantizer

    def __post_init__(self) -> None:
        try:
            check_ranges(self, "quantizer")
        except ConfigError as error:
            raise CodebookError(str(error)) from None
        K = self.codebook_size
        if K & (K - 1):
            raise CodebookError(f"codebook size must be a power of two up to 256, got K={K}; try 16, 64 or 256")
        check_distance(self.distance)
        self._check_kind()
        steps, M = (0, *self.prefixes), self.num_codebooks
        if self.prefixes and (self.prefixes[-1] != M or any(a >= b for a, b in pairwise(steps))):
            raise CodebookError(
                f"quantizer.prefixes must rise to M={M}, got {list(self.prefixes)}; for example [{M // 2}, {M}]"
            )

    def _check_kind(self) -> None:
        if self.kind not in ("product", "residual") and not self.is_given:
            raise ConfigError(f"unknown quantizer.kind {shown(self.kind)}; use product or residual")
        if self.kind != "residual":
            return
        if self.distance != "dot":
            raise ConfigError(
                f'a residual quantizer needs quantizer.distance = "dot", got {self.distance}: {CROSS_TERMS}'
            )
        if odd := [p for p in (*self.prefixes, self.num_codebooks) if p % self.stages]:
            raise CodebookError(
                f"a residual quantizer of {self.stages} stages needs a multiple of {self.stages} codebooks, got {odd[-1]}; "
                f"try {self.stages * (1 + odd[-1] // self.stages)}"
            )

    @property
    def is_given(self) -> bool:
        """Whether it is the caller's own module."""
        return self.kind.startswith("given/")

    @property
    def name(self) -> str:
        """Its kind, or the class of the caller's own module."""
        return self.kind.removeprefix("given/")

    @property
    def described(self) -> str:
        """Sizes in words."""
        M, K, d = self.num_codebooks, self.codebook_size, self.codeword_dim
        if self.is_given:
            return f"quantizer {self.name}: {M} sub-codes below {K} of {self.dim} numbers"
        text = f"{M} codebooks of {K} codewords of {d} numbers"
        return text if self.sharing == 1 else f"{text} in {self.sharing} stages"

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, K and D."""
        return self.num_codebooks, self.codebook_size, self.dim

    @property
    def sharing(self) -> int:
        """How many codebooks share each number of a descriptor: 1 of a product quantizer, all of a given one."""
        return {"product": 1, "residual": self.stages}.get(self.kind, self.num_codebooks)

    @property
    def parameters(self) -> int:
        """How many numbers the codebooks have; 0 of a given quantizer, which has what it likes."""
        M, K, d = self.num_codebooks, self.codebook_size, self.codeword_dim
        return 0 if self.is_given else M * K * d

    @property
    def bits(self) -> int:
        """Bits of a code: M * log2(K)."""
        return self.num_codebooks * (self.codebook_size.bit_length() - 1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Bits of each prefix that is a code, and of the whole code last."""
        per_codebook = self.bits // self.num_codebooks
        return tuple(p * per_codebook for p in self.prefixes) or (self.bits,)

    @property
    def prefix_dims(self) -> tuple[int, ...]:
        """How many numbers of a descriptor each of `lengths` needs: the first p * d / sharing."""
        return tuple(p // self.sharing * self.codeword_dim for p in self.prefixes) or (self.dim,)

    @property
    def bytes(self) -> int:
        """Bytes of a packed code."""
        return math.ceil(self.bits / 8)

    @property
    def parts(self) -> int:
        """Number of sub-vectors of a descriptor."""
        return self.num_codebooks // self.sharing

    @property
    def dim(self) -> int:
        """Dimension of a descriptor: D = M * d / sharing."""
        return self.parts * self.codeword_dim

    def with_bits(self, *bits: int) -> QuantizerConfig:
        """The same K and d, with enough codebooks for `bits`. Of several lengths, the shorter ones become prefixes.

        One length keeps the prefixes that are shorter.
        """
        per_codebook = self.codebook_size.bit_length() - 1
        for length in bits:
            if length < per_codebook or length % per_codebook:
                raise CodebookError(
                    f"`bits` must be a multiple of log2(K) = {per_codebook} bits per codebook, got {length}; try 16, 32 or 64"
                )
            if length > (most := MOST_CODEBOOKS * per_codebook):
                raise CodebookError(f"`bits` must be at most {most}, got {shown(length)}; try 16, 32 or 64")
        numbers = sorted({length // per_codebook for length in bits})
        M = numbers[-1]
        shorter = numbers[:-1] if len(numbers) > 1 else [p for p in self.prefixes if p < M]
        return replace(self, num_codebooks=M, prefixes=(*shorter, M) if shorter else ())
