"""`spq export`: an index or a model as files for other tools."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spq.cli.describe import counted, listed
from spq.cli.indexing import is_index
from spq.cli.options import AsJson, Threads
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, CONTINUE, when_stopped
from spq.common.text import printable
from spq.errors import ConfigError, DataError, ModelError, StoreError

if TYPE_CHECKING:
    from spq.index.described import FromPictures
    from spq.index.store import Store
    from spq.web.site.site import Options

Format = Literal["faiss", "codes", "vectors", "lance", "onnx", "web"]
Descriptors = Literal["pictures", "codes"]
FOLDERS = ("vectors", "lance", "web")  # formats that are folders
RUNTIME = (
    "web: let visitors search with their own pictures. Give the .tgz file that npm pack onnxruntime-web writes, "
    "or the word fetch to download it."
)
DESCRIPTORS = (
    "vectors: pictures computes them again in full precision, which a vector database should load. codes decodes the "
    "codes: coarser, but it needs no pictures. Default: pictures."
)


def export(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An index folder; for onnx also a model folder.")],
    to: Annotated[Format, typer.Option(help="codes writes .npz or .parquet; vectors, lance and web write a folder.")],
    out: Annotated[Path, typer.Option(help="File or folder to write.")],
    descriptors: Annotated[Descriptors | None, typer.Option(help=DESCRIPTORS)] = None,
    thumbnail: Annotated[
        int | None, typer.Option(help="web: longer side of thumbnails in pixels. Default: 256.")
    ] = None,
    dupes: Annotated[bool, typer.Option("--dupes", help="web: also look for duplicates.")] = False,
    onnxruntime_web: Annotated[str | None, typer.Option(metavar="PATH|fetch", help=RUNTIME)] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Export an index or a model for other tools.

    The formats are a FAISS index, codes with their codebooks, vectors for any vector database as Parquet, a Lance
    dataset that searches our codes, the model as ONNX, and a website that needs no server.

    Example: spq export photos.index --to faiss --out photos.faiss

    Example: spq export photos.index --to vectors --out photos.vectors

    Example: spq export photos.index --to web --out site/ --onnxruntime-web fetch
    """
    web = web_options(to, thumbnail, dupes, onnxruntime_web)
    if descriptors and to != "vectors":
        raise ConfigError("--descriptors works only with --to vectors; omit it")
    with when_stopped(f"nothing was written, {AGAIN}" if web is None else f"finished thumbnails are kept, {CONTINUE}"):
        facts = write_export(path, to, out, web, descriptors or "pictures")
    if as_json:
        print(json.dumps({"out": str(out), **facts}))
    else:
        note(listed("no thumbnail" if to == "web" else "left out", facts.get("without", [])))
        show(_text(to, out, facts))


def write_export(
    path: Path, to: Format, out: Path, web: Options | None = None, descriptors: Descriptors = "pictures"
) -> dict[str, Any]:
    """Write `out` and return its facts.

    Args:
        web: options of the website, if `to` is "web".
        descriptors: where they come from, if `to` is "vectors".
    Raises:
        ConfigError: `path` cannot be exported to this format, or a package is missing. ModelError, StoreError: no model
            or index at `path`.
    """
    from spq.cli.checks import check_file, check_folder

    (check_folder if to in FOLDERS else check_file)("--out", out)
    if not path.exists():
        raise ModelError(f"nothing at {path}; give a model or an index folder")
    if to != "onnx" and not is_index(path) and (path / "config.json").exists():
        raise ConfigError(f"{path} is a model and has no codes; --to {to} needs an index, which spq index builds")
    if to == "web":
        from spq.cli.progress import Stages
        from spq.web.site.site import Options, export_web

        with Stages() as stages:
            return export_web(path, out, web or Options(), stages.stage)
    if to in FOLDERS:
        return _write_folder(path, to, out, descriptors)
    with _one_writer(out):
        return _write_file(path, to, out)


@contextmanager
def _one_writer(out: Path) -> Iterator[None]:
    """Let one process write an export of one or two files, and delete parts of files that killed ones have left.

    Raises:
        StoreError: another process writes it.
    """
    from spq.common.files import STREAMS, remove_stale
    from spq.common.locks import held

    if out.parent in STREAMS or (out.exists() and not out.is_file()):
        yield
        return
    file = out.resolve()
    with ExitStack() as stack:
        try:
            stack.enter_context(held(file.with_name(f".{file.name}.lock"), stays=False))
        except BlockingIOError:
            raise StoreError(f"another process exports to {out}; wait for it to end, or give another --out") from None
        remove_stale(file.parent, file.name, f"{file.name}.json")
        yield


