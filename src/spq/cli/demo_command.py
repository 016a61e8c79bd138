"""`spq demo`: train, index, search and measure, on the shipped sample or on the user's own pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spq.cli.describe import counted, listed
from spq.cli.options import SEED, AsJson, Threads
from spq.cli.output import note, show
from spq.cli.stopping import when_stopped
from spq.common.files import Replacing, naming
from spq.config import load_recipe
from spq.errors import ConfigError, DataError

if TYPE_CHECKING:
    from spq.data.image_set import ImageSet
    from spq.data.protocols import Protocol
    from spq.index.image_index import ImageIndex
    from spq.model.model import Model

BITS = 64
ANSWERS = 8
SIDE_OF_SAMPLE, SIDE_OF_PHOTOS = 28, 64  # pixels of the network's input
MARK = "demo.json"  # a folder with this file is the output of an earlier demo


@when_stopped("the demo is not finished, the same command starts it again")
def demo(
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="Your pictures. Default: the sample of spq.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for model, index and contact sheet.")] = Path("demo-out"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of training.")] = 2.0,
    seed: Annotated[int, SEED] = 0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train, index, search and measure, offline and in minutes.

    Example: spq demo photos/ --minutes 5
    """
    facts = run_demo(folder, out, minutes, seed, note)
    if as_json:
        print(json.dumps(facts))
    elif "rows" in facts:
        show(_table(facts))


def run_demo(folder: str | None, out: Path, minutes: float, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, index, search and measure. Writes model, index, contact sheet and report to `out`; returns the report.

    Raises:
        ConfigError: `out` holds files that are not from an earlier demo. DataError: too few readable pictures.
    """
    from spq.data.open import open_images
    from spq.index.image_index import ImageIndex

    gallery = open_images(folder or "sample:train")
    new = _prepare(out)
    say(listed("note", gallery.remarks))
    say(f"1/3  training on {counted(len(gallery), 'picture')} for {counted(minutes, 'minute')}, without labels")
    try:
        model = _train(gallery, out / "model", minutes, seed, SIDE_OF_PHOTOS if folder else SIDE_OF_SAMPLE)
    except DataError:
        if new:
            shutil.rmtree(out)
        raise
    say(f"2/3  indexing with {BITS // 8} bytes for each picture")
    with ImageIndex.build(out / "index", model, gallery) as index:
        facts: dict[str, Any] = {"out": str(out), "images": len(index), "bits": BITS, **_measured(model, folder, say)}
        _contact_sheet(index, gallery, None if folder else open_images("sample:test"), out, seed)
    with Replacing(out / MARK) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    say(f"view     {out / 'answers.html'}\nsearch   spq search {out / 'index'} PICTURE")
    return facts


def _table(facts: dict[str, Any]) -> str:
    """The measured mAP of spq and of other codes."""
    title = f"mAP@{facts['map_at']} of {facts['queries']} new pictures, {BITS // 8} bytes each, learned without labels:"
    return "\n".join([title, *(f"  {name:12s}  {value:.3f}" for name, value in facts["rows"].items())])


def _prepare(out: Path) -> bool:
    """Make an empty folder for the demo; returns whether `out` is new."""
    from spq.cli.checks import check_folder

    check_folder("--out", out)
    new = not out.exists()
    if not new and not (out / MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} holds other files; give a new folder")
    for part in ("model", "index"):  # of an earlier demo
        shutil.rmtree(out / part, ignore_errors=True)
    out.mkdir(exist_ok=True)
    with naming(out / MARK):
        (out / MARK).write_text("{}\n", "utf-8")
    return new


def _train(gallery: ImageSet, out: Path, minutes: float, seed: int, side: int) -> Model:
    from spq.api import with_options
    from spq.cli.progress import TrainingBar
    from spq.training.train import train

    recipe = with_options(load_recipe("fast"), bits=BITS, minutes=minutes, seed=seed, image_size=side)
    with TrainingBar() as bar:
        return train(gallery, recipe, out, on_stage=bar.stage, on_status=bar.update)


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
    write_html(
        out / "answers.html", rows, f"{counted(len(index), 'picture')}, {BITS // 8} bytes each, learned without labels"
    )
    draw_png(rows).save(out / "answers.png")


def _choose(gallery: ImageSet, queries: ImageSet | None, index: ImageIndex, seed: int) -> list[tuple[ImageSet, int]]:
    """Query pictures: one new picture per class of the sample, or eight of the user's readable pictures."""
    import numpy as np

    rng = np.random.default_rng(seed)
    if queries is not None and queries.labels is not None:
        return [
            (queries, int(rng.choice(np.flatnonzero(queries.labels == c)))) for c in range(len(queries.class_names))
        ]
    unreadable = {path for path, _ in index.store.unreadable()}
    readable = [position for position, path in enumerate(gallery.ids) if path not in unreadable]
    return [(gallery, int(position)) for position in sorted(rng.choice(readable, min(8, len(readable)), replace=False))]


def _measured(model: Model, folder: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    """mAP on the sample, with 500 new pictures as queries and 5,000 in the gallery; the user's pictures have no labels."""
    facts: dict[str, Any] = {"minutes": model.facts["minutes"], "health": model.facts["health"]}
    if folder:
        say("3/3  searching")
        return facts
    from spq.data.protocols import custom_protocol
    from spq.evaluation.evaluate import evaluate

    say("3/3  searching, and measuring in comparison with raw pixels and random codes")
    protocol = custom_protocol("sample:train", "sample:test", 100)
    report = evaluate(model, protocol).to_dict()
    rows = {**_classic(protocol, seed=0), "spq": report["map"]}
    return facts | {key: report[key] for key in ("map_at", "map", "queries", "distance")} | {"rows": rows}


def _classic(protocol: Protocol, seed: int) -> dict[str, float]:
    """mAP of codes of the same length without training."""
    import numpy as np

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
