"""Classic codes of the same length, on the same descriptors or on raw pixels, to compare trained codes with.

Each method is fitted on a gallery and returns a search, so queries cannot take part in the fit. PQ and OPQ are asymmetric with
squared distances. ITQ and LSH compare bits by Hamming distance, as in their papers. Ties go by gallery order. Sub-codes have
4 bits, so `bits` is a multiple of 4. Sub-codes of PQ-256 and OPQ-256 have 8 bits, as in their papers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.pq.scan import rank
from spq.pq.tables import decode, distance_tables

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]
Search = Callable[[NDArray[Any], int], Rows]  # queries (Q, D), top -> gallery rows (Q, top), best first
Fit = Callable[[NDArray[Any], int, np.random.Generator], Search]  # gallery (N, D), bits, rng

SAMPLE = 20_000  # gallery rows that codebooks and rotations are fitted on, at most
OPQ_STEPS = 20  # alternations of Lloyd and rotation; 50 lower the error by another tenth, in twice the time
ITQ_STEPS = 50  # as in its paper


def random_codes(gallery: NDArray[Any], bits: int, rng: np.random.Generator) -> Search:
    """Random codes: the level of chance."""
    codes = rng.integers(0, 16, (len(gallery), bits // 4)).astype(np.uint8)
    return lambda queries, top: rank(rng.random((len(queries), bits // 4, 16), np.float32), codes, top)[1]


def product_quantization(gallery: NDArray[Any], bits: int, rng: np.random.Generator, K: int = 16) -> Search:
    """PQ (Jegou et al. 2011): k-means with K codewords in each of bits / log2(K) sub-spaces."""
    codebooks = train_codebooks(_sample(gallery, rng), _subspaces(bits, K), rng, K)
    codes = encode(gallery, codebooks)
    return lambda queries, top: rank(_tables(queries, codebooks), codes, top)[1]


def optimized_product_quantization(gallery: NDArray[Any], bits: int, rng: np.random.Generator, K: int = 16) -> Search:
    """OPQ (Ge et al. 2013), non-parametric: rotation and codebooks are fitted alternately."""
    mean, M = gallery.mean(0), _subspaces(bits, K)
    rotation, codebooks = train_rotation(_padded(_sample(gallery, rng) - mean, M), M, rng, K)

    def rotate(x: NDArray[Any]) -> Floats:
        return np.asarray(_padded(x - mean, M) @ rotation)

    codes = encode(rotate(gallery), codebooks)
    return lambda queries, top: rank(_tables(rotate(queries), codebooks), codes, top)[1]


def iterative_quantization(gallery: NDArray[Any], bits: int, rng: np.random.Generator) -> Search:
    """ITQ (Gong and Lazebnik 2011): PCA to `bits` dimensions, rotated so that rounding to signs changes little.

    If there are fewer dimensions than bits, the remaining bits start from random directions of the same space.
    """
    mean = gallery.mean(0)
    axes = _principal_axes(gallery - mean)[1][:, :bits]
    more = rng.normal(size=(axes.shape[1], max(0, bits - axes.shape[1])))
    projection = np.hstack([axes, axes @ more])
    sample = (_sample(gallery, rng) - mean) @ projection
    rotation = np.linalg.qr(rng.normal(size=(bits, bits)))[0]
    for _ in range(ITQ_STEPS):
        u, _, vt = np.linalg.svd(sample.T @ np.sign(sample @ rotation))
        rotation = u @ vt
    return _signs(gallery, mean, projection @ rotation)


def random_hyperplanes(gallery: NDArray[Any], bits: int, rng: np.random.Generator) -> Search:
    """LSH (Charikar 2002): signs of random projections of the centred data."""
    return _signs(gallery, gallery.mean(0), rng.normal(size=(gallery.shape[1], bits)))


def float_cosine(gallery: NDArray[Any], chunk: int = 500) -> Search:
    """The cosine of the descriptors themselves, without codes: an upper reference for codes."""
    directions = unit(gallery)

    def nearest(queries: NDArray[Any], top: int) -> Rows:
        d = -(queries @ directions.T)
        kth = np.partition(d, top - 1, axis=1)[:, top - 1]
        out = np.empty((len(queries), top), np.int64)
        for row, (distances, limit) in enumerate(zip(d, kth, strict=True)):
            candidates = np.flatnonzero(distances <= limit)  # in gallery order, with all ties at the limit
            out[row] = candidates[np.argsort(distances[candidates], kind="stable")[:top]]
        return out

    def search(queries: NDArray[Any], top: int) -> Rows:
        top = min(top, len(directions))
        parts = [nearest(queries[start : start + chunk], top) for start in range(0, len(queries), chunk)]
        return np.concatenate(parts) if parts else np.empty((0, top), np.int64)

    return search


def unit(x: NDArray[Any]) -> Floats:
    """(N, D) scaled to length 1; rows of zeros stay."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), np.float32)