def _write_file(path: Path, to: Format, out: Path) -> dict[str, Any]:
    if to == "onnx":
        from spq.model.model import Model
        from spq.model.onnx import export_onnx

        return export_onnx(Model.load(path / "model" if is_index(path) else path), out)
    from spq.cli.progress import counting
    from spq.index.export import export_codes, export_faiss
    from spq.index.shards.open_store import open_store

    with open_store(path) as store, counting("exporting codes") as progress:
        progress(0, len(store))
        facts = (export_faiss if to == "faiss" else export_codes)(store, out)
        progress(len(store), len(store))
    _note_damaged(path, facts)
    return facts


def _write_folder(path: Path, to: Format, out: Path, descriptors: Descriptors) -> dict[str, Any]:
    from spq.cli.progress import counting
    from spq.index.export_lance import export_lance
    from spq.index.export_vectors import export_vectors
    from spq.index.shards.open_store import open_store
    from spq.index.workplace import check_unused

    check_unused(out)  # before pictures are listed
    with open_store(path) as store:
        pictures = _pictures(store) if (to, descriptors) == ("vectors", "pictures") else None
        with counting("exporting vectors") as progress:
            write = export_lance if to == "lance" else partial(export_vectors, pictures=pictures)
            facts = write(store, out, progress=progress)
    _note_damaged(path, facts)
    return facts


def _pictures(store: Store) -> FromPictures:
    """The pictures of an index, and its model."""
    from spq.data.open import open_images
    from spq.index.described import FromPictures
    from spq.index.model_copy import ModelCopy
    from spq.model.device import resolve_device
    from spq.model.model import Model

    try:
        images = open_images(store.manifest.origin)
    except DataError as error:
        raise DataError(f"{error}, or add --descriptors codes, which needs no pictures") from None
    copy = ModelCopy(store.folder, store.manifest)
    copy.use(Model.load(store.folder / "model", resolve_device("auto")))
    return FromPictures(store, copy.model, images)


def _note_damaged(path: Path, facts: dict[str, Any]) -> None:
    if damaged := facts.get("left_out"):
        note(f"left out: {counted(len(damaged), 'picture')} whose rows are damaged; spq index {path} --repair")


def web_options(to: Format, thumbnail: int | None, dupes: bool, runtime: str | None) -> Options | None:
    """The options of a website; None for all other exports.

    Raises:
        ConfigError: an option is given for another export, or its value is wrong.
    """
    given = {"--thumbnail": thumbnail is not None, "--dupes": dupes, "--onnxruntime-web": runtime is not None}
    if to != "web":
        if any(given.values()):
            raise ConfigError(f"{next(name for name in given if given[name])} works only with --to web; omit it")
        return None
    from spq.web.site.site import Options

    return Options(Options.thumbnail if thumbnail is None else thumbnail, dupes, runtime)


def _text(to: Format, out: Path, facts: dict[str, Any]) -> str:
    """What was written, and how to read it."""
    name = printable(str(out))
    if to == "onnx":
        size = facts["image_size"]
        return f"{name}: pixels (N, 3, {size}, {size}) uint8 RGB in, descriptor (N, {facts['dim']}) and code out"
    if to == "vectors":
        kind = "full precision" if facts["descriptors"] == "pictures" else "decoded from codes"
        vectors = f"{counted(facts['images'], 'vector')} of {facts['dim']} numbers"
        return f"{name}: {vectors}, {kind}, in {counted(facts['files'], 'file')}; rank them by {facts['metric']}"
    text = f"{name}: {counted(facts['images'], 'picture')} at {facts['bits']} bits, distance {facts['distance']}"
    if to == "web":
        thumbnails = ", ".join(f"{count:,} {what}" for what, count in facts["thumbnails"].items())
        return f"{text} (thumbnails: {thumbnails})\nview it with: python3 -m http.server -d {shlex.quote(name)} -b 127.0.0.1"
    return f"{text}{_faiss_text(facts) if to == 'faiss' else _lance_text(facts) if to == 'lance' else ''}"


def _faiss_text(facts: dict[str, Any]) -> str:
    own = facts["index_distance"]
    also = "" if own == facts["distance"] else f" (FAISS sums squares; the index itself ranks by {own})"
    if own == "dot":
        also = " (FAISS returns inner products, the largest first: the same ranking with the opposite sign)"
    return f"{also}; ids and paths in {printable(facts['paths'])}"


def _lance_text(facts: dict[str, Any]) -> str:
    more = " (Lance adds 1 to our distances)" if facts["metric"] == "dot" else ""
    return f"; search column descriptor by metric {facts['metric']}{more}"
