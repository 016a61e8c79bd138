"""Classic codes of the same length, on the same descriptors or on raw pixels: what learning has to beat.

Everything is fitted on the gallery alone. PQ and OPQ are asymmetric with squared distances, ITQ and LSH compare bits by
Hamming distance, as their papers do. Each returns the ranked gallery rows (Q, top).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spq.index.scan import rank

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


def random_codes(gallery: Floats, queries: Floats, bits: int, top: int, rng: np.random.Generator) -> Rows:
    """Codes that know nothing: the level of chance."""
    codes = rng.integers(0, 16, (len(gallery), bits // 4)).astype(np.uint8)
    return rank(rng.random((len(queries), bits // 4, 16), np.float32), codes, top)[1]


def product_quantization(gallery: Floats, queries: Floats, bits: int, top: int, rng: np.random.Generator) -> Rows:
    """PQ (Jegou et al. 2011): k-means with 16 codewords in each of bits/4 sub-spaces."""
    M = bits // 4
    gallery, queries = _padded(gallery, M), _padded(queries, M)
    codebooks = _codebooks(gallery, M, rng)
    return rank(_tables(queries, codebooks), _encode(gallery, codebooks), top)[1]


def optimized_product_quantization(gallery: Floats, queries: Floats, bits: int, top: int, rng: np.random.Generator) -> Rows:
    """OPQ (Ge et al. 2013), non-parametric: a rotation and codebooks in turn, from a PCA start."""
    M = bits // 4
    gallery, queries = _padded(gallery, M), _padded(queries, M)
    mean = gallery.mean(0)
    gallery, queries = gallery - mean, queries - mean
    sample = gallery[rng.choice(len(gallery), min(len(gallery), 20_000), replace=False)]
    rotation = _balanced_pca(sample, M)
    for _ in range(20):
        rotated = sample @ rotation
        codebooks = _codebooks(rotated, M, rng, iterations=4)
        u, _, vt = np.linalg.svd(sample.T @ _decode(_encode(rotated, codebooks), codebooks))
        rotation = (u @ vt).astype(np.float32)
    gallery, queries = gallery @ rotation, queries @ rotation
    codebooks = _codebooks(gallery, M, rng)
    return rank(_tables(queries, codebooks), _encode(gallery, codebooks), top)[1]


def iterative_quantization(gallery: Floats, queries: Floats, bits: int, top: int, rng: np.random.Generator) -> Rows:
    """ITQ (Gong and Lazebnik 2011): PCA to `bits` dimensions, rotated to agree with their own signs."""
    mean = gallery.mean(0)
    _, _, vt = np.linalg.svd(np.cov(gallery - mean, rowvar=False))
    projection = vt[: min(bits, gallery.shape[1])].T
    x, q = (gallery - mean) @ projection, (queries - mean) @ projection
    if x.shape[1] < bits:  # fewer dimensions than bits: the rest of the bits are random directions of the same space
        more = rng.normal(size=(x.shape[1], bits - x.shape[1]))
        x, q = np.hstack([x, x @ more]), np.hstack([q, q @ more])
    rotation = np.linalg.qr(rng.normal(size=(bits, bits)))[0]
    for _ in range(50):
        u, _, vt = np.linalg.svd(np.sign(x @ rotation).T @ x)
        rotation = vt.T @ u.T
    return _hamming(x @ rotation > 0, q @ rotation > 0, top)


def random_hyperplanes(gallery: Floats, queries: Floats, bits: int, top: int, rng: np.random.Generator) -> Rows:
    """LSH (Charikar 2002): signs of random projections of the centred data."""
    mean, planes = gallery.mean(0), rng.normal(size=(gallery.shape[1], bits))
    return _hamming((gallery - mean) @ planes > 0, (queries - mean) @ planes > 0, top)


def float_cosine(gallery: Floats, queries: Floats, top: int, chunk: int = 500) -> Rows:
    """No code at all: cosine of the descriptors themselves. What codes are measured against from above."""
    unit = gallery / np.maximum(np.linalg.norm(gallery, axis=1, keepdims=True), 1e-12)
    out = []
    for start in range(0, len(queries), chunk):
        d = -(queries[start : start + chunk] @ unit.T)
        near = np.argpartition(d, min(top, d.shape[1]) - 1, axis=1)[:, :top]
        near.sort(axis=1)  # so that the stable sort below breaks ties by gallery order
        order = np.argsort(np.take_along_axis(d, near, 1), axis=1, kind="stable")
        out.append(np.take_along_axis(near, order, 1))
    return np.concatenate(out)


DESCRIPTOR_BASELINES: dict[str, Callable[[Floats, Floats, int, int, np.random.Generator], Rows]] = {
    "PQ": product_quantization,
    "OPQ": optimized_product_quantization,
    "ITQ": iterative_quantization,
    "LSH": random_hyperplanes,
}


def _padded(x: Floats, M: int) -> Floats:
    """Zero columns up to a multiple of M; they change no distance."""
    return np.pad(x, ((0, 0), (0, -x.shape[1] % M))).astype(np.float32)


def _codebooks(x: Floats, M: int, rng: np.random.Generator, iterations: int = 20) -> Floats:
    """(M, 16, d) by k-means in each sub-space, on at most 20,000 rows."""
    import faiss

    sample = x[rng.choice(len(x), min(len(x), 20_000), replace=False)]
    d, seed = x.shape[1] // M, int(rng.integers(2**31))
    books = np.zeros((M, 16, d), np.float32)
    for m in range(M):
        part = np.ascontiguousarray(sample[:, m * d : (m + 1) * d])
        k = min(16, len(part))
        kmeans = faiss.Kmeans(d, k, niter=iterations, seed=seed + m, min_points_per_centroid=1, max_points_per_centroid=10**6)
        kmeans.train(part)
        books[m, :k] = kmeans.centroids
        books[m, k:] = books[m, 0]
    return books


def _encode(x: Floats, codebooks: Floats) -> NDArray[np.uint8]:
    return _tables(x, codebooks).argmin(2).astype(np.uint8)


def _decode(codes: NDArray[np.uint8], codebooks: Floats) -> Floats:
    return codebooks[np.arange(len(codebooks)), codes].reshape(len(codes), -1)


def _tables(x: Floats, codebooks: Floats) -> Floats:
    """Squared distances (N, M, 16) of sub-vectors to codewords."""
    M, _, d = codebooks.shape
    sub = x.reshape(len(x), M, d)
    cross = np.einsum("nmd,mkd->nmk", sub, codebooks, optimize=True)
    squared = np.square(sub).sum(2)[:, :, None] - 2 * cross + np.square(codebooks).sum(2)
    return np.maximum(squared, 0).astype(np.float32)


def _balanced_pca(x: Floats, M: int) -> Floats:
    """Principal axes dealt to the sub-spaces so that their variances multiply to about the same (Ge et al., 3.2)."""
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    logs, room = np.zeros(M), np.full(M, x.shape[1] // M)
    groups: list[list[int]] = [[] for _ in range(M)]
    for axis in np.argsort(-values):
        m = int(np.argmin(np.where(room > 0, logs, np.inf)))
        groups[m].append(int(axis))
        logs[m] += np.log(max(values[axis], 1e-12)) + 30  # the shift keeps every addition positive
        room[m] -= 1
    return np.ascontiguousarray(vectors[:, [axis for group in groups for axis in group]], np.float32)


def _hamming(gallery: NDArray[np.bool_], queries: NDArray[np.bool_], top: int) -> Rows:
    """By number of differing bits, as a table scan: 4 bits of a code are one sub-code of 16 words."""
    words = (np.arange(16)[:, None] >> np.arange(4)) & 1  # (16, 4)
    weights = 1 << np.arange(4)
    bits = gallery.shape[1]
    codes = (gallery.reshape(len(gallery), bits // 4, 4) @ weights).astype(np.uint8)
    tables = (queries.reshape(len(queries), bits // 4, 1, 4) != words.astype(bool)).sum(3).astype(np.float32)
    return rank(tables, codes, top)[1]
