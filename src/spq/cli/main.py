"""The command line: one function per command. Data on stdout, progress and errors on stderr; heavy imports are lazy."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from spq import __version__
from spq.config import Distance
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
WHERE = "Among these: path, width, height, size, time, label or your metadata; = != < <= > >= ~ in and or not."
PROTOCOLS = "cifar10-spq, cifar10-i, cifar10-ii, flickr25k or nuswide21."
RUNTIME = "web: search by pictures of one's own, too; the .tgz of npm pack onnxruntime-web, or fetch it."
METHODS = "How codes are looked through; all but ivf are exact, auto takes the quickest exact one."
RECALL = "Let ivf look into as few lists as find this share of the 100 nearest to its own codes; new pictures find a bit less."
FOLD = "One answer for pictures of the same code; at 16 bits many different ones share one."
WEIGHTS = "One for each IMAGE, then each --id, then each --not; else 1, and 0.3 for --not."

Method = Literal["auto", "exact", "bucket", "fast", "ivf"]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Images = Annotated[str, typer.Argument(metavar="IMAGES", help=SOURCES)]
Seed = typer.Option(min=0, max=2**31 - 1, help="Same seed and machine, same result.")


def main() -> None:
    """The entry point of `spq`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit status: 0, 1 (failed), 2 (usage), 130 (interrupted)."""
    try:
        status = app(arguments or ["--help"], prog_name="spq", standalone_mode=False)
        sys.stdout.flush()  # a reader that has gone is noticed here, not while Python shuts down
    except SPQError as error:
        from spq.cli.describe import as_options

        return _fail(as_options(str(error), _options()), error.exit_status)
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
        from spq.cli.describe import explanation

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
    bits: Annotated[str | None, typer.Option(help="Length of a code, or 16,32,64: one model for all these.")] = None,
    recipe: Annotated[str, typer.Option(help="spq, fast, paper, gpu, head, finetune or a FILE.toml.")] = "spq",
    backbone: Annotated[str | None, typer.Option(help="timm/NAME in place of the recipe's backbone.")] = None,
    weights: Annotated[str | None, typer.Option(help="Local .safetensors to start the backbone from.")] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Train head and codebooks alone, on cached features.")
    ] = False,
    start: Annotated[Path | None, typer.Option(help="Model folder whose weights training starts from.")] = None,
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

    Example: spq train photos/ --out photos.spq --recipe head --backbone timm/resnet50
    """
    from spq.cli.checks import check_model_out, check_start, check_tensorboard, parse_lengths, what_resume_ignores
    from spq.cli.describe import listed
    from spq.config import load_recipe
    from spq.data.open import open_images

    config = load_recipe(recipe)
    lengths = parse_lengths(bits)
    check_start(start, bits=bits, backbone=backbone, weights=weights, image_size=image_size)
    check_model_out(out, resume)
    if tensorboard:
        check_tensorboard()
    source = open_images(images)
    _note(listed("left out", [*source.unlisted, *source.unopened]))
    from spq.api import SPQ, with_options  # torch, from here on
    from spq.cli.describe import training_text
    from spq.cli.progress import TrainingBar
    from spq.model.device import resolve_device
    from spq.training.health import Health
    from spq.training.train import train as run_training

    options: dict[str, Any] = {
        "bits": lengths, "image_size": image_size, "epochs": epochs, "minutes": minutes, "seed": seed,
        "precision": precision, "backbone": backbone, "weights": weights, "frozen": frozen or None,
    }  # fmt: skip
    config = with_options(config, **options)
    _note(what_resume_ignores(out, options) if resume else "")
    resolve_device(device)
    started = SPQ.load(start) if start else None
    try:
        with TrainingBar(len(source)) as bar:
            model = run_training(
                source, config, out, resume=resume, device=device, tensorboard=tensorboard, start=started,
                on_load=bar.loading, on_status=bar.update, on_note=_note,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not (out / "checkpoints" / "last.pt").exists():
            raise
        raise typer.Exit(_fail(f"stopped; go on with: spq train {images} --out {out} --resume", 130)) from None
    facts = {"model": str(out), "hash": model.hash, "bits": model.config.quantizer.bits, **model.training}
    facts["seconds"] = round(60 * facts["minutes"], 1)
    if facts["unreadable"]:
        _note(f"unreadable and left out: {facts['unreadable']:,} of {facts['images'] + facts['unreadable']:,} pictures")
    if warning := Health(**facts["health"]).warning:
        _note(f"warning: {warning}")
    print(json.dumps(facts) if as_json else training_text(facts))


@app.command()
def index(
    out: Annotated[Path, typer.Option(help="Index folder to write or to bring up to date.")],
    images: Annotated[str | None, typer.Argument(metavar="IMAGES", help=SOURCES)] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder; needed with IMAGES.")] = None,
    bits: Annotated[int | None, typer.Option(help="One of the model's shorter codes; spq info lists them.")] = None,
    keep_missing: Annotated[bool, typer.Option("--keep-missing", help="Keep pictures whose files vanished.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Shrink OUT to what it holds.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check all of OUT; exit status 1 at a fault.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another process writes to OUT.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Json = False,
) -> None:
    """Encode pictures into an index, or bring an index up to date: adds, re-encodes, drops.

    What lies below a folder that cannot be listed is kept. Without IMAGES, only compact or verify.

    Example: spq index photos/ --model photos.spq --out photos.index

    Example: spq index --verify --out photos.index
    """
    if (images is None) != (model is None) or (images is None and not (compact or verify)):
        raise ConfigError("give IMAGES with --model MODEL, or --compact or --verify without; see spq index --help")
    from spq.cli import upkeep
    from spq.cli.describe import compact_text, failures_text, sync_text, verify_text

    try:
        report, facts = (
            upkeep.bring_up_to_date(images, model, out, bits, device, keep_missing, wait)
            if images and model
            else (None, {})
        )
    except KeyboardInterrupt:
        raise typer.Exit(_fail("stopped; what was encoded is kept, and the same command goes on", 130)) from None
    sizes, facts = upkeep.compact(out, wait) if compact else (None, facts)
    faults, facts = upkeep.verify(out, facts) if verify else (None, facts)
    if as_json:
        shown = {"index": str(out)} | ({} if faults else facts) | (asdict(report) if report and not faults else {})
        print(json.dumps(shown | ({"bytes": sizes} if sizes else {}) | ({"faults": faults} if verify else {})))
    else:
        if report:
            _note(report.note)
            _note(failures_text(report))
            print(sync_text({"index": str(out), **facts}, report))
        if sizes:
            print(compact_text(out, sizes))
        if faults is not None:
            print(verify_text(out, faults))
    if faults:
        raise typer.Exit(1)


@app.command()
def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Index folder.")],
    images: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]...", help="To be like; - is stdin.")] = None,
    id_: Annotated[list[int] | None, typer.Option("--id", help="More like this item; itself left out.")] = None,
    not_: Annotated[list[str] | None, typer.Option("--not", metavar="IMAGE", help="Not to be like.")] = None,
    weights: Annotated[str | None, typer.Option(metavar="W,...", help=WEIGHTS)] = None,
    box: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="Only this region of IMAGE, in pixels.")] = None,
    where: Annotated[str | None, typer.Option(metavar="EXPR", help=WHERE)] = None,
    max_distance: Annotated[float | None, typer.Option(help="Leave out what is farther.")] = None,
    fold: Annotated[bool, typer.Option("--fold", help=FOLD)] = False,
    top: Annotated[int, typer.Option(min=1, help="How many answers.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many first answers.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Also write a contact sheet.")] = None,
    method: Annotated[Method, typer.Option(help=METHODS)] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="For several queries and for lists; else all cores.")
    ] = None,
    nprobe: Annotated[int | None, typer.Option(min=1, help="Lists that ivf looks into.")] = None,
    recall_target: Annotated[float | None, typer.Option(help=RECALL)] = None,
    as_json: Json = False,
) -> None:
    """Find the pictures most like IMAGE, or like several, and not like others.

    Exact, unless --nprobe or --recall-target asks for less. That makes lists first, which takes longer than many exact searches:
    it pays for a program that keeps the index open.

    Example: spq search photos.index query.jpg --top 5

    Example: spq search photos.index a.jpg b.jpg --not c.jpg --where "label = shoe and width >= 640"

    Example: spq search photos.index --id 17 --fold --offset 20
    """
    from spq.cli.checks import check_file
    from spq.cli.describe import lists_text
    from spq.cli.search import QueryNames, line, parse_box, parse_weights, read_request, write_sheet
    from spq.index.image_index import ImageIndex

    names = QueryNames(images or [], id_ or [], not_ or [])
    options = {
        "box": parse_box(box), "weights": parse_weights(weights), "top": top, "where": where, "max_distance": max_distance,
        "fold": fold, "offset": offset, "method": method, "threads": threads, "nprobe": nprobe, "recall_target": recall_target,
    }  # fmt: skip
    check_file("--html", html)
    with ImageIndex.open(index) as opened:
        request = read_request(names, opened.model_copy.input_size, options)
        if method == "ivf" or nprobe or recall_target:
            _note(lists_text(len(opened), opened.store.manifest.num_codebooks, method))
        (hits,) = opened.hits(request)
        if html:
            write_sheet(html, opened, names, request, hits)
    if not hits:
        _note("no picture is an answer; ask with a wider --where or --max-distance, or a lower --offset")
    for hit in hits:
        print(line(hit, as_json, fold))


