"""`spq train`: train a model on pictures."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spq.cli.describe import codes_text, counted, listed, passed_over
from spq.cli.indexing import Patterns, command
from spq.cli.options import (
    SEED,
    SOURCES,
    AsJson,
    Device,
    Exclude,
    FollowLinks,
    Include,
    MaxPixels,
    ProtocolName,
    Root,
    Threads,
)
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, CONTINUE, spoken_by_the_first, when_stopped
from spq.common.parallel import launched
from spq.common.text import printable
from spq.config import DEFAULT, Recipe, load_recipe, with_overrides
from spq.errors import ConfigError

LEAST = 16  # pictures, as in spq.training.context, which loads torch

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.model.model import Model


@spoken_by_the_first
def train(
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGES...", help=f"{SOURCES} Or give --protocol.")
    ] = None,
    protocol: ProtocolName = None,
    root: Root = None,
    split_seed: Annotated[int | None, typer.Option(min=0, help="Seed of the protocol's split. Default: 0.")] = None,
    exclude: Exclude = None,
    include: Include = None,
    follow_links: FollowLinks = None,
    bits: Annotated[str | None, typer.Option(help="Length of a code; 16,32,64 trains one model for all three.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="spq, fast, paper, gpu, pq, head, finetune or a FILE.toml. Default: head where pretrained weights are on "
            "this machine, else spq."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Replace a value of the recipe, such as train.lr=1e-3; repeatable. Also after its name: fast:train.lr=1e-3.",
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="lite0 or timm/NAME, instead of the recipe's backbone.")] = None,
    weights: Annotated[str | None, typer.Option(help="Local .safetensors file that the backbone starts from.")] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Train only head and codebooks, on cached features.")
    ] = False,
    start: Annotated[Path | None, typer.Option(help="Model folder whose weights training starts from.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Budget in passes over the pictures.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget from start to saved model, instead of epochs.")] = None,
    seed: Annotated[int | None, SEED] = None,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None, typer.Option(help="Overrides the recipe's precision.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in OUT.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write OUT/tensorboard.")] = False,
    sample: Annotated[
        int | None, typer.Option(min=LEAST, help="Train on this many pictures, drawn at random with the seed.")
    ] = None,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on pictures, without labels.

    Several processes, for example one for each GPU: torchrun --nproc-per-node 2 -m spq train photos/ --out photos.spq

    Example: spq train photos/ --out photos.spq

    Example: spq train photos/ --out photos.spq --recipe spq --bits 64 --minutes 30

    Example: spq train --protocol cifar10-ii --out cifar.spq --bits 32 --seed 1
    """
    began = time.monotonic()  # the minutes include the seconds in which libraries load
    from spq.api import check_overrides
    from spq.cli.checks import check_model_out, check_start, check_tensorboard, parse_lengths
    from spq.model.weights import check_at_hand

    patterns = Patterns(exclude, include, follow_links)
    trained_on = _Pictures(tuple(images or ()), patterns, protocol, root, split_seed)
    given = backbone or weights or frozen
    chosen = not (recipe or start or resume or given or overrides)
    config = load_recipe(recipe or ("head" if given and not (start or resume) else DEFAULT))
    config = with_overrides(config, overrides or ())
    options: dict[str, Any] = {
        "bits": parse_lengths(bits), "image_size": image_size, "epochs": epochs, "minutes": minutes, "seed": seed,
        "precision": precision, "backbone": backbone, "weights": weights, "frozen": frozen or None,
    }  # fmt: skip
    check_overrides(overrides, has_start=start is not None)
    check_start(start, bits=bits, backbone=backbone, weights=weights, image_size=image_size)
    if launched()[0] == 0:  # the process that writes there
        check_model_out(out, resume)
    if config.backbone.pretrained and not (weights or start or resume):
        check_at_hand(backbone or config.backbone.name)
    if tensorboard:
        check_tensorboard()
    drawn = () if sample is None else ("--sample", sample)
    again = command(*_program(), "train", *trained_on.words(), "--out", out, *drawn, "--resume", patterns=patterns)
    with when_stopped(lambda: _kept(again, out, config)):
        source = trained_on.open()
        note(passed_over(source.aside))
        note(listed("left out", [*source.unlisted, *source.unopened]))
        note(listed("note", source.remarks))
        _check_count(source, patterns)
        config = (
            _chosen(source, options, device)
            if chosen
            else _with_options(config, options, (out, start) if resume else None, recipe, overrides)
        )
        names = {
            "device": device, "resume": resume, "sample": sample, "tensorboard": tensorboard, "began": began,
        }  # fmt: skip
        model = _train(source, config, out, start, checked=chosen and config.train.frozen, **names)
    facts = {**_facts(out, model), "remarks": source.remarks}
    show(json.dumps(facts) if as_json else _text(facts))


