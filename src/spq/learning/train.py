"""The training loop: explicit, resumable, seeded by step so that a resumed run repeats an uninterrupted one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from spq.config import Recipe, from_dict
from spq.data.images import Pixels, load_pixels
from spq.data.sources import ImageSet
from spq.errors import ConfigError
from spq.learning.checkpoint import State, check_same_pictures, fill, read_checkpoint, restored, started
from spq.learning.cluster_stage import ClusterStage, OnPart
from spq.learning.graphed import GraphedStep
from spq.learning.head_only import finish_head, train_head
from spq.learning.loss import multi_view
from spq.learning.neighbours import neighbours, whose
from spq.learning.optimizers import make_optimizers
from spq.learning.run import Objective, Outputs, Run, TrainStatus, batch_size_for
from spq.learning.views import make_views
from spq.model.artifact import Model
from spq.model.backbone import check_sizes
from spq.model.device import not_compiled, resolve_compile, resolve_device, resolve_precision
from spq.model.network import Network

if TYPE_CHECKING:
    from accelerate import Accelerator

Forward = Callable[[Tensor], Tensor]  # the backbone, compiled or not

COMPILE_FROM = 5.0  # minutes of training: shorter ones do not win back what compiling takes


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
    on_part: OnPart | None = None,
    tensorboard: bool = False,
    deadline: float | None = None,
) -> Model:
    """Train on images without labels and save the model folder `out`.

    Args:
        resume: go on from `out/checkpoints/last.pt`, whose recipe then counts; start anew where there is none.
        backbone: any module (B, 3, S, S) -> (B, F) in place of the recipe's, trained as it is and not as a copy; loading the
            model needs it again.
        start: a model whose weights the training starts from; its input, backbone, head and quantizer count, not the recipe's.
        objective: called as `objective(outputs, network, loss)` for what is minimised, where `loss(outputs)` is the recipe's
            own; a checkpoint does not hold it, so a resumed run is given it again.
        on_load: called with the number of pictures decoded so far. on_status: about every 10 s and at the end.
        on_epoch: called after every epoch with its number and the network, in the mode it trains in; a finish counts anew.
        on_note: called with what the user should know: that training cannot be compiled here.
        on_part: called with the name of a part of the stage `cluster` that is done, and a model of what there is by then.
        deadline: of `time.monotonic`, when learning is to be over: the minutes of the recipe are what is left until then once
            pictures are read and kernels are made.
    Raises:
        DataError: fewer readable images than one batch. CollapseError: the loss is no longer finite.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    out = Path(out)
    checkpoint = read_checkpoint(out) if resume else None
    start = None if checkpoint else start  # what was started from it goes on
    recipe = _resolved(recipe, out, checkpoint, start, backbone)
    if recipe.train.frozen:
        return train_head(
            images, recipe, out, checkpoint, device=device, backbone=backbone, start=start, objective=objective,
            on_load=on_load, on_status=on_status, on_epoch=on_epoch, tensorboard=tensorboard,
        )  # fmt: skip
    accelerator = _accelerator(resolve_device(device))
    torch.manual_seed(recipe.train.seed)
    network = started(Network(recipe, backbone), start)
    # before minutes go into reading pictures
    check_sizes(network.backbone, recipe.backbone.name, {recipe.input.size, *recipe.view_sizes})
    pixels = load_pixels(images, recipe.input.size, progress=on_load)
    batch_size = batch_size_for(recipe, len(pixels.array), images.name, pixels.failures)
    fingerprint = hashlib.sha256(pixels.array.reshape(-1).data).hexdigest()
    check_same_pictures(checkpoint, fingerprint, out, images.name)
    if recipe.train.channels_last:
        network.to(memory_format=torch.channels_last)
    finish = partial(
        finish_head, recipe=recipe, pixels=pixels, name=images.name, out=out, fingerprint=fingerprint,
        device=accelerator.device, objective=objective, on_status=on_status, on_epoch=on_epoch, tensorboard=tensorboard,
    )  # fmt: skip
    stage = partial(
        ClusterStage, pixels=pixels, name=images.name, out=out, fingerprint=fingerprint,
        device=accelerator.device, on_status=on_status, on_note=on_note, on_part=on_part, tensorboard=tensorboard,
    )  # fmt: skip
    if checkpoint and checkpoint.get("trained"):
        if recipe.cluster.share:  # the stage begins again
            fill(network, checkpoint["network"], "checkpoint")
            state = State(seconds=checkpoint["seconds"], trained=checkpoint["trained"])
            recipe = _until(recipe, deadline, state.seconds)
            return stage(network.to(accelerator.device), recipe=recipe, state=state).run()
        return finish(network, begin=checkpoint)
    near = _neighbours(network, recipe, pixels, accelerator.device, checkpoint)
    optimizers = make_optimizers(network, recipe)
    raw_network, raw_optimizers = network, optimizers
    network, *optimizers = accelerator.prepare(network, *optimizers)
    # only now: Accelerate would move Adam's counts of steps to the GPU as well, where each step has to wait for them
    state = restored(checkpoint, raw_network, raw_optimizers)
    data = torch.from_numpy(pixels.array).to(accelerator.device)
    bf16 = resolve_precision(recipe.train.precision, accelerator.device.type) == "bf16"
    num_views = recipe.train.num_views

    def own_loss(outputs: Outputs) -> Tensor:
        return multi_view(outputs, recipe.train.temperature, recipe.quantizer.prefix_dims)

    def described(forward: Forward, views: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
            return raw_network.quantized(forward(_layout(views, recipe)))

    def outputs_of(batches: list[Tensor], generator: torch.Generator) -> Outputs:
        parts = [torch.cat(batches)] if recipe.train.one_pass else batches
        shown = [described(forward, make_views(part, recipe.views, run.views_now, generator)) for part in parts]
        if len(shown) == num_views:
            return shown
        return list(zip(*(part.chunk(num_views) for part in shown[0]), strict=True))

    def step(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        batches = [data[rows] for rows in whose(indices, run.near, num_views, generator)]
        outputs = outputs_of(batches, generator)
        loss = objective(outputs, raw_network, own_loss) if objective else own_loss(outputs)
        return loss, outputs[0][0]

    network.train()
    # a pretrained backbone keeps its batch statistics: those of batches of few pictures are worse
    raw_network.backbone.train(recipe.train.backbone_lr_scale == 1)
    shown = batch_size * (num_views if recipe.train.one_pass else 1)
    forward = _compiled(raw_network, recipe, described, shown, accelerator.device, on_note)
    recipe = _until(recipe, deadline, state.seconds)
    run = Run(recipe, out, raw_network, optimizers, state, batch_size, fingerprint, tensorboard)
    run.near = near
    gradients = GraphedStep(step, [raw_network], accelerator.device, recipe.train.graph, on_note=on_note)
    with run.interruptible():
        for indices, generator in run.batches(len(data), accelerator.device):
            loss, x = gradients(indices, generator, run.views_now)
            for optimizer in optimizers:
                optimizer.step()
            run.after_step(loss, x, on_status, on_epoch)
    if recipe.cluster.share:
        run.state.trained = run.learned
        state = State(seconds=run.seconds, trained=run.learned)
        run.save_checkpoint()
        return stage(raw_network, recipe=recipe, state=state, forward=forward).run()
    if recipe.finish.epochs:
        return finish(raw_network, begin=State(seconds=run.seconds, trained=run.learned))
    return run.finish(images.name, pixels)


def _until(recipe: Recipe, deadline: float | None, seconds: float) -> Recipe:
    """The recipe with the minutes that are left until a moment of `time.monotonic`, and those that are done."""
    if deadline is None:
        return recipe
    minutes = max(0.01, (seconds + deadline - time.monotonic()) / 60)
    return replace(recipe, train=replace(recipe.train, minutes=minutes))


def _resolved(
    recipe: Recipe, out: Path, checkpoint: dict[str, Any] | None, start: Model | None, backbone: nn.Module | None
) -> Recipe:
    """The recipe that counts: the checkpoint's, with the shapes of what it starts from and the name of a given backbone."""
    if checkpoint:
        recipe = from_dict(Recipe, checkpoint["recipe"], where=f"{out}/checkpoints")
    if start is not None:
        kept = {part: getattr(start.config, part) for part in ("input", "backbone", "head", "quantizer")}
        recipe = replace(recipe, **kept)
    source, with_muon = recipe.backbone, recipe.train.optimizer == "muon" and not recipe.train.frozen
    learned = start is not None or source.weights or source.pretrained
    if with_muon and learned and source.name != "resnet" and not checkpoint:
        raise ConfigError(
            f'recipe {recipe.name} gives filters a scale of its own (optimizer = "muon"), with which {source.name} unlearns '
            "what it knows; use --recipe finetune"
        )
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


def _accelerator(device: str) -> Accelerator:
    """Raises ConfigError for another kind of device than that of an earlier training, which Accelerate keeps for a process."""
    from accelerate import Accelerator  # heavy, and only training needs it

    with suppress(ValueError):  # it has begun without cpu=True
        accelerator = Accelerator(cpu=device == "cpu")
        if accelerator.device.type == torch.device(device).type:
            return accelerator
    raise ConfigError(f"this process has trained on another device than {device}; train on {device} in a new process")


def _neighbours(
    network: Network, recipe: Recipe, pixels: Pixels, device: torch.device, checkpoint: dict[str, Any] | None
) -> Tensor | None:
    """By the features that the training starts from, or as they were then; None where the recipe asks for none."""
    if not recipe.train.neighbours:
        return None
    if checkpoint:
        return cast(Tensor, checkpoint["near"]).to(device)
    model, precision = Model(network.to(device), recipe), resolve_precision(recipe.train.precision, device.type)
    features = model.features(pixels.array, precision=precision)
    return neighbours(features, recipe.train.neighbours, recipe.train.seed, device)


def _compiled(
    network: Network,
    recipe: Recipe,
    described: Callable[[Forward, Tensor], tuple[Tensor, Tensor]],
    batch_size: int,
    device: torch.device,
    on_note: Callable[[str], None] | None,
) -> Forward:
    """The backbone, compiled where the recipe wants it and it can be; a note tells where it can not.

    Kernels are made here, before the clock of a budget starts: else warm-up and small views pass while the compiler works.
    """
    option, minutes = recipe.train.compile, recipe.train.minutes
    if option == "auto" and 0 < minutes < COMPILE_FROM:
        return network.backbone
    wanted, note = resolve_compile(option, device.type)
    if wanted:
        torch.compiler.reset()  # else the kernels of all trainings of a process count towards one limit
        # kernels for each size of the views, of which there are two: one set for all sizes would be slower
        compiled = cast(Forward, torch.compile(network.backbone, dynamic=False))
        try:
            _make_kernels(partial(described, compiled), network, recipe.view_sizes, batch_size, device)
        except Exception as error:  # any, from any stage of the compiler
            note = not_compiled(error)
        else:
            return compiled
    if note and on_note:
        on_note(note)
    return network.backbone


def _make_kernels(
    described: Callable[[Tensor], tuple[Tensor, Tensor]],
    network: Network,
    sizes: set[int],
    batch_size: int,
    device: torch.device,
) -> None:
    """A step with views of each size. The network is as it was afterwards, batch statistics included."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        for size in sizes:
            x, z = described(torch.rand(batch_size, 3, size, size, device=device))
            torch.autograd.backward(x.sum() + z.sum())
    finally:
        network.zero_grad()
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])


def _layout(view: Tensor, recipe: Recipe) -> Tensor:
    return view.contiguous(memory_format=torch.channels_last) if recipe.train.channels_last else view