@app.command()
def dupes(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Index folder.")],
    threshold: Annotated[
        float | None, typer.Option(help="Code distance of `similar` (for dot: squared Euclidean); else calibrated.")
    ] = None,
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
    from spq.cli.checks import check_file
    from spq.cli.describe import listed
    from spq.cli.progress import counting
    from spq.cli.reports import dupes_report
    from spq.data.open import open_images
    from spq.dupes.find import find_duplicates
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


@app.command()
def serve(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Index folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep INDEX in step with its pictures.")] = False,
    token: Annotated[str, typer.Option(envvar="SPQ_TOKEN", help="What whoever asks has to know.")] = "",
    no_token: Annotated[bool, typer.Option("--no-token", help="Let anyone in who can reach --host.")] = False,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A further name of this server.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for thumbnails; else in your cache folder.")] = None,
) -> None:
    """Open a page to search the pictures, and an HTTP API, for this machine alone.

    Pictures are uploaded to it or chosen by id; it never fetches one from an address.

    Example: spq serve photos.index --open --watch
    """
    from spq.cli.checks import check_folder, check_serve

    check_serve(host, token, no_token)
    check_folder("--cache", cache)
    from spq.web.server.app import Settings
    from spq.web.server.app import serve as run_server

    settings = Settings(host, port, token, watch, tuple(allow_host or ()))
    if cache is not None:
        settings = replace(settings, cache=cache)
    run_server(index, settings, open_, _note)


@app.command("eval")
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")],
    protocol: Annotated[str | None, typer.Option(help=PROTOCOLS)] = None,
    gallery: Annotated[str | None, typer.Option(help="Any labelled collection, with --queries.")] = None,
    queries: Annotated[str | None, typer.Option(help="Another one with the same classes.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of flickr25k or nuswide21.")] = None,
    at: Annotated[int | None, typer.Option(min=1, help="The N of mAP@N.")] = None,
    bits: Annotated[int | None, typer.Option(help="One of the model's shorter codes; spq info lists them.")] = None,
    distance: Annotated[Distance | None, typer.Option(help="In place of the model's.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Classic methods beside it.")] = False,
    plots: Annotated[Path | None, typer.Option(help="Folder for PR and P@N plots.")] = None,
    as_json: Json = False,
) -> None:
    """Measure retrieval quality under a named protocol, or on any labelled gallery and queries.

    Example: spq eval photos.spq --protocol cifar10-spq --baselines
    """
    if (protocol is None) == (gallery is None) or (gallery is None) != (queries is None):
        raise ConfigError("give either --protocol NAME, or --gallery and --queries; see spq eval --help")
    from spq.cli.checks import check_folder
    from spq.data.protocols import custom_protocol, load_protocol

    check_folder("--plots", plots)
    chosen = load_protocol(protocol, root=root) if protocol else custom_protocol(str(gallery), str(queries))
    from spq.api import SPQ
    from spq.evaluation.evaluate import evaluate as run_evaluation

    loaded = SPQ.load(model).truncate(bits)
    report = run_evaluation(loaded, chosen, at=at, distance=distance, baselines=baselines, progress=_note)
    if plots:
        for path in report.save_plots(plots):
            _note(f"wrote {path}")
    print(json.dumps(report.to_dict()) if as_json else report.table())


