"""The command line: one function per command. Data goes to stdout, progress and errors to stderr; heavy imports are lazy."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spq import __version__
from spq.errors import ConfigError, ModelError, SPQError

if TYPE_CHECKING:

    from spq.index.image_index import SyncReport

app = typer.Typer(
    name="spq",
    help="Search your own pictures by picture, with 2-8 byte codes learned from them without a label.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
ImagesArgument = Annotated[
    str, typer.Argument(metavar="IMAGES", help="A folder, *.parquet, *.tar, cifar10:train, fashion-mnist:train or sample:train.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def main() -> None:
    """The entry point of `spq`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit status: 0, 1 (failed), 2 (usage), 130 (interrupted)."""
    try:
        app(arguments)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except SPQError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError) as error:
        place = f" {error.filename}" if getattr(error, "filename", None) else ""
        return _fail(f"{getattr(error, 'strerror', None) or 'out of memory'}:{place}" if place else str(error) or "out of memory", 1)
    return 0


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"spq {__version__}")
        raise typer.Exit


@app.command()
def train(
    images: ImagesArgument,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    bits: Annotated[int | None, typer.Option(help="Length of a code: 16, 32 or 64.")] = None,
    recipe: Annotated[str, typer.Option(help="fast, paper or a FILE.toml.")] = "fast",
    backbone: Annotated[str | None, typer.Option(help="timm/NAME in place of the recipe's backbone.")] = None,
    weights: Annotated[str | None, typer.Option(help="Local .safetensors to start the backbone from.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Budget in passes over the pictures.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes instead.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and machine, same weights.")] = None,
    device: Device = "auto",
    precision: Annotated[Literal["auto", "fp32", "bf16"] | None, typer.Option(help="In place of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write OUT/tensorboard.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model on pictures, without labels.

    Example: spq train photos/ --out photos.spq --bits 64 --minutes 30
    """
    from spq.api import with_options
    from spq.app.progress import TrainingBar
    from spq.config import load_recipe

    config = with_options(
        load_recipe(recipe), bits=bits, image_size=image_size, epochs=epochs, minutes=minutes, seed=seed,
        precision=precision, backbone=backbone, weights=weights,
    )  # fmt: skip
    _check_model_out(out, resume)
    from spq.data.sources import open_images

    source = open_images(images)
    from spq.learning.train import train as run_training

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
    if as_json:
        print(json.dumps(facts))
    else:
        _say_health(facts)


@app.command()
def index(
    images: ImagesArgument,
    model: Annotated[Path, typer.Option(help="Model folder.")],
    out: Annotated[Path, typer.Option(help="Index folder to write or to bring up to date.")],
    as_json: Json = False,
) -> None:
    """Encode pictures into an index, or bring an index up to date: adds, re-encodes, drops.

    Example: spq index photos/ --model photos.spq --out photos.index
    """
    from spq.app.progress import counting
    from spq.data.sources import open_images
    from spq.index.image_index import ImageIndex
    from spq.index.store import read_manifest

    source = open_images(images)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        read_manifest(out)  # says what is wrong with OUT before the model is loaded
    from spq.api import SPQ

    loaded = SPQ.load(model)
    with counting("encoding") as progress, ImageIndex.build(out, loaded, source, progress) as opened:
        report = opened.last_sync
        facts = {"index": str(out), **opened.info()}
    print(json.dumps({**facts, **asdict(report)}) if as_json else _sync_text(facts, report))


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
    from spq.data.images import load_image
    from spq.index.image_index import ImageIndex

    with ImageIndex.open(index) as opened:
        query = load_image(sys.stdin.buffer.read() if image == "-" else image)
        hits = opened.search(query, top)
        if html:
            from spq.app.contact_sheet import Row, answers, write_html
            from spq.data.sources import open_images

            rows = [Row(query, Path(image).name, answers(open_images(opened.store.manifest.source), hits))]
            write_html(html, rows, f"{len(opened):,} pictures, {opened.store.manifest.bits} bits each")
    for hit in hits:
        line = json.dumps(asdict(hit)) if as_json else f"{hit.rank:4d}  {hit.distance:10.4f}  {hit.path}"
        print(line.encode("utf-8", "replace").decode())  # a file name may hold bytes that are not UTF-8


