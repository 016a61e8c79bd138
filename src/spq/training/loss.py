"""Cross-quantized contrastive (CQC) loss (paper, section 3.3), as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Outputs = Sequence[tuple[Tensor, Tensor]]  # of each view: descriptors x and their soft quantizations z, (B, D) each
MOST_PAIRS = 2**26  # similarities (V, V, B, B) that are kept for the gradient: 256 MB in float32


def nt_xent(u: Tensor, v: Tensor, temperature: float | Tensor) -> Tensor:
    """Compute the NT-Xent loss between two sets of vectors that form pairs row by row.

    For S = cos(cat[u, v]) / temperature (2B x 2B, without its diagonal), row u_i has the positive v_i, row v_i the
    positive u_i, and all other 2B - 2 entries are negatives.

    Args:
        u, v: (B, D). temperature: tau, a divisor.
    Returns:
        scalar, the mean over the 2B rows.
    """
    B = u.shape[0]
    n = F.normalize(torch.cat([u, v]), dim=1)  # (2B, D)
    S = (n @ n.T / temperature).fill_diagonal_(float("-inf"))
    positive = torch.arange(2 * B, device=S.device).roll(B)
    return F.cross_entropy(S, positive)


def cross_quantized_contrastive(
    x_a: Tensor, z_a: Tensor, x_b: Tensor, z_b: Tensor, temperature: float | Tensor
) -> Tensor:
    """Compute the CQC loss: descriptors of one view against quantizations of the other, in both directions, summed.

    A descriptor is never compared with its own quantization: that positive would be trivial.

    Args:
        x_a, x_b: (B, D) descriptors of the two views. z_a, z_b: (B, D) their soft quantizations.
    """
    return nt_xent(x_a, z_b, temperature) + nt_xent(x_b, z_a, temperature)


def multi_view(
    outputs: Sequence[tuple[Tensor, Tensor]],
    temperature: float | Tensor,
    dims: Sequence[int] = (),
    own: slice | None = None,
) -> Tensor:
    """Average the CQC loss over every pair of views of the same images; for two views it is the paper's loss.

    One pass through the network serves V - 1 pairs. So the same work teaches more with V views of fewer images
    (Shidani et al., Poly-View Contrastive Learning, 2024).

    Args:
        outputs: (x, z), each (B, D), of each of the V views.
        dims: lengths of prefixes. The loss is the mean over the prefixes of each length; by default only all D dimensions
            count. So each prefix becomes a good code (Kusupati et al., Matryoshka Representation Learning, 2022), and the
            network runs once for all of them.
        own: count these rows only, against all rows; by default all rows. The sum over parts of the batch is the whole loss.
    """
    V, pairs = len(outputs), len(outputs) * (len(outputs) - 1)
    x, z = (torch.stack(part) for part in zip(*outputs, strict=True))  # (V, B, D)
    unlike = 1 - torch.eye(V, device=x.device)  # a view is compared with the others, never with itself
    is_small = own is None and V * V * x.shape[1] ** 2 <= MOST_PAIRS
    compare = _pair_losses if is_small else partial(_pair_losses_of, own or slice(0, x.shape[1]))
    losses = [(compare(x[..., :n], z[..., :n], temperature) * unlike).sum() / pairs for n in dims or (x.shape[2],)]
    return torch.stack(losses).mean()


def _pair_losses(x: Tensor, z: Tensor, temperature: float | Tensor) -> Tensor:
    """Compute (V, V) losses: entry (a, b) is twice `nt_xent(x_a, z_b)`, the mean over x_a plus the mean over z_b.

    The rows of a view are compared with each other once, not again for each pair of views.
    """
    x, z, B = F.normalize(x, dim=2), F.normalize(z, dim=2), x.shape[1]
    itself = torch.eye(B, dtype=torch.bool, device=x.device)

    def among(rows: Tensor) -> Tensor:  # (V, B): log of the sum over the other rows of the same view
        return (rows @ rows.mT / temperature).masked_fill(itself, float("-inf")).logsumexp(2)

    S = torch.einsum("aid,bjd->abij", x, z) / temperature  # (V, V, B, B)
    positive = S.diagonal(dim1=2, dim2=3)  # (V, V, B)
    of_x = torch.logaddexp(among(x)[:, None], S.logsumexp(3)) - positive
    of_z = torch.logaddexp(among(z)[None], S.logsumexp(2)) - positive
    return (of_x + of_z).mean(2)


def _pair_losses_of(own: slice, x: Tensor, z: Tensor, temperature: float | Tensor) -> Tensor:
    """Compute what some rows contribute to the (V, V) `_pair_losses`, in blocks.

    The similarities of a block are computed again for the gradient, if all of them together are more than MOST_PAIRS.
    """
    x, z = F.normalize(x, dim=2), F.normalize(z, dim=2)
    V, B, _ = x.shape
    size = max(1, MOST_PAIRS // (V * V * B))
    blocks = [
        torch.arange(first, min(first + size, own.stop), device=x.device) for first in range(own.start, own.stop, size)
    ]
    if len(blocks) == 1:
        return _block_losses(blocks[0], x, z, temperature)
    parts = [
        checkpoint(_block_losses, rows, x, z, temperature, use_reentrant=False, preserve_rng_state=False)
        for rows in blocks
    ]
    return torch.stack(parts).sum(0)


def _block_losses(rows: Tensor, x: Tensor, z: Tensor, temperature: float | Tensor) -> Tensor:
    """Compute the (V, V) contributions of `rows` (b,) of unit vectors x and z (V, B, D)."""
    B = x.shape[1]
    itself = rows[:, None] == torch.arange(B, device=x.device)  # (b, B)
    own_x, own_z = x[:, rows], z[:, rows]

    def among(own: Tensor, every: Tensor) -> Tensor:  # (V, b): log of the sum over the other rows of the same view
        return (own @ every.mT / temperature).masked_fill(itself, float("-inf")).logsumexp(2)

    of_x = (torch.einsum("aid,bjd->abij", own_x, z) / temperature).logsumexp(3)  # (V, V, b)
    of_z = (torch.einsum("aid,bjd->abij", x, own_z) / temperature).logsumexp(2)
    positive = torch.einsum("aid,bid->abi", own_x, own_z) / temperature
    of_x = torch.logaddexp(among(own_x, x)[:, None], of_x) - positive
    of_z = torch.logaddexp(among(own_z, z)[None], of_z) - positive
    return (of_x + of_z).sum(2) / B
