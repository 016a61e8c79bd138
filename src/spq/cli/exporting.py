"""`spq export`: which part of a model or an index goes into which file, and what is to be known of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spq.cli.checks import check_file
from spq.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from spq.web.site.site import Options

Format = Literal["faiss", "codes", "onnx", "web"]


def export(path: Path, to: Format, out: Path, web: Options | None = None) -> dict[str, Any]:
    """Write `out` and return its facts.

    Args:
        web: what a site shall have, for `to` "web" alone.
    Raises:
        ConfigError: not to be had of this path, or a package is missing. ModelError, StoreError: nothing there.
    """
    if to != "web":
        check_file("--out", out)
    is_index = (path / "manifest.json").exists()
    if not path.exists():
        raise ModelError(f"nothing at {path}; give a model or an index folder")
    if to != "onnx" and not is_index and (path / "config.json").exists():
        raise ConfigError(f"{path} is a model and has no codes; --to {to} wants an index, as spq index makes it")
    if to == "onnx":
        from spq.model.model import Model
        from spq.model.onnx import export_onnx

        return export_onnx(Model.load(path / "model" if is_index else path), out)
    if to == "web":
        from spq.cli.progress import counting
        from spq.web.site.site import Options, export_web

        with counting("thumbnails") as progress:
            return export_web(path, out, web or Options(), progress)
    from spq.index.export import export_codes, export_faiss
    from spq.index.store import Store

    with Store.open(path) as store:
        return (export_faiss if to == "faiss" else export_codes)(store, out)


def web_options(to: Format, thumbnail: int | None, dupes: bool, runtime: str | None) -> Options | None:
    """The options of a site; None for all other exports.

    Raises:
        ConfigError: one is given for another export, or cannot be meant.
    """
    given = {"--thumbnail": thumbnail is not None, "--dupes": dupes, "--onnxruntime-web": runtime is not None}
    if to != "web":
        if any(given.values()):
            raise ConfigError(f"{next(name for name in given if given[name])} is for --to web; leave it away")
        return None
    from spq.web.site.site import Options

    return Options(Options.thumbnail if thumbnail is None else thumbnail, dupes, runtime)


def export_text(to: Format, out: Path, facts: dict[str, Any]) -> str:
    """What was written and how to read it."""
    if to == "onnx":
        size = facts["image_size"]
        return f"{out}: pixels (N, 3, {size}, {size}) uint8 RGB in, descriptor (N, {facts['dim']}) and code out"
    text = f"{out}: {facts['images']:,} pictures at {facts['bits']} bits, distance {facts['distance']}"
    if to == "web":
        thumbnails = ", ".join(f"{count:,} {what}" for what, count in facts["thumbnails"].items())
        return f"{text} (thumbnails: {thumbnails})\nsee it with: python3 -m http.server -d {shlex.quote(str(out))} -b 127.0.0.1"
    if to == "codes":
        return text
    own = facts["index_distance"]
    also = "" if own == facts["distance"] else f" (FAISS sums squares; the index itself ranks by {own})"
    if own == "dot":
        also = " (FAISS gives inner products, the largest first: the same ranking, without the minus)"
    return f"{text}{also}; ids and paths in {facts['paths']}"