@app.command("eval")
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")],
    protocol: Annotated[str | None, typer.Option(help="cifar10-spq, cifar10-i, cifar10-ii, flickr25k or nuswide21.")] = None,
    gallery: Annotated[str | None, typer.Option(help="Any labelled collection, with --queries.")] = None,
    queries: Annotated[str | None, typer.Option(help="Another one with the same classes.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of flickr25k or nuswide21.")] = None,
    at: Annotated[int | None, typer.Option(min=1, help="The N of mAP@N.")] = None,
    distance: Annotated[Literal["l2", "sqeuclidean"] | None, typer.Option(help="In place of the model's.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Classic methods beside it.")] = False,
    plots: Annotated[Path | None, typer.Option(help="Folder for PR and P@N plots.")] = None,
    as_json: Json = False,
) -> None:
    """Measure retrieval quality under a named protocol.

    Example: spq eval photos.spq --protocol cifar10-spq --baselines
    """
    if (protocol is None) == (gallery is None) or (gallery is None) != (queries is None):
        raise ConfigError("give either --protocol NAME, or --gallery and --queries")
    from spq.data.protocols import custom_protocol, load_protocol

    chosen = load_protocol(protocol, root=root) if protocol else custom_protocol(str(gallery), str(queries))
    from spq.api import SPQ
    from spq.evaluation.evaluate import evaluate as run_evaluation

    report = run_evaluation(
        SPQ.load(model), chosen, at=at, distance=distance, baselines=baselines, progress=lambda step: _note(f"{step} ...")
    )
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
    facts = _index_facts(path) if (path / "manifest.json").exists() else _model_facts(path)
    print(json.dumps(facts) if as_json else _aligned(facts))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do and what is missing.

    Example: spq doctor
    """
    from spq.app.doctor import examine

    facts = examine()
    print(json.dumps(facts) if as_json else _aligned(facts))


@app.command()
def demo(
    folder: Annotated[str | None, typer.Argument(metavar="[FOLDER]", help="Your own pictures; else the shipped sample.")] = None,
    out: Annotated[Path, typer.Option(help="Where model, index and contact sheet go.")] = Path("demo-out"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of training.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Of training and of the choice of queries.")] = 0,
    as_json: Json = False,
) -> None:
    """Go the whole way, from pictures to answers, offline and in minutes.

    Example: spq demo photos/ --minutes 5
    """
    from spq.app.demo import run_demo

    facts = run_demo(folder, out, minutes, seed, _note)
    if as_json:
        print(json.dumps(facts))


def _check_model_out(out: Path, resume: bool) -> None:
    """Refuse an OUT that training would spoil, before anything is written."""
    if out.is_file():
        raise ConfigError(f"--out {out} is a file; give a folder")
    content = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    known = {"config.json", "model.safetensors", "README.md", "checkpoints", "log.jsonl", "tensorboard"}
    if content - known and "config.json" not in content:
        raise ConfigError(f"--out {out} holds other things ({min(content - known)}); give a new folder")
    if not resume and content & {"config.json", "checkpoints"}:
        raise ConfigError(f"--out {out} holds a training already; add --resume to go on, or give a new folder")
    if resume and not content:
        raise ConfigError(f"nothing to resume in {out}; leave --resume away, or check the path")


def _index_facts(path: Path) -> dict[str, Any]:
    from spq.index.image_index import ImageIndex

    with ImageIndex.open(path) as opened:
        return opened.info()


def _model_facts(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ModelError(f"nothing at {path}; give a model or an index folder")
    from spq.api import SPQ

    model = SPQ.load(path)
    q = model.config.quantizer
    return {
        "kind": "model",
        "images": model.training.get("images"),
        "bits": q.bits,
        "bytes_per_image": q.bytes,
        "distance": q.distance,
        "model": model.hash,
        "recipe": model.config.name,
        "image_size": model.config.input.size,
        "backbone": model.config.backbone.name,
        "codebooks": f"{q.num_codebooks} x {q.codebook_size} x {q.codeword_dim}",
        "training": model.training,
    }


def _say_health(facts: dict[str, Any]) -> None:
    from spq.learning.health import Health

    health = Health(**facts["health"])
    print(f"{facts['model']}: {facts['images']:,} pictures, {facts['epochs']:g} epochs, {facts['minutes']:g} minutes")
    print(f"codewords in use {health.codeword_use:.0%}, entropy of the codes {health.entropy:.0%} of {facts['bits']} bits")
    if facts["unreadable"]:
        _note(f"{facts['unreadable']} pictures could not be read and were left out")
    if health.warning:
        _note(f"warning: {health.warning}")


def _sync_text(facts: dict[str, Any], report: SyncReport) -> str:
    for path, reason in report.failed[:20]:
        _note(f"not indexed: {path}: {reason}")
    if len(report.failed) > 20:
        _note(f"and {len(report.failed) - 20} more")
    parts = [f"{getattr(report, key)} {key}" for key in ("added", "changed", "renamed", "removed", "unchanged")]
    return f"{facts['index']}: {facts['images']:,} pictures at {facts['bits']} bits ({', '.join(parts)}, {len(report.failed)} unreadable)"


def _aligned(facts: dict[str, Any], indent: str = "") -> str:
    width = max(map(len, facts)) if facts else 0
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", _aligned(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key:{width}s}  {value}")
    return "\n".join(lines)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> int:
    _note(f"spq: {message}")
    return status


