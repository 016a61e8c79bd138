"""A trained model: embed and encode pictures, save and load the model folder.

The folder has `config.json`, `model.safetensors` and a model card `README.md`. It contains no pickle.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from spq import __version__
from spq.common.files import Replacing, scratch_place, why_shut
from spq.common.text import encodable
from spq.config import Distance, InputConfig, Recipe, to_dict
from spq.config.ranges import shown
from spq.data.decode import first_line, load_image, to_pixels
from spq.data.open import at_positions
from spq.errors import ConfigError, ModelError
from spq.model.evaluating import Evaluating
from spq.model.hub import unreachable
from spq.model.model_card import model_card
from spq.model.model_folder import FORMAT, check_no_index, one_saver, read_config, read_recipe, recipe_hash
from spq.model.network import Network, check_numbers
from spq.model.own_parts import check_loaded, parts_of
from spq.model.quantizer import codebooks_of
from spq.model.tensors_file import check_least, read_tensors
from spq.model.training_facts import checked_facts

CACHED_PIXELS = 2**17  # 32 pictures of 64 x 64; batches of 256 take 1.3 times as long, batches of 1 twice (docs/log.md)
MODEL_BYTES = 200_000_000  # to have free for the folder of a model in training, with its checkpoints
LARGE = 4096  # numbers; smaller tensors are never rounded
Precision = Literal["fp32", "bf16"]
Images = Any  # Sequence[ImageInput], pixels (N, 3, S, S), or what `open_images` takes


class Model(nn.Module):
    """A network and its recipe. Images are paths, bytes, PIL images, arrays or tensors.

    It is a module of PyTorch too: `model(images)` gives descriptors with gradients, and `train`, `eval`, `to` and `parameters`
    are as usual. `embed`, `features` and `encode` always evaluate. Several threads may call them at the same time.

    Attributes:
        config: the recipe it was trained with.
        facts: of the training, for the model card: images, views, minutes, health, environment.
    """

    def __init__(self, network: Network, config: Recipe, facts: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = network.to(memory_format=self._layout)
        self.facts = facts or {}
        self._evaluating = Evaluating()
        self.eval()

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.config.train.channels_last else torch.contiguous_format  # as in training

    @property
    def hash(self) -> str:
        """16 hex digits of a hash over the weights, as they are now, and over the part of the recipe that affects codes."""
        digest = hashlib.sha256(json.dumps(_identity(self.config), sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:16]

    def forward(self, images: Images | Tensor) -> Tensor:
        """Compute descriptors (B, D) of a batch, with gradients, in the mode that the module is in.

        Args:
            images: as for `embed`; or a tensor (B, 3, S, S) on the model's device: uint8 pixels, or floats that are normalised
                already, `(pixel / 255 - mean) / std`.
        """
        if isinstance(images, Tensor) and images.is_floating_point():
            return self.network.describe(images.contiguous(memory_format=self._layout))
        S = self.config.input.size
        fits = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.shape[1:] == (3, S, S)
        pixels = images if isinstance(images, Tensor) and fits else self._pixels(at_positions(images, S)[:])
        x = normalise(pixels.to(self.device), self.config.input)
        return self.network.describe(x.contiguous(memory_format=self._layout))

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def batch_size(self) -> int:
        """How many pictures to embed at once: as many as the caches of a CPU hold; on a GPU many."""
        return min(64, max(8, CACHED_PIXELS // self.config.input.size**2)) if self.device.type == "cpu" else 256

    @property
    def codebooks(self) -> NDArray[np.float32]:
        """(M, K, d) float32.

        Raises:
            ConfigError: the caller's own quantizer has none.
        """
        return _numpy(codebooks_of(self.network.quantizer))

    def truncate(self, bits: int | None) -> Self:
        """Return the model of a shorter code length that this one was trained for; its codes are prefixes of these codes.

        It has its own hash. None, or the length of this model, returns the model itself.

        Raises:
            ConfigError: `bits` is not one of `config.quantizer.lengths`.
        """
        q = self.config.quantizer
        if bits is None or bits == q.bits:
            return self
        if bits not in q.lengths:
            given = " or ".join(map(str, q.lengths))
            more = ",".join(map(str, sorted({*q.lengths, bits})))
            raise ConfigError(
                f"`bits` {bits}: this model gives {given} bits; train one with `bits` {more} for all of them"
            )
        config = replace(self.config, quantizer=q.with_bits(bits))
        facts = {key: value for key, value in self.facts.items() if key != "health"}  # health is of the whole code
        if "codes" in facts:
            facts["codes"] = [report for report in facts["codes"] if report["bits"] <= bits]
        facts["truncated_from"] = self.hash
        return type(self)(self.network.truncated(config.quantizer), config, facts)

    def embed(
        self, images: Images, batch_size: int | None = None, precision: Precision = "fp32"
    ) -> NDArray[np.float32]:
        """Compute descriptors (N, D) float32 of images, or of pixels (N, 3, S, S) uint8 at the model's input size.

        Args:
            images: a sequence of pictures, or any collection that `open_images` takes, in the order of its ids.
            batch_size: by default `self.batch_size`.
            precision: bf16 is faster on some hardware; `spq.index.encode` checks whether it gives the same codes.
        Raises:
            ImageError: an image is unreadable. ModelError: the descriptors are not finite, or all zero; or the weights are not
                float32.
        """
        x = self._forward(self.network.describe, self.config.quantizer.dim, images, batch_size, precision)
        return _checked(x, "descriptors")

    def features(
        self, images: Images, batch_size: int | None = None, precision: Precision = "fp32"
    ) -> NDArray[np.float32]:
        """Compute the backbone's features (N, F) float32; the arguments are those of `embed`."""
        return self._forward(self.network.backbone, self.network.feature_dim, images, batch_size, precision)

    def project(self, features: NDArray[np.float32], batch_size: int = 4096) -> NDArray[np.float32]:
        """Compute descriptors (N, D) float32 from features (N, F)."""
        with self._evaluating.of(self.network), torch.inference_mode():
            parts = [_numpy(self.network.project(chunk)) for chunk in self._chunks(features, batch_size)]
        return _checked(np.concatenate(parts), "descriptors") if parts else self.embed([])

    def encode(self, images: Images, batch_size: int | None = None, precision: Precision = "fp32") -> NDArray[np.uint8]:
        """Compute codes (N, M) uint8; the arguments are those of `embed`."""
        return self.encode_descriptors(self.embed(images, batch_size, precision))

    def encode_descriptors(self, x: NDArray[np.float32], batch_size: int = 4096) -> NDArray[np.uint8]:
        """Compute codes (N, M) uint8 of descriptors (N, D).

        Raises:
            ModelError: the descriptors are not finite.
        """
        quantizer = self.network.quantizer
        with self._evaluating.of(self.network), torch.inference_mode():
            parts = [_numpy(quantizer.encode_many(chunk)) for chunk in self._chunks(x, batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, quantizer.config.num_codebooks), np.uint8)

    def tables(
        self, x: NDArray[np.float32], distance: Distance | None = None, batch_size: int = 4096
    ) -> NDArray[np.float32]:
        """Compute asymmetric tables (Q, M, K) float32 of descriptors (Q, D), for the model's distance or another."""
        with self._evaluating.of(self.network), torch.inference_mode():
            return np.concatenate(
                [_numpy(self.network.quantizer.tables(c, distance)) for c in self._chunks(x, batch_size)]
            )

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Reconstruct descriptors (N, D) float32 from codes (N, M) uint8."""
        with self._evaluating.of(self.network), torch.inference_mode():
            return _numpy(self.network.quantizer.decode(torch.from_numpy(codes).to(self.device)))

    def save(self, folder: str | Path, half: bool = False) -> None:
        """Write the model folder. Each file is replaced atomically, the configuration last.

        Args:
            half: round large weights to float16, in this model too, and store them in half the bytes; the hash changes.
        """
        folder = Path(folder)
        check_no_index(folder)
        check_numbers(self.network, f"cannot save {folder}")
        rounded = {name for name, p in self.network.named_parameters() if half and p.numel() >= LARGE}
        for name, parameter in self.network.named_parameters():
            if name in rounded:
                parameter.data.copy_(parameter.half())
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        tensors = {name: tensor.half() if name in rounded else tensor for name, tensor in tensors.items()}
        folder.mkdir(parents=True, exist_ok=True)
        with one_saver(folder):
            with Replacing(folder / "model.safetensors") as temporary:
                # Python's own writing gives it the file mode of the umask
                temporary.write_bytes(to_safetensors(tensors, metadata={"format": "pt"}))
            with Replacing(folder / "README.md") as temporary:
                temporary.write_text(encodable(model_card(self.config, self.facts, self.hash)), "utf-8")
            with Replacing(folder / "config.json") as temporary:
                temporary.write_text(json.dumps(self._content(), indent=2) + "\n", "utf-8")

    def _content(self) -> dict[str, Any]:
        """Return the content of `config.json`."""
        recipe = to_dict(self.config)
        return {
            "format": FORMAT,
            "spq_version": __version__,
            "hash": self.hash,
            "recipe_hash": recipe_hash(recipe),
            "recipe": recipe,
            "training": self.facts,
        }

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "cpu",
        backbone: nn.Module | None = None,
        quantizer: nn.Module | None = None,
    ) -> Self:
        """Read a model folder.

        Args:
            backbone, quantizer: the caller's modules that it was trained with, if any; their weights are replaced.
        Raises:
            ModelError: the model is missing, damaged, of a newer format, or changed since it was saved; or it needs a part of
                the caller's that is not given.
        """
        folder = Path(folder)
        config = read_config(folder)
        recipe, file = read_recipe(folder, config), folder / "model.safetensors"
        check_loaded(
            str(folder), parts_of(config.get("training"), recipe), {"backbone": backbone, "quantizer": quantizer}
        )
        try:
            check_least(file, recipe.parameters)
            network = Network(_without_weights(recipe), backbone, quantizer)
            network.load_state_dict(read_tensors(file, network.state_dict()))
        except ConfigError as error:
            raise ModelError(f"model {folder}: {error}") from None
        except (OSError, ValueError, SafetensorError, RuntimeError) as error:
            if shut := why_shut(error):
                raise ModelError(f"model {folder}: model.safetensors {shut}") from None
            raise ModelError(
                f"model {folder}: weights do not load ({first_line(error)}); copy the folder again"
            ) from None
        try:
            model = cls(network, recipe, checked_facts(config.get("training")))
        except ValueError as error:
            raise ModelError(f"{folder}/config.json is damaged: {error}; copy it again") from None
        if model.hash != config.get("hash"):
            raise ModelError(
                f"model {folder}: hash {model.hash} is not the saved {shown(config.get('hash'))}; copy it again"
            )
        check_numbers(network, f"model {folder}")
        network.to(device)
        return model

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        backbone: nn.Module | None = None,
        quantizer: nn.Module | None = None,
        **options: Any,
    ) -> Self:
        """Load a model folder, or a repository of the Hugging Face hub (needs `pip install 'spq-retrieval[hub]'`).

        Args:
            backbone, quantizer: as in `load`. options: of the download.
        """
        if Path(name_or_folder).is_dir():
            return cls.load(name_or_folder, backbone=backbone, quantizer=quantizer)
        download, name, reason = _hub().snapshot_download, str(name_or_folder), ""
        try:
            if reason := unreachable(name, "config.json"):  # the cache may still have it
                options["local_files_only"] = True
            return cls.load(download(name, **options), backbone=backbone, quantizer=quantizer)
        except (OSError, ValueError) as error:
            raise ModelError(f"no model {name!r} here or on the hub: {reason or first_line(error)}") from None

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model folder; return its address."""
        with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(MODEL_BYTES)) as folder:
            self.save(folder)
            _hub().create_repo(repo_id, exist_ok=True)
            return str(_hub().upload_folder(repo_id=repo_id, folder_path=folder, **options))

    def _forward(
        self, part: Callable[[Tensor], Tensor], dim: int, images: Images, batch_size: int | None, precision: Precision
    ) -> NDArray[np.float32]:
        self._check_type()
        images = at_positions(images, self.config.input.size)
        step, bf16 = batch_size or self.batch_size, precision == "bf16"
        out = np.empty((len(images), dim), np.float32)
        for start in range(0, len(images), step):
            pixels = self._pixels(images[start : start + step]).to(self.device)
            with (
                self._evaluating.of(self.network),
                torch.inference_mode(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=bf16),
            ):
                out[start : start + len(pixels)] = _numpy(part(normalise(pixels, self.config.input)).float())
        return out

    def _pixels(self, images: Images) -> Tensor:
        """Convert images to pixels (B, 3, S, S) uint8 in the memory layout of the network."""
        size = self.config.input.size
        if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == (3, size, size)):
            images = np.stack([to_pixels(load_image(image, size), size) for image in images])
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return pixels.contiguous(memory_format=self._layout)

    def _check_type(self) -> None:
        """Refuse a model of which `half`, `double` or `to` made another type: its codes would differ from those of indexes."""
        kind = self.network.head[-1].weight.dtype
        if kind != torch.float32:
            raise ModelError(
                f"the weights are {kind}, and spq describes pictures with torch.float32: call model.float(); for speed give "
                '`precision` "bf16"'
            )

    def _chunks(self, x: NDArray[np.float32], size: int) -> list[Tensor]:
        self._check_type()
        tensor = torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(self.device)
        _checked(x, "inputs")
        return [tensor[start : start + size] for start in range(0, len(tensor), size)]


