"""`spq demo`: train, index, search and measure, on the shipped sample or on the user's own pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spq.errors import ConfigError, DataError

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.data.protocols import Protocol
    from spq.index.image_index import ImageIndex
    from spq.model.model import Model

BITS = 64
ANSWERS = 8
SIDE_OF_SAMPLE, SIDE_OF_PHOTOS = 28, 64  # pixels of the network's input
MARK = "demo.json"  # tells an earlier demo's folder from others


def run_demo(folder: str | None, out: Path, minutes: float, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The whole way. Model, index, contact sheet and report go to `out`; returns the report.

    Raises:
        ConfigError: `out` holds something that is not an earlier demo's. DataError: too few readable pictures.
    """
    from spq.data.open import open_images
    from spq.index.image_index import ImageIndex

    gallery = open_images(folder or "sample:train")
    new = _prepare(out)
    say(f"1/3  training on {len(gallery):,} pictures for {minutes:g} minutes, without labels")
    try:
        model = _train(gallery, out / "model", minutes, seed, SIDE_OF_PHOTOS if folder else SIDE_OF_SAMPLE)
    except DataError:
        if new:
            shutil.rmtree(out)
        raise
    say(f"2/3  indexing at {BITS // 8} bytes a picture")
    with ImageIndex.build(out / "index", model, gallery) as index:
        facts: dict[str, Any] = {"out": str(out), "images": len(index), "bits": BITS, **_measured(model, folder, say)}
        _contact_sheet(index, gallery, None if folder else open_images("sample:test"), out, seed)
    (out / MARK).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    say(f"look at  {out / 'answers.html'}\nsearch   spq search {out / 'index'} PICTURE")
    return facts


def table(facts: dict[str, Any]) -> str:
    """The measurement in a few lines."""
    title = (
        f"mAP@{facts['map_at']} of {facts['queries']} new pictures, {BITS // 8} bytes each, learned without a label:"
    )
    return "\n".join([title, *(f"  {name:12s}  {value:.3f}" for name, value in facts["rows"].items())])


def _prepare(out: Path) -> bool:
    """Make room for a demo in `out`; whether it was new."""
    new = not out.exists()
    if not new and not (out / MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} holds other things; give a new folder")
    for part in ("model", "index"):  # an earlier demo's
        shutil.rmtree(out / part, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("{}\n", "utf-8")
    return new


def _train(gallery: ImageSet, out: Path, minutes: float, seed: int, side: int) -> Model:
    from spq.api import with_options
    from spq.cli.progress import TrainingBar
    from spq.config import load_recipe
    from spq.training.train import train

    recipe = with_options(load_recipe("fast"), bits=BITS, minutes=minutes, seed=seed, image_size=side)
    with TrainingBar(len(gallery)) as bar:
        return train(gallery, recipe, out, on_load=bar.loading, on_status=bar.update)


def _contact_sheet(index: ImageIndex, gallery: ImageSet, queries: ImageSet | None, out: Path, seed: int) -> None:
    from spq.cli.reports.contact_sheet import Row, answers, draw_png, write_html

    rows = []
    for images, position in _choose(gallery, queries, index, seed):
        label = int(images.labels[position]) if queries is not None and images.labels is not None else None
        image = images.image(position, 256)
        hits = index.search(image, ANSWERS + 1)
        hits = [hit for hit in hits if queries is not None or hit.path != images.ids[position]][:ANSWERS]
        caption = images.ids[position] if label is None else images.class_names[label]
        rows.append(Row(image, caption, answers(gallery, hits, label)))
    write_html(out / "answers.html", rows, f"{len(index):,} pictures, {BITS // 8} bytes each, learned without labels")
    draw_png(rows).save(out / "answers.png")


def _choose(gallery: ImageSet, queries: ImageSet | None, index: ImageIndex, seed: int) -> list[tuple[ImageSet, int]]:
    """One new picture per class of the sample, or eight readable ones of the user's own."""
    rng = np.random.default_rng(seed)
    if queries is not None and queries.labels is not None:
        return [
            (queries, int(rng.choice(np.flatnonzero(queries.labels == c)))) for c in range(len(queries.class_names))
        ]
    unreadable = {path for path, _ in index.store.unreadable()}
    readable = [position for position, path in enumerate(gallery.ids) if path not in unreadable]
    return [(gallery, int(position)) for position in sorted(rng.choice(readable, min(8, len(readable)), replace=False))]


def _measured(model: Model, folder: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    """The sample against labels that training never saw, 500 new pictures asking 5,000; the user's own have none."""
    facts: dict[str, Any] = {"minutes": model.training["minutes"], "health": model.training["health"]}
    if folder:
        say("3/3  searching")
        return facts
    from spq.data.protocols import custom_protocol
    from spq.evaluation.evaluate import evaluate

    say("3/3  searching, and measuring beside raw pixels and chance")
    protocol = custom_protocol("sample:train", "sample:test", 100)
    report = evaluate(model, protocol).to_dict()
    rows = {**_classic(protocol, seed=0), "spq": report["map"]}
    return facts | {key: report[key] for key in ("map_at", "map", "queries", "distance")} | {"rows": rows}


def _classic(protocol: Protocol, seed: int) -> dict[str, float]:
    """mAP of codes of the same length that nobody trained."""
    from spq.data.decode import load_pixels
    from spq.evaluation.baselines import product_quantization, random_codes
    from spq.evaluation.metrics import mean_average_precision, relevance

    gallery, queries = (
        load_pixels(part, SIDE_OF_SAMPLE).array.reshape(len(part), -1) for part in (protocol.gallery, protocol.queries)
    )
    rows = {}
    for name, fit in (("random codes", random_codes), ("raw-pixel PQ", product_quantization)):
        found = fit(gallery, BITS, np.random.default_rng(seed))(queries, protocol.map_at)
        assert protocol.queries.labels is not None
        assert protocol.gallery.labels is not None
        rows[name] = mean_average_precision(relevance(protocol.queries.labels, protocol.gallery.labels, found))
    return rows
