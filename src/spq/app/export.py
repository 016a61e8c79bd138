"""`spq export`: which part of a model or an index goes into which file, and what is to be known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from spq.app.checks import check_file
from spq.errors import ConfigError, ModelError

Format = Literal["faiss", "codes", "onnx"]


def export(path: Path, to: Format, out: Path) -> dict[str, Any]:
    """Write `out` and return its facts.

    Raises:
        ConfigError: not to be had of this path, or a package is missing. ModelError, StoreError: nothing there.
    """
    check_file("--out", out)
    is_index = (path / "manifest.json").exists()
    if not path.exists():
        raise ModelError(f"nothing at {path}; give a model or an index folder")
    if to != "onnx" and not is_index and (path / "config.json").exists():
        raise ConfigError(f"{path} is a model and has no codes; --to {to} wants an index, as spq index makes it")
    if to == "onnx":
        from spq.model.artifact import Model
        from spq.model.onnx_file import export_onnx

        return export_onnx(Model.load(path / "model" if is_index else path), out)
    from spq.index.export import export_codes, export_faiss
    from spq.index.store import Store

    with Store.open(path) as store:
        return (export_faiss if to == "faiss" else export_codes)(store, out)


def export_text(to: Format, out: Path, facts: dict[str, Any]) -> str:
    """What was written and how to read it."""
    if to == "onnx":
        size = facts["image_size"]
        return f"{out}: pixels (N, 3, {size}, {size}) uint8 RGB in, descriptor (N, {facts['dim']}) and code out"
    text = f"{out}: {facts['images']:,} pictures at {facts['bits']} bits, distance {facts['distance']}"
    if to == "codes":
        return text
    own = facts["index_distance"]
    also = "" if own == facts["distance"] else f" (FAISS sums squares; the index itself ranks by {own})"
    return f"{text}{also}; ids and paths in {facts['paths']}"