@app.command()
def info(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A model or an index folder.")],
    html: Annotated[Path | None, typer.Option(help="Also write a page of what each codeword sees.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a model or an index is, and what its codes keep.

    Example: spq info photos.index --json

    Example: spq info photos.index --html codewords.html
    """
    from spq.cli.checks import check_file
    from spq.cli.describe import facts_of, info_text

    check_file("--html", html)
    facts = facts_of(path)
    if html:
        from spq.cli.reports.codebook_page import write_codebook_page

        write_codebook_page(html, path, facts)
        _note(f"wrote {html}")
    print(json.dumps(facts) if as_json else info_text(facts))


@app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An index folder; for onnx also a model folder.")],
    to: Annotated[
        Literal["faiss", "codes", "onnx", "web"], typer.Option(help="web is a folder, codes .npz or .parquet.")
    ],
    out: Annotated[Path, typer.Option(help="File to write; for web a folder.")],
    thumbnail: Annotated[int | None, typer.Option(help="web: pixels of a thumbnail's longer side, else 256.")] = None,
    dupes: Annotated[bool, typer.Option("--dupes", help="web: look for duplicates, too.")] = False,
    onnxruntime_web: Annotated[str | None, typer.Option(metavar="PATH|fetch", help=RUNTIME)] = None,
    as_json: Json = False,
) -> None:
    """Hand over to other tools: a FAISS index, codes with their codebooks, the model as ONNX, or a site that needs no server.

    Example: spq export photos.index --to faiss --out photos.faiss

    Example: spq export photos.index --to web --out site/ --onnxruntime-web fetch
    """
    from spq.cli.describe import listed
    from spq.cli.exporting import export as run_export
    from spq.cli.exporting import export_text, web_options

    web = web_options(to, thumbnail, dupes, onnxruntime_web)
    try:
        facts = run_export(path, to, out, web)
    except KeyboardInterrupt:
        if web is None:
            raise
        raise typer.Exit(_fail("stopped; the thumbnails so far are kept, and the same command goes on", 130)) from None
    if as_json:
        print(json.dumps({"out": str(out), **facts}))
    else:
        _note(listed("no thumbnail", facts.get("without", [])))
        print(export_text(to, out, facts))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do and what is missing.

    Example: spq doctor
    """
    from spq.cli.describe import aligned
    from spq.cli.doctor import examine

    facts = examine()
    print(json.dumps(facts) if as_json else aligned(facts))


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}
)
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which one; without, they are listed.")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="What it takes.")] = None,
) -> None:
    """Run a benchmark of a source checkout. `spq bench NAME --help` says what it measures and takes.

    Example: spq bench quality fast --minutes 4
    """
    from spq.cli.bench import listing, run_benchmark

    if name in ("-h", "--help"):
        print(context.get_help())
    elif name is None:
        print(listing())
    else:
        run_benchmark(name, arguments or [])


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
    from spq.cli.demo import run_demo, table

    facts = run_demo(folder, out, minutes, seed, _note)
    if as_json:
        print(json.dumps(facts))
    elif "rows" in facts:
        print(table(facts))


def _note(text: str) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)


def _options() -> set[str]:
    """Every long option of every command."""
    group: Any = typer.main.get_command(app)
    return {option for command in group.commands.values() for parameter in command.params for option in parameter.opts}


def _fail(message: str, status: int) -> int:
    from spq.cli.describe import printable

    _note(f"spq: {printable(message)}")
    return status
