"""Training without a chosen recipe: which recipe fits, and whether its codes are at least as safe as plain quantization.

A pretrained network knows more than some thousand pictures can teach, so its features are taken where its weights are at hand
(docs/guides/own-photos.md has the figures). Otherwise a network is trained from scratch.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spq.common.files import scratch_place
from spq.config import DEFAULT, Recipe, load_recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.model.device import resolve_precision
from spq.model.lite0 import INSTALL
from spq.model.model import MODEL_BYTES, Model
from spq.training.callbacks import Callbacks
from spq.training.check_codes import CodeCheck, check_codes, is_safe
from spq.training.context import TrainOptions, draw_sample
from spq.training.features import FeatureExtractor, cached_features
from spq.training.fidelity import COPY, QUERIES, evenly_spaced
from spq.training.out_folder import one_training
from spq.training.processes import joined
from spq.training.train import share_model, train_in
from spq.training.trained import FIT_IMAGES
from spq.training.views import make_views

FLOOR = "pq"


@dataclass(frozen=True)
class Choice:
    """A recipe by name, the backbone that replaces its own, and one line that says why."""

    recipe: str
    backbone: str | None
    reason: str


def choose_recipe(count: int, at_hand: str | None, epochs: int | None = None) -> Choice:
    """Choose a recipe for a collection.

    Args:
        count: number of pictures. at_hand: backbone whose pretrained weights are on this machine.
        epochs: those that the user wants; only training from scratch has epochs.
    """
    pictures = f"{count:,} picture{'' if count == 1 else 's'}"
    if at_hand and epochs is None:
        fitted = f", fitted to {FIT_IMAGES:,} of them" if count > FIT_IMAGES else ""
        return Choice(
            "head", at_hand, f"recipe head for {pictures}{fitted}: the pretrained weights of {at_hand} are at hand"
        )
    why = "`epochs` is given, and pretrained features need none"
    if epochs is None:
        why = f"no pretrained weights are at hand; for photos, {INSTALL} gives better answers within minutes"
    return Choice(DEFAULT, None, f"recipe {DEFAULT}, from scratch, for {pictures}: {why}")


def train_checked(images: ImageSet, recipe: Recipe, out: str | Path, options: TrainOptions) -> Model:
    """Train recipe `head`, compare it without labels with plain product quantization, and save the better one.

    Of a large collection, 20,000 pictures are used: more change the codes little, and each costs time.

    Returns:
        the saved model; its recipe names which it is.
    """
    images = draw_sample(images, options.sample, recipe.train.seed)
    rows = np.arange(FIT_IMAGES) * len(images) // FIT_IMAGES if len(images) > FIT_IMAGES else None
    images = images if rows is None else subset(images, rows.tolist())
    began = options.clock() if options.began is None else options.began
    with joined(options.device) as processes:
        if not processes.is_first:  # all of this works on features
            return share_model(None, options, processes)
        with one_training(Path(out)):
            model = _train_better(Path(out), images, recipe, options)
            # all minutes count, also those of the check
            seconds = options.clock() - began
            model.facts |= {"minutes": round(seconds / 60, 2), "seconds": round(seconds, 1)}
            model.save(out)
        return share_model(model, options, processes)


def _train_better(out: Path, images: ImageSet, recipe: Recipe, options: TrainOptions) -> Model:
    model = train_in(out, images, recipe, options)
    floor = floor_recipe(recipe)
    quiet = replace(options, callbacks=Callbacks(on_stage=options.callbacks.on_stage), measure=False, began=None)
    with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(MODEL_BYTES)) as folder:
        plain = train_in(Path(folder), images, floor, quiet)
    checks = check_models(images, [plain, model], options)
    options.callbacks.note(_report(recipe.name, *checks))
    if not is_safe(*checks):
        options.callbacks.note(f"recipe {recipe.name} loses too much, so the model is that of recipe {FLOOR}")
        model = train_in(out, images, floor, replace(quiet, measure=options.measure))
    return model


def _report(name: str, floor: CodeCheck, found: CodeCheck) -> str:
    copies, near = ([getattr(check, what) for check in (floor, found)] for what in ("copy_at_10", "near_at_10"))
    return (
        f"check without labels, recipes {FLOOR} and {name}: altered copies found in ten answers {copies[0]:.0%} and "
        f"{copies[1]:.0%}, answers similar by feature {near[0]:.0%} and {near[1]:.0%}"
    )


def floor_recipe(recipe: Recipe) -> Recipe:
    """Return recipe `pq` with the backbone, input, code lengths and seed of another recipe."""
    floor = load_recipe(FLOOR)
    return replace(
        floor,
        input=recipe.input,
        backbone=recipe.backbone,
        quantizer=floor.quantizer.with_bits(*recipe.quantizer.lengths),
        train=replace(floor.train, precision=recipe.train.precision, seed=recipe.train.seed),
    )


def check_models(images: ImageSet, models: list[Model], options: TrainOptions) -> list[CodeCheck]:
    """Check models of one frozen backbone by altered copies of pictures that are spread over the collection."""
    first = models[0]
    recipe = replace(first.config, train=replace(first.config.train, cached_views=0))
    device = next(first.network.parameters()).device
    precision = resolve_precision(recipe.train.precision, device.type)  # as in training, so that its features are found
    extractor = FeatureExtractor(recipe, first.network.backbone.eval(), precision)
    features = cached_features(
        images, extractor, first.network.feature_dim, options.callbacks.stage("features", len(images))
    )
    done = options.callbacks.stage("comparing codes", 1 + len(models))
    chosen = evenly_spaced(len(features.array), QUERIES)
    pixels = load_pixels(images, recipe.input.size, positions=features.kept[chosen])
    readable = np.isin(features.kept[chosen], pixels.kept)
    copies = describe_copies(extractor, pixels.array)
    done(1)
    checks: list[CodeCheck] = []
    for model in models:
        checks.append(check_codes(model, features.array[:, 0], copies, chosen[readable]))
        done(1 + len(checks))
    return checks


@torch.no_grad()
def describe_copies(extractor: FeatureExtractor, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute features (Q, F) of an altered copy of each picture (Q, 3, S, S); the copies are always the same."""
    generator = torch.Generator(extractor.device).manual_seed(0)
    found = []
    for batch in torch.split(torch.from_numpy(np.ascontiguousarray(pixels)), 16):
        views = make_views(batch.to(extractor.device), COPY, extractor.recipe.input, generator)
        found.append(extractor.backbone(views).float().cpu().numpy())
    return np.concatenate(found)
