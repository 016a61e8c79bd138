"""The command line: one function per command. Data on stdout, progress and errors on stderr; heavy imports are lazy."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from spq import __version__
from spq.errors import ConfigError, SPQError

app = typer.Typer(
    name="spq",
    help="Search your own pictures by picture, with 2-8 byte codes learned from them without a label.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SOURCES = "A folder, *.parquet, *.tar, cifar10:train, fashion-mnist:train or sample:train."
PROTOCOLS = "cifar10-spq, cifar10-i, cifar10-ii, flickr25k or nuswide21."

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Images = Annotated[str, typer.Argument(metavar="IMAGES", help=SOURCES)]
Seed = typer.Option(min=0, max=2**23 - 1, help="Same seed and machine, same result.")


def main() -> None:
    """The entry point of `spq`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit status: 0, 1 (failed), 2 (usage), 130 (interrupted)."""
    try:
        status = app(arguments or ["--help"], prog_name="spq", standalone_mode=False)
        sys.stdout.flush()  # a reader that has gone is noticed here, not while Python shuts down
    except SPQError as error:
        return _fail(str(error), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail("out of memory; give fewer pictures, or a smaller --image-size", 1)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}", 1)
    except Exception as error:
        from spq.app.describe import explanation

        told = explanation(error)
        if not told:
            raise  # a mistake of ours is shown whole
        return _fail(*told)
    return status if isinstance(status, int) else 0


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"spq {__version__}")
        raise typer.Exit


@app.command()
def train(
    images: Images,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    bits: Annotated[int | None, typer.Option(help="Length of a code: 16, 32 or 64.")] = None,
    recipe: Annotated[str, typer.Option(help="fast, paper or a FILE.toml.")] = "fast",
    backbone: Annotated[str | None, typer.Option(help="timm/NAME in place of the recipe's backbone.")] = None,
    weights: Annotated[str | None, typer.Option(help="Local .safetensors to start the backbone from.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Budget in passes over the pictures.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes instead.")] = None,
    seed: Annotated[int | None, Seed] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[Literal["auto", "fp32", "bf16"] | None, typer.Option(help="In place of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write OUT/tensorboard.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model on pictures, without labels.

    Example: spq train photos/ --out photos.spq --bits 64 --minutes 30
    """
    from spq.app.checks import check_model_out, check_tensorboard
    from spq.config import load_recipe
    from spq.data.sources import open_images

    config = load_recipe(recipe)
    check_model_out(out, resume)
    if tensorboard:
        check_tensorboard()
    source = open_images(images)
    from spq.api import with_options  # torch, from here on
    from spq.app.describe import training_text
    from spq.app.progress import TrainingBar
    from spq.learning.health import Health
    from spq.learning.train import resolve_device
    from spq.learning.train import train as run_training

    config = with_options(
        config, bits=bits, image_size=image_size, epochs=epochs, minutes=minutes, seed=seed,
        precision=precision, backbone=backbone, weights=weights,
    )  # fmt: skip
    resolve_device(device)
    try:
        with TrainingBar(len(source)) as bar:
            model = run_training(
                source, config, out, resume=resume, device=device, tensorboard=tensorboard,
                on_load=bar.loading, on_status=bar.update,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not (out / "checkpoints" / "last.pt").exists():
            raise
        raise typer.Exit(_fail(f"stopped; go on with: spq train {images} --out {out} --resume", 130)) from None
    facts = {"model": str(out), "hash": model.hash, "bits": model.config.quantizer.bits, **model.training}
    facts["seconds"] = round(60 * facts["minutes"], 1)
    if facts["unreadable"]:
        _note(f"{facts['unreadable']} pictures could not be read and were left out")
    if warning := Health(**facts["health"]).warning:
        _note(f"warning: {warning}")
    print(json.dumps(facts) if as_json else training_text(facts))


@app.command()
def index(
    images: Images,
    model: Annotated[Path, typer.Option(help="Model folder.")],
    out: Annotated[Path, typer.Option(help="Index folder to write or to bring up to date.")],
    as_json: Json = False,
) -> None:
    """Encode pictures into an index, or bring an index up to date: adds, re-encodes, drops.

    Example: spq index photos/ --model photos.spq --out photos.index
    """
    from spq.app.checks import check_folder
    from spq.app.describe import failures_text, sync_text
    from spq.app.progress import counting
    from spq.data.sources import open_images
    from spq.index.image_index import ImageIndex
    from spq.index.store import read_manifest

    source = open_images(images)
    check_folder("--out", out)
    if out.is_dir() and any(out.iterdir()):
        read_manifest(out)  # says what is wrong with OUT before the model is loaded
    from spq.api import SPQ

    loaded = SPQ.load(model)
    with counting("encoding") as progress, ImageIndex.build(out, loaded, source, progress) as opened:
        report = opened.last_sync
        facts = {"index": str(out), **opened.info()}
    if as_json:
        print(json.dumps({**facts, **asdict(report)}))
    else:
        _note(failures_text(report))
        print(sync_text(facts, report))


@app.command()
def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Index folder.")],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The query picture; - reads it from stdin.")],
    top: Annotated[int, typer.Option(min=1, help="How many answers.")] = 10,
    html: Annotated[Path | None, typer.Option(help="Also write a contact sheet.")] = None,
    as_json: Json = False,
) -> None:
    """Find the pictures most like IMAGE.

    Example: spq search photos.index query.jpg --top 5
    """
    from spq.app.describe import printable
    from spq.data.images import load_image
    from spq.index.image_index import ImageIndex

    with ImageIndex.open(index) as opened:
        query = sys.stdin.buffer.read() if image == "-" else image
        picture = load_image(query, 256)  # a wrong path is said before the model is loaded
        hits = opened.search(query, top)
        if html:
            from spq.app.contact_sheet import Row, answers, write_html
            from spq.data.sources import open_images

            found = answers(open_images(opened.store.manifest.source), hits)
            title = f"{len(opened):,} pictures, {opened.store.manifest.bits} bits each"
            write_html(html, [Row(picture, "query" if image == "-" else Path(image).name, found)], title)
    for hit in hits:
        print(json.dumps(asdict(hit)) if as_json else f"{hit.rank:4d}  {hit.distance:10.4f}  {printable(hit.path)}")


