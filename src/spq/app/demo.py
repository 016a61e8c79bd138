"""`spq demo`: train, index, search and measure, on the shipped sample or on the user's own pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spq.errors import ConfigError

if TYPE_CHECKING:
    from spq.data.sources import ImageSet
    from spq.index.image_index import ImageIndex
    from spq.model.artifact import Model

BITS = 64
ANSWERS = 8


def run_demo(folder: str | None, out: Path, minutes: float, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The whole way. Model, index, contact sheet and report go to `out`; returns the report.

    Raises:
        ConfigError: `out` holds something that is not an earlier demo's.
    """
    import shutil

    from spq.api import with_options
    from spq.app.progress import TrainingBar
    from spq.config import load_recipe
    from spq.data.sources import open_images
    from spq.index.image_index import ImageIndex
    from spq.learning.train import train

    gallery = open_images(folder or "sample:train")
    if out.exists() and not (out / "demo.json").exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"--out {out} holds other things; give a new folder")
    for part in ("model", "index"):  # an earlier demo's
        shutil.rmtree(out / part, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "demo.json").write_text("{}\n", "utf-8")

    recipe = with_options(load_recipe("fast"), bits=BITS, minutes=minutes, seed=seed, image_size=64 if folder else 28)
    say(f"1/3  training on {len(gallery):,} pictures for {minutes:g} minutes, without labels")
    with TrainingBar(len(gallery)) as bar:
        model = train(gallery, recipe, out / "model", on_load=bar.loading, on_status=bar.update)
    say(f"2/3  indexing at {BITS // 8} bytes a picture")
    with ImageIndex.build(out / "index", model, gallery) as index:
        say("3/3  searching")
        _contact_sheet(index, gallery, None if folder else open_images("sample:test"), out, seed)
        facts: dict[str, Any] = {"out": str(out), "images": len(index), "bits": BITS, "minutes": model.training["minutes"]}
    if folder is None:
        facts.update(_measure(model))
        print(_table(facts))
    (out / "demo.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    say(f"look at  {out / 'answers.html'}")
    say(f"search   spq search {out / 'index'} PICTURE")
    return facts


def _contact_sheet(index: ImageIndex, gallery: ImageSet, queries: ImageSet | None, out: Path, seed: int) -> None:
    from spq.app.contact_sheet import Row, answers, draw_png, write_html

    rows = []
    for images, position in _choose(gallery, queries, index, seed):
        label = int(images.labels[position]) if queries is not None and images.labels is not None else None
        image = images.image(position, 256)
        hits = index.search(image, ANSWERS + 1)
        hits = [hit for hit in hits if queries is not None or hit.path != images.ids[position]][:ANSWERS]
        caption = images.ids[position] if label is None else images.class_names[label]
        rows.append(Row(image, caption, answers(gallery, hits, label)))
    write_html(out / "answers.html", rows, f"{len(index):,} pictures, {BITS // 8} bytes each, learned without labels")
    draw_png(rows).save(out / "answers.png", optimize=True)


def _choose(gallery: ImageSet, queries: ImageSet | None, index: ImageIndex, seed: int) -> list[tuple[ImageSet, int]]:
    """One new picture per class of the sample, or eight readable ones of the user's own."""
    rng = np.random.default_rng(seed)
    if queries is not None and queries.labels is not None:
        return [(queries, int(rng.choice(np.flatnonzero(queries.labels == c)))) for c in range(len(queries.class_names))]
    unreadable = {path for path, _ in index.store.unreadable()}
    readable = [position for position, path in enumerate(gallery.ids) if path not in unreadable]
    return [(gallery, int(position)) for position in sorted(rng.choice(readable, min(8, len(readable)), replace=False))]


def _measure(model: Model) -> dict[str, Any]:
    """Against labels that training never saw: 500 new pictures ask the 5,000."""
    from spq.data.protocols import custom_protocol
    from spq.evaluation.evaluate import evaluate

    protocol = replace(custom_protocol("sample:train", "sample:test", 100), name="sample")
    report = evaluate(model, protocol, baselines=True)
    return {"map_at": report.map_at, "map": report.map, "queries": report.queries, "rows": report.rows}


def _table(facts: dict[str, Any]) -> str:
    wanted = ("random codes", "raw-pixel PQ", "SPQ (l2)", "SPQ (sqeuclidean)")
    names = {"SPQ (l2)": "spq", "SPQ (sqeuclidean)": "spq", "raw-pixel PQ": "raw pixels"}
    lines = [f"mAP@{facts['map_at']} of {facts['queries']} new pictures, {BITS // 8} bytes a picture, no label seen in training:"]
    lines += [f"  {names.get(name, name):14s} {facts['rows'][name]:.3f}" for name in wanted if name in facts["rows"]]
    return "\n".join(lines)
