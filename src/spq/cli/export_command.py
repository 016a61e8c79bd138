"""`spq export`: an index or a model as files for other tools."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spq.cli.describe import counted, listed
from spq.cli.indexing import is_index
from spq.cli.options import AsJson, Threads
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, CONTINUE, when_stopped
from spq.common.text import printable
from spq.errors import ConfigError, ModelError, StoreError

if TYPE_CHECKING:
    from spq.web.site.site import Options

Format = Literal["faiss", "codes", "onnx", "web"]
RUNTIME = (
    "web: let visitors search with their own pictures. Give the .tgz file that npm pack onnxruntime-web writes, "
    "or the word fetch to download it."
)


def export(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An index folder; for onnx also a model folder.")],
    to: Annotated[Format, typer.Option(help="codes writes .npz or .parquet, web writes a folder.")],
    out: Annotated[Path, typer.Option(help="File to write; for web a folder.")],
    thumbnail: Annotated[
        int | None, typer.Option(help="web: longer side of thumbnails in pixels. Default: 256.")
    ] = None,
    dupes: Annotated[bool, typer.Option("--dupes", help="web: also look for duplicates.")] = False,
    onnxruntime_web: Annotated[str | None, typer.Option(metavar="PATH|fetch", help=RUNTIME)] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Export an index or a model for other tools.

    The formats are a FAISS index, codes with their codebooks, the model as ONNX, and a website that needs no server.

    Example: spq export photos.index --to faiss --out photos.faiss

    Example: spq export photos.index --to web --out site/ --onnxruntime-web fetch
    """
    web = web_options(to, thumbnail, dupes, onnxruntime_web)
    with when_stopped(f"nothing was written, {AGAIN}" if web is None else f"finished thumbnails are kept, {CONTINUE}"):
        facts = write_export(path, to, out, web)
    if as_json:
        print(json.dumps({"out": str(out), **facts}))
    else:
        note(listed("no thumbnail", facts.get("without", [])))
        show(_text(to, out, facts))


def write_export(path: Path, to: Format, out: Path, web: Options | None = None) -> dict[str, Any]:
    """Write `out` and return its facts.

    Args:
        web: options of the website, if `to` is "web".
    Raises:
        ConfigError: `path` cannot be exported to this format, or a package is missing. ModelError, StoreError: no model
            or index at `path`.
    """
    from spq.cli.checks import check_file, check_folder

    (check_folder if to == "web" else check_file)("--out", out)
    if not path.exists():
        raise ModelError(f"nothing at {path}; give a model or an index folder")
    if to != "onnx" and not is_index(path) and (path / "config.json").exists():
        raise ConfigError(f"{path} is a model and has no codes; --to {to} needs an index, which spq index builds")
    if to == "web":
        from spq.cli.progress import Stages
        from spq.web.site.site import Options, export_web

        with Stages() as stages:
            return export_web(path, out, web or Options(), stages.stage)
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
    from spq.index.store import Store

    with Store.open(path) as store, counting("exporting codes") as progress:
        progress(0, len(store))
        facts = (export_faiss if to == "faiss" else export_codes)(store, out)
        progress(len(store), len(store))
        if damaged := facts.get("left_out"):
            note(f"left out: {counted(len(damaged), 'picture')} whose rows are damaged; spq index {path} --repair")
        return facts


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
    text = f"{name}: {counted(facts['images'], 'picture')} at {facts['bits']} bits, distance {facts['distance']}"
    if to == "web":
        thumbnails = ", ".join(f"{count:,} {what}" for what, count in facts["thumbnails"].items())
        return f"{text} (thumbnails: {thumbnails})\nview it with: python3 -m http.server -d {shlex.quote(name)} -b 127.0.0.1"
    if to == "codes":
        return text
    own = facts["index_distance"]
    also = "" if own == facts["distance"] else f" (FAISS sums squares; the index itself ranks by {own})"
    if own == "dot":
        also = " (FAISS returns inner products, the largest first: the same ranking with the opposite sign)"
    return f"{text}{also}; ids and paths in {printable(facts['paths'])}"