def normalise(pixels: Tensor, config: InputConfig) -> Tensor:
    """Normalise pixels (B, 3, S, S) uint8 -> float32: `(pixel / 255 - mean) / std`."""
    mean, std = (pixels.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (config.mean, config.std))
    return (pixels.float() / 255 - mean) / std


def _checked(x: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """Refuse numbers that are not finite, and descriptors that are all zero, which give the same code to every picture."""
    fault = "" if np.isfinite(x).all() else "not finite"
    if len(x) and what == "descriptors" and not x.any():
        fault = "all zero"
    if fault:
        raise ModelError(f"{what} of the model are {fault}; use another copy of the model, or train again")
    return x


def _identity(config: Recipe) -> dict[str, Any]:
    """Return the part of a recipe that affects codes; its name, views and schedule do not."""
    recipe = to_dict(_without_weights(config))
    if config.quantizer.kind == "product":
        del recipe["quantizer"]["kind"]  # older models have no such key
    if config.quantizer.kind != "residual":
        del recipe["quantizer"]["stages"]  # does not affect codes
    if len(config.quantizer.prefixes) < 2:
        del recipe["quantizer"]["prefixes"]  # does not affect codes, and older models have no such key
    if not config.head.batch_norm:
        del recipe["head"]["batch_norm"]  # as above
    if not config.head.unit:
        del recipe["head"]["unit"]  # as above
    if not config.head.softmax:
        del recipe["head"]["softmax"]  # as above
    del recipe["head"]["start"]  # affects training only
    return {key: recipe[key] for key in ("input", "backbone", "head", "quantizer")}


def _without_weights(config: Recipe) -> Recipe:
    """Remove the sources of the first weights, because saved weights replace them."""
    return replace(config, backbone=replace(config.backbone, pretrained=False, weights=""))


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError("the hub needs huggingface_hub; run pip install 'spq-retrieval[hub]'") from None
    return huggingface_hub


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
