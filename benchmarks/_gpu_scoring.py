"""Scores of a protocol, computed on the training device in seconds, with the rankings of `spq eval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spq.evaluation import on_gpu
from spq.evaluation.evaluate import order_of_ties
from spq.evaluation.metrics import mean_average_precision, precision_at, relevance
from spq.model.model import Model
from spq.training.cluster_heads import describe_whole

BATCH = 1000  # queries per step in float rankings


@dataclass(frozen=True)
class Scorer:
    """Queries and gallery as pixels (n, 3, S, S) uint8 and labels (n,) on the device. map_at: the N of mAP@N."""

    queries: Tensor
    query_labels: Tensor
    gallery: Tensor
    gallery_labels: Tensor
    map_at: int = 1000

    def scores(self, model: Model, bf16: bool = False) -> dict[str, Any]:
        """mAP@N and precision at 1 and N: of each length of code, and of float descriptors by inner product and by cosine."""
        order = torch.from_numpy(order_of_ties(len(self.gallery))).to(self.gallery.device)
        size, quantizer = model.config.input, model.network.quantizer
        x, q = (
            describe_whole(model.network.describe, pixels, size, bf16, mirror=False)
            for pixels in (self.gallery[order], self.queries)
        )
        labels = self.gallery_labels[order].cpu().numpy()
        codes, tables = model.encode_descriptors(x.cpu().numpy()), model.tables(q.cpu().numpy())
        config, top = quantizer.config, min(self.map_at, len(labels))
        out: dict[str, Any] = {}
        for bits, M in zip(config.lengths, config.prefixes or (config.num_codebooks,), strict=True):
            ranked = on_gpu.rank(np.ascontiguousarray(tables[:, :M]), codes[:, :M], top, q.device)
            out[str(bits)] = self._score(ranked[1], labels)
        floats = {"float": (x, q)} if config.distance == "dot" else {}
        floats["float cosine"] = F.normalize(x, dim=1), F.normalize(q, dim=1)
        for name, (rows, queries) in floats.items():
            found = [(part @ rows.T).topk(top, dim=1).indices for part in torch.split(queries, BATCH)]
            out[name] = self._score(torch.cat(found).cpu().numpy(), labels)
        return out

    def _score(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, float]:
        hits = relevance(self.query_labels.cpu().numpy(), labels, rows)
        precision = precision_at(hits, [1, hits.shape[1]])
        scores = {
            "map": mean_average_precision(hits),
            "p1": precision[1],
            f"p{hits.shape[1]}": precision[hits.shape[1]],
        }
        return {name: round(value, 4) for name, value in scores.items()}
