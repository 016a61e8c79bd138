"""The authors' code from a user's checkout, run without changes, and their weights under our names.

While `train_SPQ` runs, four things are replaced in the name space of its module: the device, the data set (the authors open
torchvision's CIFAR10), the order of batches with the seeds (functions of seed and step), and the end of training.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from _scoring import Data
from spq.api import with_options
from spq.config import Recipe, load_recipe
from spq.errors import ConfigError
from spq.model.model import Model
from spq.model.network import Network
from spq.training.run import step_seed

FILES = ("utils", "Retrieval", "main_SPQ")  # modules of the authors, in import order


class BudgetSpent(Exception):  # noqa: N818 (an end, not an error)
    """Ends `train_SPQ`, which otherwise runs for 5,000 epochs."""


@dataclass
class Training:
    """The state of a running training of the authors, which their function has in local variables."""

    steps_per_epoch: int
    seed: int = 0
    step: int = 0
    parts: dict[str, Any] = field(default_factory=dict)  # network, optimizer and scheduler, in the order of creation
    saved: dict[str, Any] | None = None  # the state to continue from

    @property
    def network(self) -> nn.Module:
        return self.parts["network"]  # type: ignore[no-any-return]

    def made(self, name: str, part: Any) -> Any:
        """Register a part of the training, and restore its saved state if there is one."""
        self.parts[name] = part
        if self.saved:
            part.load_state_dict(self.saved[name])
        return part

    def state(self) -> dict[str, Any]:
        return {"step": self.step, **{name: part.state_dict() for name, part in self.parts.items()}}


class Authors:
    """A checkout of the authors' repository, imported under its own module names while it is needed.

    Raises:
        ConfigError: not a checkout of that repository, or a package that it needs is missing.
    """

    def __init__(self, checkout: Path) -> None:
        if not all((checkout / f"{name}.py").is_file() for name in FILES):
            raise ConfigError(f"{checkout} has no {FILES[-1]}.py; give a checkout of the authors' repository")
        before = {name: sys.modules.pop(name) for name in FILES if name in sys.modules}
        sys.path.insert(0, str(checkout))
        try:
            self.utils, self.retrieval, self.main = (importlib.import_module(name) for name in FILES)
        except ModuleNotFoundError as error:
            raise ConfigError(f"the authors' code needs {error.name}; run pip install kornia tqdm") from None
        finally:
            sys.path.remove(str(checkout))
            for name in FILES:
                sys.modules.pop(name, None)
            sys.modules.update(before)
        self.commit = commit_of(checkout)

    def train(
        self,
        pixels: NDArray[np.uint8],
        *,
        bits: int,
        before_step: Callable[[Training], None],
        on_network: Callable[[nn.Module], None] | None = None,
        on_loss: Callable[[Tensor], None] | None = None,
        batch_size: int = 256,
        seed: int = 0,
        saved: dict[str, Any] | None = None,
        device: str = "cpu",
        workers: int = 0,
    ) -> Training:
        """Run `train_SPQ` on pictures until `before_step` raises `BudgetSpent`.

        Args:
            pixels: (N, 3, S, S) uint8. on_network: called once with the initial network. on_loss: called at every step.
        """
        options = {
            "batch_size": batch_size,
            "num_workers": workers,
            "input_size": pixels.shape[-1],
            "N_books": bits // 4,
        }
        options |= {"eval_epoch": 10**9, "gpu_id": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}
        words = [f"--{name}={value}" for name, value in options.items()]
        args = argparse.ArgumentParser(parents=[self.main.get_args_parser()]).parse_args(words)
        training = Training(len(pixels) // batch_size, seed, saved["step"] if saved else 0, saved=saved)
        loss_of = self.main.CQCLoss.forward

        def forward(criterion: nn.Module, *vectors: Tensor) -> Tensor:
            loss: Tensor = loss_of(criterion, *vectors)
            if on_loss:
                on_loss(loss)
            return loss

        def loader(dataset: Dataset[Any], batch_size: int, num_workers: int, **_: Any) -> _Loader:
            return _Loader(training, dataset, batch_size, num_workers, before_step)

        def built(network: nn.Module) -> None:
            training.made("network", network)
            if on_network:
                on_network(network)

        replaced = {
            "T": _torch(device, loader, training),
            "nn": _layers(device, built),
            "torchvision": _torchvision(lambda train: (pixels, np.zeros(len(pixels), np.int64))),
            "CosineAnnealingLR": _noted(training, "scheduler", torch.optim.lr_scheduler.CosineAnnealingLR),
            "range": lambda stop: range(training.step // training.steps_per_epoch, stop),  # of epochs
        }
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ))  # their code sets CUDA_VISIBLE_DEVICES
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
            stack.enter_context(mock.patch.object(self.main.CQCLoss, "forward", forward))
            for name, value in replaced.items():
                stack.enter_context(mock.patch.object(self.main, name, value, create=True))
            torch.manual_seed(seed)
            stack.enter_context(contextlib.suppress(BudgetSpent))
            self.main.train_SPQ(args)
        return training

    def score(
        self, model: Model, data: Data, network: nn.Module | None = None, device: str = "cpu"
    ) -> tuple[float, float]:
        """mAP@N of an spq model by the authors' `DoRetrieval`: their encoding, their distances (always unsquared), their AP.

        Args:
            network: of the authors, which computes the descriptors instead of the model's network.
        Returns:
            mAP with their order of ties, and with ties in gallery order. Ties are frequent, and their order in the authors'
            sort differs between processors and versions of torch.
        """
        C = model.network.quantizer.codebooks.detach()  # (M, K, d)
        sets = {True: (data.gallery, data.gallery_labels), False: (data.queries, data.query_labels)}
        classes = int(data.gallery_labels.max()) + 1
        args = argparse.Namespace(
            data_dir="", if_download=False, batch_size=256, num_workers=0, num_cls=classes, Top_N=data.map_at,
            N_books=len(C),
        )  # fmt: skip
        score, stable = self.retrieval.Evaluate_mAP, _instead(torch, argsort=partial(torch.argsort, stable=True))
        tied: list[float] = []

        def twice(*arguments: Any) -> Any:
            with mock.patch.object(self.retrieval, "T", stable):
                tied.append(float(score(*arguments)))
            return score(*arguments)

        with (
            mock.patch.object(self.retrieval, "torchvision", _torchvision(sets.__getitem__)),
            mock.patch.object(self.retrieval, "Evaluate_mAP", twice),
            contextlib.redirect_stdout(sys.stderr),
        ):
            theirs = C.transpose(0, 1).reshape(C.shape[1], -1)  # (K, M*d)
            as_is = self.retrieval.DoRetrieval(torch.device(device), args, network or _Describing(model), theirs)
        return float(as_is), tied[0]


class _Describing(nn.Module):
    """Our network with the interface of theirs: pictures in [0, 1] -> (descriptors,)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network, config = model.network, model.config.input
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (config.mean, config.std))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network.describe((images - self.mean) / self.std),)


