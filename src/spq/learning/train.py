"""The training loop: explicit, resumable, seeded by step so that a resumed run repeats an uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from spq.config import InputConfig, Recipe, from_dict, to_dict
from spq.data.images import Pixels, load_pixels
from spq.data.sources import ImageSet
from spq.errors import CollapseError, ConfigError, DataError, ModelError
from spq.learning import fidelity
from spq.learning.head_only import train_head
from spq.learning.health import Health, measure
from spq.learning.loss import multi_view
from spq.learning.muon import Muon
from spq.learning.neighbours import neighbours, whose
from spq.learning.refit import refit
from spq.learning.views import make_views
from spq.model.artifact import Model, Replacing
from spq.model.device import resolve_compile, resolve_device, resolve_precision
from spq.model.network import Network

Outputs = Sequence[tuple[Tensor, Tensor]]  # descriptors x and their soft quantizations z, (B, D) each, of every view
Objective = Callable[[Outputs, Network, Callable[[Outputs], Tensor]], Tensor]

LOG_SECONDS = 10.0
COMPILE_FROM = 5.0  # minutes of training: shorter ones do not win back what compiling takes
FIT_IMAGES = 20_000  # pictures, about, that the end of a training looks at once more


@dataclass(frozen=True)
class TrainStatus:
    """Where a training stands. done: share of the budget, 0..1. seconds: spent on steps so far, resumed parts included."""

    done: float
    step: int
    epoch: int
    views: int
    seconds: float
    images_per_second: float
    loss: float
    lr: float
    health: Health


@dataclass
class State:
    """What a checkpoint holds beside tensors."""

    step: int = 0
    seconds: float = 0.0


def train(
    images: ImageSet,
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    device: str = "auto",
    backbone: nn.Module | None = None,
    start: Model | None = None,
    objective: Objective | None = None,
    on_load: Callable[[int], None] | None = None,
    on_status: Callable[[TrainStatus], None] | None = None,
    on_epoch: Callable[[int, Network], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    tensorboard: bool = False,
) -> Model:
    """Train on images without labels and save the model folder `out`.

    Args:
        resume: go on from `out/checkpoints/last.pt`, whose recipe then counts; start anew where there is none.
        backbone: any module (B, 3, S, S) -> (B, F) in place of the recipe's; loading the model needs it again.
        start: a model whose weights the training starts from; its input, backbone, head and quantizer count, not the recipe's.
        objective: called as `objective(outputs, network, loss)` for what is minimised, where `loss(outputs)` is the recipe's
            own; a checkpoint does not hold it, so a resumed run is given it again.
        on_load: called with the number of pictures decoded so far. on_status: about every 10 s and at the end.
        on_epoch: called after every epoch with its number and the network (in training mode).
        on_note: called with what the user should know: that training cannot be compiled here.
    Raises:
        DataError: fewer readable images than one batch. CollapseError: the loss is no longer finite.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    out = Path(out)
    checkpoint = read_checkpoint(out) if resume else None
    recipe = _resolved(recipe, out, checkpoint, start, backbone)
    if recipe.train.frozen:
        return train_head(
            images, recipe, out, checkpoint, device=device, backbone=backbone, start=start, objective=objective,
            on_load=on_load, on_status=on_status, on_epoch=on_epoch, tensorboard=tensorboard,
        )  # fmt: skip
    from accelerate import Accelerator  # heavy, and only training needs it

    pixels = load_pixels(images, recipe.input.size, progress=on_load)
    batch_size = batch_size_for(recipe, len(pixels.array), images.name, pixels.failures)
    fingerprint = hashlib.sha256(pixels.array.tobytes()).hexdigest()
    check_same_pictures(checkpoint, fingerprint, out, images.name)
    accelerator = Accelerator(cpu=resolve_device(device) == "cpu")
    torch.manual_seed(recipe.train.seed)
    network = started(Network(recipe, backbone), start)
    if recipe.train.channels_last:
        network.to(memory_format=torch.channels_last)
    near = checkpoint.get("near") if checkpoint else _neighbours(network, recipe, pixels, accelerator.device)
    optimizers = make_optimizers(network, recipe)
    state = restored(checkpoint, network, optimizers)
    raw_network = network
    network, *optimizers = accelerator.prepare(network, *optimizers)
    run = Run(recipe, out, raw_network, optimizers, state, batch_size, fingerprint, tensorboard)
    run.near = near
    network = _compiled(network, recipe, accelerator.device.type, on_note)

    data = torch.from_numpy(pixels.array).to(accelerator.device)
    bf16 = resolve_precision(recipe.train.precision, accelerator.device.type) == "bf16"
    num_views = recipe.train.num_views

    def own_loss(outputs: Outputs) -> Tensor:
        return multi_view(outputs, recipe.train.temperature, recipe.quantizer.prefix_dims)

    network.train()
    # a pretrained backbone keeps its batch statistics: those of batches of few pictures are worse
    raw_network.backbone.train(recipe.train.backbone_lr_scale == 1)
    with run.interruptible():
        for indices, generator in run.batches(len(data), accelerator.device):
            batches = [data[rows] for rows in whose(indices, near, num_views, generator)]
            views = [make_views(batch, recipe.views, run.view_config(), generator) for batch in batches]
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
                outputs = [network(_layout(view, recipe)) for view in views]
            loss = objective(outputs, raw_network, own_loss) if objective else own_loss(outputs)
            for optimizer in optimizers:
                optimizer.zero_grad()
            accelerator.backward(loss)
            for optimizer in optimizers:
                optimizer.step()
            run.after_step(loss, outputs[0][0], on_status, on_epoch)
    return run.finish(images.name, pixels)


