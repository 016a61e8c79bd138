"""Scores of a protocol on the device that trains, in seconds: the rankings of `spq eval`, many queries at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spq.evaluation.evaluate import order_of_ties
from spq.model.artifact import Model, normalise

BATCH = 1000  # pictures, and queries, at a time


@dataclass(frozen=True)
class Scorer:
    """Queries and gallery as pixels (n, 3, S, S) uint8 and labels (n,) on the device. map_at: the N of mAP@N."""

    queries: Tensor
    query_labels: Tensor
    gallery: Tensor
    gallery_labels: Tensor
    map_at: int = 1000

    def scores(self, model: Model, bf16: bool = False) -> dict[str, Any]:
        """mAP@N and precision at 1 of each length of code, and of the floats."""
        order = torch.from_numpy(order_of_ties(len(self.gallery))).to(self.gallery.device)
        x, q = describe(model, self.gallery, bf16)[order], describe(model, self.queries, bf16)
        labels = self.gallery_labels[order]
        quantizer = model.network.quantizer
        K, M = quantizer.config.codebook_size, quantizer.config.num_codebooks
        codes = torch.cat([quantizer.encode(part) for part in torch.split(x, 4096)]).long()  # (N, M)
        one_hot = F.one_hot(codes, K)  # (N, M, K)
        lengths = quantizer.config.prefixes or (M,)
        out: dict[str, Any] = {}
        for m in lengths:
            book = one_hot[:, :m].flatten(1).float()

            def distances(rows: Tensor, m: int = m, book: Tensor = book) -> Tensor:
                return quantizer.tables(rows)[:, :m].flatten(1) @ book.T

            out[str(m * (K.bit_length() - 1))] = self._score(distances, q, labels)
        if quantizer.config.distance == "dot":
            out["float"] = self._score(lambda rows: -(rows @ x.T), q, labels)
        unit = F.normalize(x, dim=1)
        out["float cosine"] = self._score(lambda rows: -(F.normalize(rows, dim=1) @ unit.T), q, labels)
        return out

    def _score(self, distances: Any, q: Tensor, labels: Tensor) -> dict[str, float]:
        precision, first, last = [], [], []
        top = min(self.map_at, len(labels))
        for start in range(0, len(q), BATCH):
            d = distances(q[start : start + BATCH])
            rows = d.sort(dim=1, stable=True).indices[:, :top]  # ties go to the lower row
            hit = (labels[rows] == self.query_labels[start : start + BATCH, None]).float()
            found = hit.cumsum(1)
            at = found / torch.arange(1, top + 1, device=d.device)
            precision.append((at * hit).sum(1) / found[:, -1].clamp(min=1))
            first.append(hit[:, 0])
            last.append(hit.mean(1))
        values = (torch.cat(part).double().mean().item() for part in (precision, first, last))
        return dict(zip(("map", "p1", f"p{top}"), (round(value, 4) for value in values), strict=True))


@torch.no_grad()
def describe(model: Model, pixels: Tensor, bf16: bool) -> Tensor:
    """(N, D) descriptors of pixels (N, 3, S, S) uint8 on the device."""
    parts = []
    for chunk in torch.split(pixels, BATCH):
        x = normalise(chunk, model.config.input).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            parts.append(model.network.describe(x))
    return torch.cat(parts)
