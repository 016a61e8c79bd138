"""The training loop: explicit, resumable, seeded by step so that a resumed run repeats an uninterrupted one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from spq.config import Recipe, from_dict
from spq.data.decode import Pixels, load_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.backbone import check_sizes
from spq.model.device import not_compiled, resolve_compile, resolve_device, resolve_precision
from spq.model.model import Model
from spq.model.network import Network
from spq.training.checkpoint import State, check_same_pictures, fill, read_checkpoint, restored, started
from spq.training.cluster_stage import ClusterStage, OnPart
from spq.training.graphed import GraphedStep
from spq.training.head_only import finish_head, train_head
from spq.training.loss import multi_view
from spq.training.neighbours import neighbours, whose
from spq.training.optimizers import make_optimizers
from spq.training.run import Objective, Outputs, Run, TrainStatus, batch_size_for
from spq.training.views import make_views

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
        on_epoch: called after every epoch with its number and the network, in the mode it trains in; a finish counts anew, and in
            the stage `cluster` it is not called.
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
    if objective and (recipe.cluster.share or recipe.train.graph):
        given = "cluster.share" if recipe.cluster.share else "train.graph"
        raise ConfigError(
            f"recipe {recipe.name} has {given}, which takes no objective of your own; set it to 0 or false"
        )
    if recipe.train.frozen:
        return train_head(
            images, recipe, out, checkpoint, device=device, backbone=backbone, start=start, objective=objective,
            on_load=on_load, on_status=on_status, on_epoch=on_epoch, tensorboard=tensorboard,
        )  # fmt: skip
    place = torch.device(resolve_device(device))
    torch.manual_seed(recipe.train.seed)
    network = started(Network(recipe, backbone), start)
    # before minutes go into reading pictures
    check_sizes(network.backbone, recipe.backbone.name, recipe.shown_sizes)
    pixels = load_pixels(images, recipe.input.size, progress=on_load)
    batch_size = batch_size_for(recipe, len(pixels.array), images.name, pixels.failures)
    fingerprint = hashlib.sha256(pixels.array.reshape(-1).data).hexdigest()
    check_same_pictures(checkpoint, fingerprint, out, images.name)
    if recipe.train.channels_last:
        network.to(memory_format=torch.channels_last)
    after = partial(
        _after_the_network, pixels=pixels, name=images.name, out=out, fingerprint=fingerprint, device=place,
        objective=objective, on_status=on_status, on_epoch=on_epoch, on_note=on_note, on_part=on_part,
        tensorboard=tensorboard,
    )  # fmt: skip
    if checkpoint and checkpoint.get("trained"):
        return after(network.to(place), recipe=_until(recipe, deadline, checkpoint["seconds"]), begin=checkpoint)
    near = _neighbours(network, recipe, pixels, place, checkpoint)
    optimizers = make_optimizers(network.to(place), recipe)
    state = restored(checkpoint, network, optimizers)
    network.train()
    # a pretrained backbone keeps its batch statistics: those of batches of few pictures are worse
    network.backbone.train(recipe.train.backbone_lr_scale == 1)
    step = _Step(network, recipe, torch.from_numpy(pixels.array).to(place), near, objective)
    step.forward = _compiled(step, batch_size, on_note)
    recipe = _until(recipe, deadline, state.seconds)
    run = Run(recipe, out, network, optimizers, state, batch_size, fingerprint, tensorboard)
    run.near = near
    gradients = GraphedStep(step, [network], place, recipe.train.graph, on_note=on_note)
    with run.interruptible():
        for indices, generator in run.batches(len(pixels.array), place):
            step.views = run.view_config()
            loss, x = gradients(indices, generator, step.views)
            for optimizer in optimizers:
                optimizer.step()
            run.after_step(loss, x, on_status, on_epoch)
    if run.has_finish:
        begin = State(seconds=run.seconds, trained=run.learned)
        if recipe.cluster.share:  # the stage writes no checkpoint of its own
            run.state.trained = begin.trained
            run.save_checkpoint()
        forward = step.forward
        del step, gradients  # the pictures and the graph, on the device
        return after(network, recipe=recipe, begin=begin, forward=forward)
    return run.finish(images.name, pixels)


class _Step:
    """Views, network and loss of a step: rows of a batch -> the loss, and descriptors of its first views.

    Attributes:
        forward: the backbone, compiled or not. views: the input at the size of the views.
    """

    def __init__(
        self, network: Network, recipe: Recipe, data: Tensor, near: Tensor | None, objective: Objective | None
    ) -> None:
        self.network, self.recipe, self.data, self.near, self.objective = network, recipe, data, near, objective
        self.bf16 = resolve_precision(recipe.train.precision, data.device.type) == "bf16"
        self.forward: Forward = network.backbone
        self.views = recipe.input

    def __call__(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        train = self.recipe.train
        batches = [self.data[rows] for rows in whose(indices, self.near, train.num_views, generator)]
        parts = [torch.cat(batches)] if train.one_pass else batches
        outputs = [self.described(make_views(part, self.recipe.views, self.views, generator)) for part in parts]
        if train.one_pass:
            outputs = list(zip(*(part.chunk(train.num_views) for part in outputs[0]), strict=True))
        loss = self.objective(outputs, self.network, self.own_loss) if self.objective else self.own_loss(outputs)
        return loss, outputs[0][0]

    def own_loss(self, outputs: Outputs) -> Tensor:
        return multi_view(outputs, self.recipe.train.temperature, self.recipe.quantizer.prefix_dims)

    def described(self, views: Tensor) -> tuple[Tensor, Tensor]:
        if self.recipe.train.channels_last:
            views = views.contiguous(memory_format=torch.channels_last)
        with torch.autocast(views.device.type, torch.bfloat16, enabled=self.bf16):
            return self.network.quantized(self.forward(views))


def _after_the_network(
    network: Network,
    *,
    recipe: Recipe,
    begin: State | dict[str, Any],
    forward: Forward | None = None,
    on_note: Callable[[str], None] | None,
    on_part: OnPart | None,
    **given: Any,
) -> Model:
    """The last part of a training: clusters, or head and codebooks.

    Args:
        begin: where the network's part ended, or a checkpoint of this part.
    """
    if not recipe.cluster.share:
        return finish_head(network, recipe=recipe, begin=begin, **given)
    if isinstance(begin, dict):  # the stage begins again
        fill(network, begin["network"], "checkpoint")
        begin = State(seconds=begin["seconds"], trained=begin["trained"])
    del given["objective"], given["on_epoch"]
    return ClusterStage(network, recipe, state=begin, forward=forward, on_note=on_note, on_part=on_part, **given).run()


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
    if start is not None and start.config.head.softmax:
        raise ConfigError(
            "cannot start from a model that ends with clusters; give one that was trained without stage cluster"
        )
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


def _compiled(step: _Step, batch_size: int, on_note: Callable[[str], None] | None) -> Forward:
    """The backbone, compiled where the recipe wants it and it can be; a note tells where it can not.

    Kernels are made here, before the clock of a budget starts: else warm-up and small views pass while the compiler works.
    """
    recipe, backbone, device = step.recipe, step.network.backbone, step.data.device
    option, minutes = recipe.train.compile, recipe.train.minutes
    if option == "auto" and 0 < minutes < COMPILE_FROM:
        return backbone
    wanted, note = resolve_compile(option, device.type)
    if wanted:
        torch.compiler.reset()  # else the kernels of all trainings of a process count towards one limit
        # kernels for each size of the views, of which there are two: one set for all sizes would be slower
        step.forward = cast(Forward, torch.compile(backbone, dynamic=False))
        try:
            _make_kernels(step, batch_size * (recipe.train.num_views if recipe.train.one_pass else 1))
        except Exception as error:  # any, from any stage of the compiler
            note = not_compiled(error)
        else:
            return step.forward
    if note and on_note:
        on_note(note)
    return backbone


def _make_kernels(step: _Step, batch_size: int) -> None:
    """A step with views of each size. The network is as it was afterwards, batch statistics included."""
    network = step.network
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        for size in step.recipe.view_sizes:
            x, z = step.described(torch.rand(batch_size, 3, size, size, device=step.data.device))
            torch.autograd.backward(x.sum() + z.sum())
    finally:
        network.zero_grad()
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])