class Run:
    """Book-keeping around the loop: schedule, checkpoints, log, interruption."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        network: Network,
        optimizers: list[Optimizer],
        state: State,
        batch_size: int,
        fingerprint: str,
        tensorboard: bool,
    ) -> None:
        self.recipe, self.out, self.network, self.optimizers = recipe, out, network, optimizers
        self.state, self.batch_size, self.fingerprint = state, batch_size, fingerprint
        self.near: Tensor | None = None  # (N, count) neighbours of each picture, where they are positives
        self.steps_per_epoch = 0
        self.interrupted = False
        self.health = Health(1.0, 1.0, 1.0)
        self.recent: list[Tensor] = []
        self.session_start = self.last_log = self.last_checkpoint = 0.0
        self.views_at_start = state.step
        self.board = _board(out) if tensorboard else None  # before anything is written: it may be missing
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)

    @property
    def seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self.session_start

    @property
    def views(self) -> int:
        return self.recipe.train.num_views * self.batch_size * self.state.step

    @property
    def done(self) -> float:
        """Share of the budget that is spent: of the wall clock, or of the steps."""
        if self.recipe.train.minutes > 0:
            return min(1.0, self.seconds / (60 * self.recipe.train.minutes))
        return min(1.0, self.state.step / (self.recipe.train.epochs * self.steps_per_epoch))

    def batches(self, count: int, device: torch.device) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Random index batches and the generator of their views, both functions of (seed, step) alone."""
        self.steps_per_epoch = count // self.batch_size
        self.session_start = self.last_log = self.last_checkpoint = time.monotonic()
        seed = self.recipe.train.seed
        while self.done < 1 and not self.interrupted:
            epoch, position = divmod(self.state.step, self.steps_per_epoch)
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).to(device)
            for start in range(position * self.batch_size, self.steps_per_epoch * self.batch_size, self.batch_size):
                if (done := self.done) >= 1 or self.interrupted:
                    return
                self.set_lr(done)
                generator = torch.Generator(device).manual_seed((seed << 40) + self.state.step)
                yield order[start : start + self.batch_size], generator

    def view_config(self) -> InputConfig:
        """The input at the size of the views.

        Early epochs learn as much from small, cheap views. And crops show things larger than whole pictures do, so
        that views a bit smaller than the input fit better what is encoded later (Touvron et al., Fixing the train-test
        resolution discrepancy, 2019).
        """
        config, train = self.recipe.input, self.recipe.train
        scale = train.small_scale if self.done < train.small_share else train.view_scale
        return config if scale == 1 else replace(config, size=max(8, 4 * round(config.size * scale / 4)))

    def set_lr(self, done: float) -> None:
        factor = lr_factor(done, self.recipe.train.warmup, self.recipe.train.schedule)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor

    def after_step(
        self,
        loss: Tensor,
        x: Tensor,
        on_status: Callable[[TrainStatus], None] | None,
        on_epoch: Callable[[int, Network], None] | None,
    ) -> None:
        self.state.step += 1
        self.recent = [*self.recent[-7:], x.detach()]
        now = time.monotonic()
        if now - self.last_log >= LOG_SECONDS or self.done >= 1 or self.interrupted:
            self.last_log = now
            self._log(loss, on_status)
        if now - self.last_checkpoint >= 60 * self.recipe.train.checkpoint_minutes:
            self.last_checkpoint = now
            self.save_checkpoint()
        if on_epoch and self.state.step % self.steps_per_epoch == 0:
            on_epoch(self.state.step // self.steps_per_epoch, self.network)

    def _log(self, loss: Tensor, on_status: Callable[[TrainStatus], None] | None) -> None:
        value = loss.item()
        if not math.isfinite(value):
            raise CollapseError(f"the loss is {value} at step {self.state.step}; lower the learning rate of the recipe")
        x = torch.cat(self.recent)
        with torch.no_grad():
            codes = self.network.quantizer.encode(x)
        self.health = measure(codes.cpu().numpy(), x.cpu().numpy(), self.recipe.quantizer.codebook_size)
        elapsed = time.monotonic() - self.session_start
        status = TrainStatus(
            done=self.done,
            step=self.state.step,
            epoch=self.state.step // self.steps_per_epoch,
            views=self.views,
            seconds=self.seconds,
            images_per_second=(self.state.step - self.views_at_start) * self.batch_size / max(elapsed, 1e-9),
            loss=value,
            lr=self.optimizers[0].param_groups[0]["lr"],
            health=self.health,
        )
        row = {**asdict(status), "warning": self.health.warning}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board:
            for key in ("loss", "lr", "images_per_second"):
                self.board.add_scalar(key, row[key], self.state.step)
            for key, number in asdict(self.health).items():
                self.board.add_scalar(f"health/{key}", number, self.state.step)
        if on_status:
            on_status(status)

    def save_checkpoint(self) -> None:
        """Everything that the rest of the run depends on, replaced whole."""
        content = {
            "recipe": to_dict(self.recipe),
            "fingerprint": self.fingerprint,
            "near": self.near,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.state.step,
            "seconds": self.seconds,
        }
        with Replacing(self.out / "checkpoints" / "last.pt") as temporary:
            torch.save(content, temporary)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the current step, with a checkpoint; a second one ends it at once."""

        def stop(signum: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        handlers = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                handlers[number] = signal.signal(number, stop)
        except ValueError:
            pass  # not the main thread: its owner handles signals
        try:
            yield
            self.save_checkpoint()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.interrupted:
            raise KeyboardInterrupt

    def finish(self, name: str, pixels: Pixels) -> Model:
        """The trained model, saved; its health is that of the pictures themselves, not of their views."""
        model = Model(self.network, self.recipe)
        sample = pixels.array[:: 1 + len(pixels.array) // FIT_IMAGES]
        x = model.embed(sample)  # on the device that trained
        return self.conclude(name, x, lambda rows: sample[rows], len(pixels.array), len(pixels.failures))

    def conclude(
        self,
        name: str,
        x: NDArray[np.float32],
        pixels_of: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
        images: int,
        unreadable: int,
    ) -> Model:
        """The trained model, saved, with what its codes keep.

        Args:
            x: (N, D) descriptors of a sample of the pictures. pixels_of: rows of that sample -> their pixels.
        """
        model = Model(self.network, self.recipe)
        shown = fidelity.chosen(len(x), fidelity.PICTURES)
        originals = fidelity.chosen(len(shown), fidelity.QUERIES)
        pixels = pixels_of(shown[originals])
        copies = fidelity.describe_copies(self.network, pixels, self.recipe.input, model.batch_size)
        self.network.to("cpu")
        if self.recipe.train.refit:
            refit(self.network.quantizer, torch.from_numpy(x))
        health = measure(model.encode_descriptors(x), x, self.recipe.quantizer.codebook_size)
        codes = fidelity.measure_fidelity(torch.from_numpy(x[shown]), copies, originals, self.network.quantizer)
        facts = {
            "images": images,
            "unreadable": unreadable,
            "source": name,
            "views": self.views,
            "steps": self.state.step,
            "epochs": round(self.state.step / self.steps_per_epoch, 2),
            "minutes": round(self.seconds / 60, 2),
            "seed": self.recipe.train.seed,
            "health": asdict(health),
            "codes": [asdict(report) for report in codes],
        }
        model = Model(self.network, self.recipe, facts)
        model.save(self.out)
        return model


def make_optimizers(network: Network, recipe: Recipe) -> list[Optimizer]:
    """Adam for everything, or Muon for the convolutions and Adam for the rest. Each group keeps its `peak_lr`.

    With a `backbone_lr_scale` the backbone's parameters are groups of their own, at that share of the rates.
    """
    config = recipe.train
    params = [p for p in network.parameters() if p.requires_grad]
    optimizers: list[Optimizer] = []
    if config.optimizer == "muon":
        filters = [p for p in params if p.ndim == 4]
        params = [p for p in params if p.ndim != 4]
        groups = _groups(filters, network, config.muon_lr, config.backbone_lr_scale)
        optimizers.append(Muon(groups, lr=config.muon_lr, momentum=config.muon_momentum))
    groups = _groups(params, network, config.lr, config.backbone_lr_scale)
    optimizers.append(Adam(groups, lr=config.lr, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _groups(params: list[nn.Parameter], network: Network, lr: float, scale: float) -> list[dict[str, Any]]:
    """The head's and codebooks' parameters at `lr`, then the backbone's at `scale` of it; one group where it is 1."""
    if scale == 1:
        return [{"params": params, "lr": lr}]
    pretrained = {id(p) for p in network.backbone.parameters()}
    parts = [p for p in params if id(p) not in pretrained], [p for p in params if id(p) in pretrained]
    return [{"params": part, "lr": rate} for part, rate in zip(parts, (lr, lr * scale), strict=True) if part]


def lr_factor(done: float, warmup: float, schedule: str) -> float:
    """Share of the peak learning rate when `done` of the budget is spent: linear warm-up, then one cosine to zero.

    >>> [round(lr_factor(done, 0.1, "cosine"), 3) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if done < warmup:
        return done / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """The last checkpoint of a training, None where there is none yet."""
    path = Path(out) / "checkpoints" / "last.pt"
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise ModelError(f"checkpoint {path} is unreadable ({type(error).__name__}); delete it to start anew") from None
    return content


def started(network: Network, start: Model | None) -> Network:
    """The network with the weights of a model.

    Raises:
        ConfigError: a given backbone is not of the model's shapes.
    """
    if start is not None:
        try:
            network.load_state_dict(start.network.state_dict())
        except RuntimeError:
            raise ConfigError(
                "the given backbone does not fit the model to start from; give one of its shapes"
            ) from None
    return network


def _resolved(
    recipe: Recipe, out: Path, checkpoint: dict[str, Any] | None, start: Model | None, backbone: nn.Module | None
) -> Recipe:
    """The recipe that counts: the checkpoint's, with the shapes of what it starts from and the name of a given backbone."""
    if checkpoint:
        recipe = from_dict(Recipe, checkpoint["recipe"], where=f"{out}/checkpoints")
    if start is not None:
        kept = {part: getattr(start.config, part) for part in ("input", "backbone", "head", "quantizer")}
        recipe = replace(recipe, **kept)
    source = recipe.backbone
    known = source.weights or (source.pretrained and source.name != "resnet") or start or checkpoint or backbone
    if recipe.train.frozen and not known:
        raise ConfigError(
            f"a frozen backbone {source.name} without weights has learned nothing; give --weights, --start or pretrained = true"
        )
    if start is not None or checkpoint:  # whose weights replace those that the backbone would be looked up with
        recipe = replace(recipe, backbone=replace(recipe.backbone, pretrained=False, weights=""))
    if backbone is not None:
        recipe = replace(recipe, backbone=replace(recipe.backbone, name=f"given/{type(backbone).__name__}"))
    return recipe


def _neighbours(network: Network, recipe: Recipe, pixels: Pixels, device: torch.device) -> Tensor | None:
    """By the features that the training starts from; None where the recipe asks for none."""
    if not recipe.train.neighbours:
        return None
    model, precision = Model(network.to(device), recipe), resolve_precision(recipe.train.precision, device.type)
    features = model.features(pixels.array, precision=precision)
    return neighbours(features, recipe.train.neighbours, recipe.train.seed, device)


def check_same_pictures(checkpoint: dict[str, Any] | None, fingerprint: str, out: Path, name: str) -> None:
    """Refuse to go on with other pictures than those of the checkpoint."""
    if checkpoint and checkpoint["fingerprint"] != fingerprint:
        raise ModelError(f"checkpoint of {out} was made from other pictures than {name}; give the same, or a new --out")


def restored(checkpoint: dict[str, Any] | None, network: Network, optimizers: list[Optimizer]) -> State:
    """Load network and optimizers from a checkpoint where there is one; where the training stands."""
    if not checkpoint:
        return State()
    network.load_state_dict(checkpoint["network"])
    for optimizer, saved in zip(optimizers, checkpoint["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return State(checkpoint["step"], checkpoint["seconds"])


def batch_size_for(recipe: Recipe, count: int, name: str, failures: list[tuple[int, str]]) -> int:
    """The recipe's, or less for a collection smaller than four batches."""
    if not count and failures:
        raise DataError(f"none of the {len(failures)} pictures in {name} is readable, for example: {failures[0][1]}")
    if count < 16:
        raise DataError(
            f"{count} readable pictures in {name} are too few to learn from; 16 is the least, 1,000 sensible"
        )
    return max(2, min(recipe.train.batch_size, count // 4))


def _compiled(network: Network, recipe: Recipe, device: str, on_note: Callable[[str], None] | None) -> Network:
    """The network, compiled where the recipe wants it and it can be; the given one keeps its names, and is what is saved."""
    option, minutes = recipe.train.compile, recipe.train.minutes
    if option == "auto" and 0 < minutes < COMPILE_FROM:
        return network
    wanted, note = resolve_compile(option, device)
    if note and on_note:
        on_note(note)
    # kernels for each size of the views, of which there are two: one set for all sizes would be slower
    return cast(Network, torch.compile(network, dynamic=False)) if wanted else network


def _layout(view: Tensor, recipe: Recipe) -> Tensor:
    return view.contiguous(memory_format=torch.channels_last) if recipe.train.channels_last else view


def _board(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs tensorboard; run pip install 'spq-retrieval[tensorboard]'") from None
    return SummaryWriter(str(out / "tensorboard"))