@app.command()
def dupes(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Index folder.")],
    threshold: Annotated[float | None, typer.Option(help="Code distance of `similar`; else calibrated.")] = None,
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="Share of altered copies it is calibrated to find.")
    ] = 0.9,
    csv: Annotated[Path | None, typer.Option(help="Also write a table of all groups.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a contact sheet.")] = None,
    seed: Annotated[int, Seed] = 0,
    as_json: Json = False,
) -> None:
    """Find identical files, re-encoded, edited and similar pictures. It reports, and deletes nothing.

    Example: spq dupes photos.index --csv copies.csv --html copies.html
    """
    from spq.app import dupes_report
    from spq.app.checks import check_file
    from spq.app.describe import listed
    from spq.app.progress import counting
    from spq.data.sources import open_images
    from spq.index.dupes import find_duplicates
    from spq.index.image_index import ImageIndex

    if threshold is not None and not 0 <= threshold < float("inf"):
        raise ConfigError(f"--threshold {threshold:g} is no distance; give 0 or more")
    check_file("--csv", csv)
    check_file("--html", html)
    with ImageIndex.open(index) as opened, counting("comparing") as progress:
        images = open_images(opened.store.manifest.source)
        report = find_duplicates(opened, images, threshold=threshold, recall=recall, seed=seed, progress=progress)
    if csv:
        dupes_report.write_csv(csv, report)
    if html:
        dupes_report.write_html(html, report, images)
    if as_json:
        print(json.dumps({"index": str(index), **asdict(report)}))
    else:
        _note(listed("left out", report.left_out))
        print(dupes_report.text(report))


@app.command("eval")
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")],
    protocol: Annotated[str | None, typer.Option(help=PROTOCOLS)] = None,
    gallery: Annotated[str | None, typer.Option(help="Any labelled collection, with --queries.")] = None,
    queries: Annotated[str | None, typer.Option(help="Another one with the same classes.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of flickr25k or nuswide21.")] = None,
    at: Annotated[int | None, typer.Option(min=1, help="The N of mAP@N.")] = None,
    distance: Annotated[Literal["l2", "sqeuclidean"] | None, typer.Option(help="In place of the model's.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Classic methods beside it.")] = False,
    plots: Annotated[Path | None, typer.Option(help="Folder for PR and P@N plots.")] = None,
    as_json: Json = False,
) -> None:
    """Measure retrieval quality under a named protocol, or on any labelled gallery and queries.

    Example: spq eval photos.spq --protocol cifar10-spq --baselines
    """
    if (protocol is None) == (gallery is None) or (gallery is None) != (queries is None):
        raise ConfigError("give either --protocol NAME, or --gallery and --queries; see spq eval --help")
    from spq.app.checks import check_folder
    from spq.data.protocols import custom_protocol, load_protocol

    check_folder("--plots", plots)
    chosen = load_protocol(protocol, root=root) if protocol else custom_protocol(str(gallery), str(queries))
    from spq.api import SPQ
    from spq.evaluation.evaluate import evaluate as run_evaluation

    loaded = SPQ.load(model)
    report = run_evaluation(loaded, chosen, at=at, distance=distance, baselines=baselines, progress=_note)
    if plots:
        for path in report.save_plots(plots):
            _note(f"wrote {path}")
    print(json.dumps(report.to_dict()) if as_json else report.table())


@app.command()
def info(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A model or an index folder.")], as_json: Json = False
) -> None:
    """Say what a model or an index is.

    Example: spq info photos.index --json
    """
    from spq.app.describe import aligned, facts_of

    facts = facts_of(path)
    print(json.dumps(facts) if as_json else aligned(facts))


@app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An index folder; for onnx also a model folder.")],
    to: Annotated[Literal["faiss", "codes", "onnx"], typer.Option(help="faiss, codes (.npz, .parquet) or onnx.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    as_json: Json = False,
) -> None:
    """Hand over to other tools: a FAISS index, codes with their codebooks, or the model as ONNX.

    Example: spq export photos.index --to faiss --out photos.faiss
    """
    from spq.app.export import export as run_export
    from spq.app.export import export_text

    facts = run_export(path, to, out)
    print(json.dumps({"out": str(out), **facts}) if as_json else export_text(to, out, facts))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do and what is missing.

    Example: spq doctor
    """
    from spq.app.describe import aligned
    from spq.app.doctor import examine

    facts = examine()
    print(json.dumps(facts) if as_json else aligned(facts))


@app.command()
def demo(
    folder: Annotated[str | None, typer.Argument(metavar="[FOLDER]", help="Your pictures; else a sample.")] = None,
    out: Annotated[Path, typer.Option(help="Where model, index and contact sheet go.")] = Path("demo-out"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of training.")] = 2.0,
    seed: Annotated[int, Seed] = 0,
    as_json: Json = False,
) -> None:
    """Go the whole way, from pictures to answers, offline and in minutes.

    Example: spq demo photos/ --minutes 5
    """
    from spq.app.demo import run_demo, table

    facts = run_demo(folder, out, minutes, seed, _note)
    if as_json:
        print(json.dumps(facts))
    elif "rows" in facts:
        print(table(facts))


def _note(text: str) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> int:
    from spq.app.describe import printable

    _note(f"spq: {printable(message)}")
    return status
