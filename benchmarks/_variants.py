"""Variants of recipes as text: `fast+hard:train.batch_size=128,views.blur=0`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from spq.api import with_options
from spq.config import Recipe, load_recipe, split_recipe, to_dict, with_overrides
from spq.errors import ConfigError
from spq.model.network import Network
from spq.training.losses import CrossQuantized

DIVERSITY = 1.0  # weight of the penalty of +diversity


@dataclass(frozen=True)
class Ablation:
    """A change of a recipe and of its loss. pq: training has no codebooks, and k-means fits them afterwards."""

    title: str = ""
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe
    loss: Callable[[], CrossQuantized] | None = None
    pq: bool = False


class DescriptorsAlone(CrossQuantized):
    """Two times NT-Xent of the descriptors."""

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
        return super().forward(x, x, rows, own)


class Hard(CrossQuantized):
    """The nearest codeword, with the gradient of the soft quantization."""

    def prepare(self, network: Network, count: int) -> None:
        super().prepare(network, count)
        self.quantizer = network.quantizer

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
        hard = self.quantizer.decode(self.quantizer.encode(x.flatten(0, 1))).view_as(z)
        return super().forward(x, z + (hard - z).detach(), rows, own)


class Diverse(CrossQuantized):
    """A penalty on the mean cosine of different codewords of each codebook."""

    def prepare(self, network: Network, count: int) -> None:
        super().prepare(network, count)
        self.codebooks = network.quantizer.codebooks

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
        C = F.normalize(self.codebooks, dim=2)  # (M, K, d)
        K = C.shape[1]
        pairs = (C.sum(1).square().sum(1) - K) / (K * (K - 1))
        return super().forward(x, z, rows, own) + DIVERSITY * pairs.mean()


def _unit_length(recipe: Recipe) -> Recipe:
    """Descriptors of length 1, as in the loss, because other lengths would distort squared distances."""
    quantizer = replace(recipe.quantizer, distance="sqeuclidean")
    return replace(recipe, head=replace(recipe.head, norm=1.0), quantizer=quantizer)


def _codebooks(M: int, K: int) -> Callable[[Recipe], Recipe]:
    """M codebooks of K codewords that share the recipe's dimension D."""
    return lambda r: replace(
        r,
        quantizer=replace(
            r.quantizer, num_codebooks=M, codebook_size=K, codeword_dim=r.quantizer.dim // M, prefixes=()
        ),
    )


ABLATIONS = {
    "simclr": Ablation("no cross-quantization: SimCLR, then PQ", _unit_length, DescriptorsAlone, pq=True),
    "hard": Ablation("hard quantization, straight-through", loss=Hard),
    "vq": Ablation("plain VQ: 256 codewords, 8 bits", _codebooks(1, 256)),
    "8bits": Ablation("2 codebooks of 16, 8 bits", _codebooks(2, 16)),
    "diversity": Ablation(f"with codeword diversity ({DIVERSITY})", loss=Diverse),
}


def variant(text: str, bits: int, minutes: float | None, epochs: int | None) -> tuple[Recipe, Ablation]:
    """`fast+hard:train.batch_size=128,views.blur=0` -> the recipe with these values, and its ablation."""
    name, changes = split_recipe(text)
    base, plus, ablation = name.rpartition("+")
    if plus and ablation not in ABLATIONS:
        raise ConfigError(f"no ablation {ablation!r}; use one of {', '.join(ABLATIONS)}")
    found = ABLATIONS[ablation] if plus else Ablation()
    recipe = with_options(load_recipe(base if plus else name), bits=bits, minutes=minutes, epochs=epochs)
    changed = with_overrides(found.change(recipe), changes)
    return replace(changed, name=text), found


def fingerprint(recipe: Recipe) -> str:
    """A hash of all values that are not defaults, so that new keys of spq do not change it."""
    table, usual = to_dict(replace(recipe, name="")), to_dict(Recipe(name=""))
    changed = {
        section: {key: value for key, value in values.items() if value != usual[section][key]}
        for section, values in table.items()
        if isinstance(values, dict)
    }
    if not recipe.finish.epochs:
        changed["finish"] = {}  # without a finish, its other values have no effect
    changed["train"] = {key: v for key, v in changed["train"].items() if key not in ("seed", "minutes", "epochs")}
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:12]
