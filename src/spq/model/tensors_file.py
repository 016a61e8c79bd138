"""Files of tensors in the format safetensors. The table at their start is compared with a network before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.common.files import check_regular, has_plain_name
from spq.common.json_file import parse_json

if TYPE_CHECKING:
    from torch import Tensor

MOST_HEADER = 10**7  # bytes; networks of 10,000 tensors have a tenth
LEAST_BYTES = 2  # of a parameter, in float16

Shapes = dict[str, tuple[int, ...]]


def read_shapes(path: Path) -> Shapes:
    """Read the names and shapes of the tensors in a file.

    Raises:
        OSError: the system does not open it. ValueError: it has another format.
    """
    check_regular(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(MOST_HEADER, path.stat().st_size - 8):
            raise ValueError("it does not start with a table of tensors")
        header = parse_json(file.read(size))
    if not isinstance(header, dict):
        raise ValueError("it does not start with a table of tensors")
    return {name: _shape(name, entry) for name, entry in header.items() if name != "__metadata__"}


def check_least(path: Path, parameters: int) -> None:
    """Refuse a file that has fewer bytes than so many parameters need, before a network of that size is made.

    Raises:
        OSError: the system does not open it. ValueError: it is too small.
    """
    check_regular(path)
    size = path.stat().st_size
    if size < LEAST_BYTES * parameters:
        raise ValueError(f"{size:,} bytes are too few for {parameters:,} parameters")


def read_tensors(path: Path, wanted: Mapping[str, Tensor], strict: bool = True) -> dict[str, Tensor]:
    """Read the tensors of a file that have the names and shapes of the wanted ones.

    Args:
        strict: refuse a file that has other tensors, too. Otherwise they are not read.
    Raises:
        OSError: the system does not open it. ValueError, SafetensorError: names or shapes differ, or it is damaged.
    """
    found = read_shapes(path)
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"it lacks {len(missing)} tensors, first {missing[0]}")
    if strict and len(found) > len(wanted):
        raise ValueError(f"it has {len(found) - len(wanted)} tensors that the network does not have")
    for name, tensor in wanted.items():
        if found[name] != tuple(tensor.shape):
            raise ValueError(f"{name} has shape {found[name]}, and the network needs {tuple(tensor.shape)}")
    return _read(path, list(wanted))


def _read(path: Path, names: list[str]) -> dict[str, Tensor]:
    from safetensors import safe_open
    from safetensors.torch import load

    if not has_plain_name(path):
        tensors = load(path.read_bytes())
        return {name: tensors[name] for name in names}
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in names}


def _shape(name: str, entry: Any) -> tuple[int, ...]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not all(isinstance(side, int) and 0 <= side < 2**40 for side in shape):
        raise ValueError(f"the shape of {name[:80]!r} is damaged")
    if math.prod(shape) > 2**40:
        raise ValueError(f"the shape of {name[:80]!r} is damaged")
    return tuple(shape)