@dataclass(frozen=True)
class _Pictures:
    """What is trained on: collections, or the training part of a protocol."""

    images: tuple[str, ...]
    patterns: Patterns
    protocol: str | None
    root: Path | None
    split_seed: int | None

    def __post_init__(self) -> None:
        if bool(self.images) == bool(self.protocol) or (self.protocol and any(self.patterns)):
            raise ConfigError("give either IMAGES or --protocol NAME, which takes no patterns; see spq train --help")
        if not self.protocol and not (self.root is None and self.split_seed is None):
            raise ConfigError("--root and --split-seed belong to --protocol NAME; omit them, or give a protocol")

    def words(self) -> list[object]:
        """The words of a command line that name them."""
        given = {"--protocol": self.protocol, "--root": self.root, "--split-seed": self.split_seed}
        return [*self.images, *(word for pair in given.items() if pair[1] is not None for word in pair)]

    def open(self) -> ImageSet:
        from spq.data.open import open_collections
        from spq.data.protocols import load_protocol

        if not self.protocol:
            return open_collections(self.images, *self.patterns)
        return load_protocol(self.protocol, root=self.root, seed=self.split_seed or 0).training


def _program() -> tuple[object, ...]:
    """How this process was started."""
    count = launched()[1]
    return ("torchrun", "--nproc-per-node", count, "-m", "spq") if count > 1 else ("spq",)


def _check_count(source: ImageSet, patterns: Patterns) -> None:
    """Refuse a collection that is too small to learn from.

    Raises:
        ConfigError: it names the way without training.
    """
    if len(source) < LEAST:
        without = command("spq", "index", *source.source.names, "--out", "INDEX", patterns=patterns)
        raise ConfigError(
            f"{counted(len(source), 'picture')} in {source.name}, and training needs {LEAST}; search them without "
            f"training: {without}"
        )


def _chosen(source: ImageSet, options: dict[str, Any], device: str) -> Recipe:
    """The recipe for a collection, with the values that options give; says why, once nothing is refused."""
    from spq.api import choose, with_options  # loads torch
    from spq.model.device import resolve_device

    choice = choose(source, options["epochs"])
    recipe = with_options(load_recipe(choice.recipe), **options | {"backbone": choice.backbone})
    resolve_device(device)
    note(choice.reason)
    return recipe


def _with_options(
    recipe: Recipe,
    options: dict[str, Any],
    resumed: tuple[Path, Path | None] | None,
    given: str | None,
    overrides: list[str] | None,
) -> Recipe:
    """The recipe with the values that options give; says which of them a resumed training does not use.

    Args:
        resumed: its folder, and the start model. given: the option `--recipe`.
    """
    from spq.api import with_options  # loads torch
    from spq.cli.checks import what_resume_ignores

    changed = with_options(recipe, **options)
    if resumed:
        note(what_resume_ignores(*resumed, changed, {"recipe": given, **options, "overrides": overrides}))
    return changed


def _kept(again: str, out: Path, recipe: Recipe) -> str:
    """What a stopped training has kept, and how to continue it."""
    if (out / "checkpoints" / "last.pt").exists():
        return f"continue with: {again}"
    if (out / "checkpoints").exists():  # stopped twice, so that no checkpoint was written
        return f"nothing is kept yet, start again with: {again}"
    if recipe.train.frozen:
        return f"the features computed so far are kept, {CONTINUE}"
    return f"nothing is kept yet, {AGAIN}"


def _train(source: ImageSet, recipe: Recipe, out: Path, start: Path | None, checked: bool, **names: Any) -> Model:
    from spq.api import SPQ
    from spq.cli.progress import TrainingBar
    from spq.model.device import resolve_device
    from spq.training.automatic import train_checked
    from spq.training.context import TrainOptions
    from spq.training.train import train as run_training

    resolve_device(names["device"])
    options = TrainOptions(start=SPQ.load(start) if start else None).with_names(**names)
    with TrainingBar() as bar:
        shown = options.with_names(on_stage=bar.stage, on_status=bar.update, on_note=note)
        return (train_checked if checked else run_training)(source, recipe, out, shown)


def _facts(out: Path, model: Model) -> dict[str, Any]:
    """What `--json` prints. Unreadable pictures and warnings go to stderr."""
    from spq.training.health import Health

    facts = {"model": str(out), "hash": model.hash, "bits": model.config.quantizer.bits, **model.facts}
    if facts["unreadable"]:
        note(f"unreadable and left out: {facts['unreadable']:,} of {facts['images'] + facts['unreadable']:,} pictures")
    if warning := Health(**facts["health"]).warning:
        note(f"warning: {warning}")
    return facts


def _text(facts: dict[str, Any]) -> str:
    """The budget that training used, and what its codes keep."""
    epochs = counted(float(facts["epochs"]), "epoch") if facts["epochs"] else "no training steps"
    return (
        f"{printable(facts['model'])}: {counted(facts['images'], 'picture')}, {epochs}, "
        f"{counted(float(facts['minutes']), 'minute')}\n"
        f"{codes_text(facts['codes'])}"
    )
