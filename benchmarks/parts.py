"""A checkpoint or a model as a few files of limited size, and back, for machines from which only small files can be copied.

    python benchmarks/parts.py FOLDER MODEL    # builds the model again from the parts that gpu_cifar10.py wrote to FOLDER

Large float32 tensors of a checkpoint are rounded: weights to float16 if all of them fit, moments of optimizers to bfloat16. A
training can continue from them, but not bit for bit. Models are kept exactly. Bytes of the same significance are stored together,
because signs and exponents repeat, and are then compressed with zlib.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spq.common.files import Replacing
from spq.errors import DataError, SPQError

LARGE = 2**16  # numbers; smaller tensors are not rounded
MIB = 2**20


def write(folder: Path, name: str, content: Any, max_mib: float, *, shrink: bool) -> list[Path]:
    """Write `content` (dicts, lists, numbers, text and tensors) as files `name-HASH.N`, and `name.json` that lists them.

    The list is replaced last, and older parts are removed after that. So there is always one complete version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(_packed(content, shrink, weights=False), buffer)
    data = zlib.compress(buffer.getvalue(), 1)
    digest, step = hashlib.sha256(data).hexdigest(), int(max_mib * MIB)
    files = [folder / f"{name}-{digest[:8]}.{number}" for number in range(-(-len(data) // step))]
    for number, file in enumerate(files):
        file.write_bytes(data[number * step : (number + 1) * step])
    with Replacing(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps({"sha256": digest, "files": [file.name for file in files]}) + "\n", "utf-8")
    for old in set(folder.glob(f"{name}-????????.*")) - set(files):
        old.unlink()
    return files


def read(folder: Path, name: str) -> Any:
    """The content that `write` was given; None if nothing was written.

    Raises:
        DataError: a part is missing or changed.
    """
    try:
        listed = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    missing = [file for file in listed["files"] if not (folder / file).exists()]
    if missing:
        raise DataError(f"{folder} lacks {missing[0]}, a part of {name}; copy all files that {name}.json lists")
    data = b"".join((folder / file).read_bytes() for file in listed["files"])
    if hashlib.sha256(data).hexdigest() != listed["sha256"]:
        raise DataError(f"the parts of {name} in {folder} are damaged; copy them again")
    return _unpacked(torch.load(io.BytesIO(zlib.decompress(data)), map_location="cpu", weights_only=True))


def write_model(folder: Path, model: Path, max_mib: float, name: str = "model") -> list[Path]:
    """Write a model folder as parts, without loss."""
    from safetensors.torch import load_file

    texts = {file: (model / file).read_text("utf-8") for file in ("config.json", "README.md")}
    content = {"texts": texts, "tensors": load_file(model / "model.safetensors")}
    return write(folder, name, content, max_mib, shrink=False)


def read_model(folder: Path, model: Path, name: str = "model") -> None:
    """Write the model folder that `write_model` was given.

    Raises:
        DataError: no such model, or it is damaged.
    """
    from safetensors.torch import save_file

    content = read(folder, name)
    if content is None:
        raise DataError(f"no {name}.json in {folder}; give the folder with the parts of a finished training")
    model.mkdir(parents=True, exist_ok=True)
    save_file(content["tensors"], model / "model.safetensors", metadata={"format": "pt"})
    for name, text in content["texts"].items():
        (model / name).write_text(text, "utf-8")


def _packed(content: Any, shrink: bool, weights: bool) -> Any:
    if isinstance(content, dict):
        return {key: _packed(value, shrink, weights or key == "network") for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_packed(value, shrink, weights) for value in content]
    if not isinstance(content, Tensor) or content.numel() < LARGE or content.dtype != torch.float32:
        return content
    tensor = _rounded(content, weights) if shrink else content
    planes = tensor.contiguous().flatten().view(torch.uint8).view(-1, tensor.itemsize).T.contiguous()
    return {"planes": planes, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}


def _rounded(tensor: Tensor, weights: bool) -> Tensor:
    """float16 has three more bits than bfloat16, but not the range of second moments."""
    half = tensor.half()
    return half if weights and bool(half.isfinite().all()) else tensor.bfloat16()


def _unpacked(content: Any) -> Any:
    if isinstance(content, list):
        return [_unpacked(value) for value in content]
    if not isinstance(content, dict):
        return content
    if set(content) == {"planes", "dtype", "shape"}:
        flat = content["planes"].T.contiguous().view(getattr(torch, content["dtype"])).flatten()
        return flat.view(content["shape"]).float()
    return {key: _unpacked(value) for key, value in content.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with model.json and the files that it lists")
    parser.add_argument("model", type=Path, help="model folder to write")
    arguments = parser.parse_args()
    try:
        read_model(arguments.folder, arguments.model)
    except SPQError as error:
        sys.exit(str(error))
