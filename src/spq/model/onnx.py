"""Export a model as one ONNX file, from pixels to descriptor and code, for programs without torch and spq."""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spq.common.files import Replacing
from spq.errors import ConfigError
from spq.model.model import Model
from spq.model.network import check_numbers

OPSET = 17  # for onnxruntime 1.12 and newer


class _Encoder(nn.Module):
    """uint8 pixels (N, 3, S, S) -> descriptors (N, D) float32 and codes (N, M) uint8, with normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        config = model.config.input
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(config.std)[:, None, None])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.network.describe((pixels.float() / 255 - self.mean) / self.std)
        return x, self.network.quantizer.encode(x)


def export_onnx(model: Model, out: Path) -> dict[str, Any]:
    """Write the file: input `pixels` (N, 3, S, S) uint8 RGB, outputs `descriptor` and `code`; N may vary.

    The initializer `codebooks` (M, K, d) has the codebooks. The metadata has facts such as the model's hash.

    Raises:
        ConfigError: onnx is not installed. ModelError: the weights are not finite.
    """
    check_numbers(model.network, "the model")
    if find_spec("onnx") is None:
        raise ConfigError("the export to ONNX needs onnx; run pip install 'spq-retrieval[onnx]'")
    import onnx

    size, q = model.config.input.size, model.config.quantizer
    facts = {"model": model.hash, "image_size": size, "bits": q.bits, "distance": q.distance, "dim": q.dim}
    out.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(out) as temporary:
        graph = onnx.load_model_from_string(_traced(model, size))
        if not q.is_given:
            _name_codebooks(graph.graph, model.codebooks)
        onnx.helper.set_model_props(graph, {f"spq_{key}": str(value) for key, value in facts.items()})
        onnx.checker.check_model(graph)
        temporary.write_bytes(graph.SerializeToString())
    return facts


def _traced(model: Model, size: int) -> bytes:
    file = io.BytesIO()  # torch takes names in UTF-8 alone
    device = model.device
    names = ["pixels", "descriptor", "code"]
    with warnings.catch_warnings():
        # torch recommends its newer exporter, which needs onnxscript; and tracing warns about every constant shape
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Encoder(model).eval(), (torch.zeros(2, 3, size, size, dtype=torch.uint8, device=device),), file,  # type: ignore[arg-type]
            input_names=names[:1], output_names=names[1:], dynamic_axes={name: {0: "N"} for name in names},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    return file.getvalue()


def _name_codebooks(graph: Any, codebooks: NDArray[np.float32]) -> None:
    """Rename the initializer of the codebooks to `codebooks`; those of several stages lie in the graph stage by stage."""
    from onnx.numpy_helper import from_array

    old = next((tensor.name for tensor in graph.initializer if tensor.name.endswith("quantizer.codebooks")), "")
    if not old:
        graph.initializer.append(from_array(codebooks, "codebooks"))
        return
    for tensor in graph.initializer:
        if tensor.name == old:
            assert tuple(tensor.dims) == codebooks.shape
            tensor.name = "codebooks"
    for node in graph.node:
        node.input[:] = ["codebooks" if name == old else name for name in node.input]
