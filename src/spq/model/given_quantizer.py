"""A quantizer of the caller's own: checked once, so that a mistake is one line before minutes are spent, not wrong answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spq.config import DISTANCES, Distance, QuantizerConfig
from spq.data.decode import first_line
from spq.errors import ConfigError
from spq.model.own_parts import OWN, full_name
from spq.model.quantizer import Quantizer, refuse_distance

METHODS = {
    "soft_assign": "soft_assign`(x)",
    "encode": "encode`(x)",
    "decode": "decode`(codes)",
    "tables": "tables`(x, distance)",
}
TRIED = 6  # random descriptors
CLOSE = 1e-3  # relative difference of a sum of table entries to the distance that it should be


class GivenQuantizer(Quantizer):
    """The caller's module as a quantizer."""

    def __init__(self, module: Any, config: QuantizerConfig) -> None:
        super().__init__()
        self.module = module
        self.config, self.distances = config, tuple(module.distances)

    def soft_assign(self, x: Tensor) -> Tensor:
        found: Tensor = self.module.soft_assign(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.module(x)
        return z

    def encode(self, x: Tensor) -> Tensor:
        codes: Tensor = self.module.encode(x)
        return codes.to(torch.uint8)

    def decode(self, codes: Tensor) -> Tensor:
        x: Tensor = self.module.decode(codes.long())
        return x

    def tables(self, x: Tensor, distance: Distance | None = None) -> Tensor:
        name = distance or self.config.distance
        if name not in self.distances:
            refuse_distance(name, f"your quantizer {self.config.name}", self.distances, "its `distances` are these")
        tables: Tensor = self.module.tables(x, name)
        return tables

    def refit(self, x: Tensor) -> None:
        """Call the module's own method `refit`, if it has one."""
        if hasattr(self.module, "refit"):
            self.module.refit(x)


def given_config(module: Any, config: QuantizerConfig) -> QuantizerConfig:
    """Check the caller's quantizer, and return its section of the recipe: its shapes, and the distance of its codes.

    That is the distance of `config` if the module serves it, else the first that it serves.

    Raises:
        ConfigError: names the method that is missing, fails, or returns something else than it should.
    """
    name = full_name(module)
    _check_parts(module, name)
    x = torch.randn(TRIED, module.dim, generator=torch.Generator().manual_seed(0))
    with _tried(module) as device, torch.no_grad():
        soft = _called(name, "soft_assign", module.soft_assign, x.to(device))
        if soft.ndim != 3 or len(soft) != TRIED or not torch.allclose(soft.sum(-1), soft.new_ones(()), atol=CLOSE):
            raise ConfigError(
                f"your quantizer {name}: `soft_assign`(x) returns {tuple(soft.shape)} for descriptors {tuple(x.shape)}; it must "
                f"return probabilities ({TRIED}, M, K), which add up to 1 over K"
            )
    distance = config.distance if config.distance in module.distances else module.distances[0]
    shapes = {"num_codebooks": soft.shape[1], "codebook_size": soft.shape[2], "codeword_dim": module.dim}
    kind = f"{OWN}{type(module).__name__}"
    found = replace(config, kind=kind, distance=distance, prefixes=(), **shapes)
    check_outputs(GivenQuantizer(module, found))
    return found


def check_outputs(quantizer: GivenQuantizer) -> None:
    """Check on random descriptors that all outputs have their shapes, and that tables add up to distances to decoded codes.

    Raises:
        ConfigError: they have not, or do not.
    """
    module, q, name = quantizer.module, quantizer.config, full_name(quantizer.module)
    M, K, D = q.num_codebooks, q.codebook_size, q.dim
    generator = torch.Generator().manual_seed(0)
    x, others = torch.randn(TRIED, D, generator=generator), torch.randint(K, (TRIED, M), generator=generator)
    with _tried(module) as device, torch.no_grad():
        x, others = x.to(device), others.to(device)
        _check_shape(name, "forward`(x)", _called(name, "forward", module, x), (TRIED, D))
        codes = _called(name, "encode", module.encode, x)
        _check_shape(name, METHODS["encode"], codes, (TRIED, M))
        if codes.is_floating_point() or not ((codes.long() >= 0) & (codes.long() < K)).all():
            raise ConfigError(f"your quantizer {name}: `encode`(x) must return whole numbers from 0 to {K - 1}")
        codes = torch.cat([codes.long(), others])
        decoded = _called(name, "decode", module.decode, codes)
        _check_shape(name, METHODS["decode"], decoded, (2 * TRIED, D))
        for distance in quantizer.distances:
            tables = _called(name, "tables", module.tables, x, distance)
            _check_shape(name, METHODS["tables"], tables, (TRIED, M, K))
            _check_sums(name, distance, tables[:, torch.arange(M), codes].sum(-1), _distances(x, decoded, distance, M))


def _check_parts(module: Any, name: str) -> None:
    """Refuse what is no module, or lacks a part."""
    if not isinstance(module, nn.Module):
        raise ConfigError(f"your quantizer {name} is no torch.nn.Module; derive its class from nn.Module")
    for method, call in METHODS.items():
        if not callable(getattr(module, method, None)):
            raise ConfigError(f"your quantizer {name} has no method `{call}")
    if type(module).forward is nn.Module.forward:
        raise ConfigError(f"your quantizer {name} has no method `forward`(x), which returns soft quantizations (B, D)")
    if not isinstance(dim := getattr(module, "dim", None), int) or dim < 1:
        raise ConfigError(f"your quantizer {name} has no attribute `dim`, the number D of a descriptor's dimensions")
    distances = getattr(module, "distances", None)
    if not isinstance(distances, tuple | list) or not distances or any(each not in DISTANCES for each in distances):
        raise ConfigError(
            f"your quantizer {name} has no attribute `distances`, those of its tables: one or several of {', '.join(DISTANCES)}"
        )


@contextmanager
def _tried(module: nn.Module) -> Iterator[torch.device]:
    """The device of a module, which evaluates meanwhile."""
    mode = module.training
    try:
        module.eval()
        yield next(module.parameters(), torch.empty(0)).device
    finally:
        module.train(mode)


def _called(name: str, method: str, function: Callable[..., Any], *args: Any) -> Tensor:
    """The tensor that a method returns.

    Raises:
        ConfigError: it raises an error, or returns something else.
    """
    call = METHODS.get(method, f"{method}`(x)")
    try:
        found = function(*args)
    except Exception as error:  # code of the caller raises errors of any type
        shapes = ", ".join(str(tuple(arg.shape)) if isinstance(arg, Tensor) else repr(arg) for arg in args)
        raise ConfigError(
            f"your quantizer {name}: `{call} fails for {shapes}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(found, Tensor):
        raise ConfigError(f"your quantizer {name}: `{call} returns {type(found).__name__}, not a tensor")
    return found


def _check_shape(name: str, call: str, found: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(found.shape) != shape:
        raise ConfigError(f"your quantizer {name}: `{call} returns {tuple(found.shape)}, and {shape} is needed")


def _distances(x: Tensor, decoded: Tensor, distance: str, M: int) -> Tensor | None:
    """Distances (Q, N) of descriptors (Q, D) to decoded codes (N, D); None if there are no M sub-vectors to take norms of."""
    if distance == "dot":
        return -(x @ decoded.T)
    differences = x[:, None] - decoded
    if distance == "sqeuclidean":
        return differences.square().sum(-1)
    return differences.view(len(x), len(decoded), M, -1).norm(dim=-1).sum(-1) if x.shape[1] % M == 0 else None


def _check_sums(name: str, distance: str, sums: Tensor, exact: Tensor | None) -> None:
    if exact is None:
        raise ConfigError(
            f"your quantizer {name}: distance l2 is a sum of norms of M sub-vectors, and its descriptors have no M equal ones; "
            "leave l2 out of its `distances`"
        )
    wrong = ~torch.isclose(sums, exact, rtol=CLOSE, atol=CLOSE * float(exact.abs().max()))
    if wrong.any():
        raise ConfigError(
            f"your quantizer {name}: sums of its tables of distance {distance} are not the distances to its decoded codes "
            f"(the first is {float(sums[wrong][0]):.4g}, not {float(exact[wrong][0]):.4g}); searches add up tables, so leave "
            f"{distance} out of its `distances`, or correct `tables` or `decode`"
        )