DESCRIPTOR_BASELINES: dict[str, Fit] = {
    "PQ": product_quantization,
    "OPQ": optimized_product_quantization,
    "ITQ": iterative_quantization,
    "LSH": random_hyperplanes,
}
BYTE_BASELINES: dict[str, Fit] = {
    "PQ-256": partial(product_quantization, K=256),
    "OPQ-256": partial(optimized_product_quantization, K=256),
}


def descriptor_baselines(bits: int) -> dict[str, Fit]:
    """The methods that make codes of this length in bits, a multiple of 4."""
    return DESCRIPTOR_BASELINES | (BYTE_BASELINES if bits % 8 == 0 else {})


def train_codebooks(x: NDArray[Any], M: int, rng: np.random.Generator, K: int = 16, iterations: int = 20) -> Floats:
    """Codebooks (M, K, d), d = ceil(D / M), by k-means in each sub-space of x (n, D).

    With fewer than K rows, each row is a codeword, and the first codeword is repeated.
    """
    import faiss

    d, k, seed = -(-x.shape[1] // M), min(K, len(x)), int(rng.integers(2**30))
    codebooks = np.empty((M, K, d), np.float32)
    for m in range(M):
        # else faiss warns on stderr about few points, and takes another sample
        bounds = {"min_points_per_centroid": 1, "max_points_per_centroid": len(x)}
        kmeans = faiss.Kmeans(d, k, niter=iterations, seed=seed + m, **bounds)
        kmeans.train(_part(x, m, d))
        codebooks[m, :k] = kmeans.centroids
        codebooks[m, k:] = codebooks[m, 0]
    return codebooks


def train_rotation(
    x: Floats, M: int, rng: np.random.Generator, K: int = 16, steps: int = OPQ_STEPS
) -> tuple[Floats, Floats]:
    """Rotation (D, D) and codebooks (M, K, d) of OPQ for centred x (n, D), D a multiple of M.

    It starts from the principal axes and from the unrotated axes (Ge et al., 3.1), and keeps the result with the smaller error.
    Either start can end in a worse optimum.
    """
    starts = (_balanced_axes(x, M), np.eye(x.shape[1], dtype=np.float32))
    fitted = [_alternate(x, rotation, train_codebooks(x @ rotation, M, rng, K), steps) for rotation in starts]
    return min(fitted, key=lambda fit: float(np.square(x @ fit[0] - decode(encode(x @ fit[0], fit[1]), fit[1])).sum()))


def _alternate(x: Floats, rotation: Floats, codebooks: Floats, steps: int) -> tuple[Floats, Floats]:
    # one Lloyd step from the last codebooks: new ones would lose what the rotation gained
    for _ in range(steps):
        codes, codebooks = _lloyd(x @ rotation, codebooks)
        u, _, vt = np.linalg.svd(x.T @ decode(codes, codebooks))
        rotation = np.asarray(u @ vt, np.float32)
    return rotation, _lloyd(x @ rotation, codebooks)[1]


def encode(x: NDArray[Any], codebooks: Floats) -> Codes:
    """(N, D) of any number type -> codes (N, M) uint8. It works on one sub-space at a time, so that pixels stay bytes."""
    M, _, d = codebooks.shape
    codes = np.empty((len(x), M), np.uint8)
    for m, codebook in enumerate(codebooks):
        codes[:, m] = (np.square(codebook).sum(1) - 2 * _part(x, m, d) @ codebook.T).argmin(1)
    return codes


def _tables(x: NDArray[Any], codebooks: Floats) -> Floats:
    """Squared distances (Q, M, K) of sub-vectors to codewords."""
    return distance_tables(_padded(x, len(codebooks)), codebooks, "sqeuclidean")


def _lloyd(x: Floats, codebooks: Floats) -> tuple[Codes, Floats]:
    """One step of k-means: the codes of x, and codewords moved to the means of their rows. A codeword without rows stays."""
    codes, moved = encode(x, codebooks), codebooks.copy()
    for m in range(len(codebooks)):
        is_member = codes[:, m, None] == np.arange(codebooks.shape[1], dtype=np.uint8)
        counts = is_member.sum(0)
        sums = is_member.T.astype(np.float32) @ _part(x, m, codebooks.shape[2])
        moved[m, counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return codes, moved


def _subspaces(bits: int, K: int) -> int:
    return bits // (K.bit_length() - 1)


def _part(x: NDArray[Any], m: int, d: int) -> Floats:
    """Columns m*d to (m+1)*d as float32, with zeros after the last column, which change no distance."""
    columns = x[:, m * d : (m + 1) * d]
    part = np.zeros((len(x), d), np.float32)
    part[:, : columns.shape[1]] = columns
    return part


def _padded(x: NDArray[Any], M: int) -> Floats:
    """(N, D) as float32, with columns of zeros up to a multiple of M."""
    return np.pad(x, ((0, 0), (0, -x.shape[1] % M))).astype(np.float32)


def _sample(x: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return x if len(x) <= SAMPLE else x[np.sort(rng.choice(len(x), SAMPLE, replace=False))]


def _principal_axes(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances, largest first, and axes (D, D) in columns, of centred x."""
    values, vectors = np.linalg.eigh((x.T @ x / len(x)).astype(np.float64))
    return values[::-1], vectors[:, ::-1]


def _balanced_axes(x: Floats, M: int) -> Floats:
    """Principal axes divided among the sub-spaces so that the products of their variances are about equal (Ge et al., 3.2)."""
    variances, axes = _principal_axes(x)
    shares = np.maximum(variances / max(variances[0], 1e-30), 1e-12)
    logs, room = np.zeros(M), np.full(M, x.shape[1] // M)
    groups: list[list[int]] = [[] for _ in range(M)]
    for axis, share in enumerate(shares):
        m = int(np.argmin(np.where(room > 0, logs, np.inf)))
        groups[m].append(axis)
        logs[m] += np.log(share) + 30  # the shift keeps each addition positive
        room[m] -= 1
    return np.asarray(axes[:, [axis for group in groups for axis in group]], np.float32)


def _signs(gallery: NDArray[Any], mean: NDArray[Any], projection: NDArray[Any]) -> Search:
    """A search of the signs under a projection (D, bits), by the number of different bits.

    It is a table scan: 4 bits are one sub-code, and a table holds the Hamming distances to its 16 values.
    """
    weights = 1 << np.arange(4)
    words = (np.arange(16)[:, None] & weights) > 0  # (16, 4)

    def four_bits(x: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(((x - mean) @ projection > 0).reshape(len(x), projection.shape[1] // 4, 4))

    codes = (four_bits(gallery) @ weights).astype(np.uint8)

    def search(queries: NDArray[Any], top: int) -> Rows:
        tables = (four_bits(queries)[:, :, None, :] != words).sum(3).astype(np.float32)
        return rank(tables, codes, top)[1]

    return search