class _Pictures(Dataset[Any]):
    """The part of torchvision's CIFAR10 that the authors use."""

    def __init__(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], transform: Callable[[Any], Tensor]
    ) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pixels[position].transpose(1, 2, 0))
        return self.transform(picture), int(self.labels[position])


class _Loader:
    """A loader whose batches, and the seeds of their views, are functions of (seed, step)."""

    def __init__(
        self, training: Training, dataset: Any, batch_size: int, workers: int, before_step: Callable[[Training], None]
    ) -> None:
        self.training, self.dataset, self.batch_size = training, dataset, batch_size
        self.workers, self.before_step = workers, before_step

    def __len__(self) -> int:
        return self.training.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        training = self.training
        epoch, position = divmod(training.step, len(self))
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.dataset), generator=generator)[: len(self) * self.batch_size]
        batches = order.view(len(self), self.batch_size)[position:].tolist()
        self.before_step(training)
        for batch in DataLoader(self.dataset, batch_sampler=batches, num_workers=self.workers):
            torch.manual_seed(step_seed(training.seed, training.step))
            yield batch
            training.step += 1
            if training.step % len(
                self
            ):  # after the last step of an epoch, the state is complete only when their scheduler has moved
                self.before_step(training)


def _torch(device: str, loader: Callable[..., _Loader], training: Training) -> Any:
    adam = _noted(training, "optimizer", torch.optim.Adam)
    return _instead(
        torch,
        device=lambda *_: torch.device(device),
        utils=types.SimpleNamespace(data=types.SimpleNamespace(DataLoader=loader)),
        optim=types.SimpleNamespace(Adam=adam),
    )


def _layers(device: str, built: Callable[[nn.Module], None]) -> Any:
    class Sequential(nn.Sequential):
        def cuda(self, *_: Any) -> Any:
            built(self.to(device))
            return self

    return _instead(nn, Sequential=Sequential)


def _torchvision(pictures: Callable[[bool], tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Any:
    def cifar10(root: str, train: bool, download: bool, transform: Callable[[Any], Tensor]) -> _Pictures:
        return _Pictures(*pictures(train), transform)

    return types.SimpleNamespace(datasets=types.SimpleNamespace(CIFAR10=cifar10))


def _noted(training: Training, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: training.made(name, make(*args, **options))


def _instead(module: Any, **names: Any) -> Any:
    """Replace names of a module for a while."""
    changed = types.ModuleType(module.__name__)
    changed.__dict__.update({**vars(module), **names})
    return changed


def as_model(state: dict[str, Tensor], bits: int, size: int = 32) -> Model:
    """The authors' weights as an spq model of recipe `paper`, which computes the same function."""
    recipe = with_options(load_recipe("paper"), bits=bits, image_size=size)
    network = Network(recipe)
    network.load_state_dict(our_state(state, recipe))
    return Model(network, recipe)


def our_state(state: dict[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """The authors' state dict with our names."""
    return {_our_name(name): _our_layout(name, tensor, recipe) for name, tensor in state.items()}


def _our_name(name: str) -> str:
    part, _, rest = name.partition(".")
    layer, _, inner = rest.partition(".")
    if part == "1":
        return "quantizer.codebooks" if layer == "C" else f"head.2.{inner}"
    if layer.startswith("layer"):
        block, _, inner = inner.partition(".")
        return f"backbone.stages.{2 * (int(layer[5:]) - 1) + int(block)}.{inner}"  # two blocks in a stage
    return {"conv1": "backbone.stem.0.", "bn1": "backbone.stem.1.", "fc_out": "head.0."}[layer] + inner


def _our_layout(name: str, tensor: Tensor, recipe: Recipe) -> Tensor:
    q = recipe.quantizer
    if name != "1.C":
        return tensor
    return tensor.view(q.codebook_size, q.num_codebooks, q.codeword_dim).transpose(0, 1)  # (K, M*d) -> (M, K, d)


def commit_of(checkout: Path) -> str:
    """Commit of a checkout, with `+` if files other than tables of results have changes."""
    git = ["git", "-C", str(checkout)]
    tables = [":(exclude)benchmarks/results", ":(exclude)docs", ":(exclude)*.md"]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True, stderr=subprocess.DEVNULL)
        changed = subprocess.check_output([*git, "diff", "--name-only", "HEAD", "--", ".", *tables], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + "+" * bool(changed)
