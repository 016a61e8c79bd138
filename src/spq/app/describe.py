"""What models, indexes and their makers have to say: facts as plain types, and as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.errors import ModelError

if TYPE_CHECKING:
    from spq.index.sync import SyncReport

LISTED = 20  # unreadable pictures named one by one


def facts_of(path: Path) -> dict[str, Any]:
    """What `spq info` says of a model or an index folder.

    Raises:
        ModelError, StoreError: nothing there, or it cannot be read.
    """
    if (path / "manifest.json").exists():
        from spq.index.image_index import ImageIndex

        with ImageIndex.open(path) as index:
            return index.info()
    if not path.exists():
        raise ModelError(f"nothing at {path}; give a model or an index folder")
    from spq.api import SPQ

    model = SPQ.load(path)
    q = model.config.quantizer
    return {
        "kind": "model",
        "images": model.training.get("images"),
        "bits": q.bits,
        "lengths": list(q.lengths),
        "bytes_per_image": q.bytes,
        "distance": q.distance,
        "model": model.hash,
        "recipe": model.config.name,
        "image_size": model.config.input.size,
        "backbone": model.config.backbone.name,
        "codebooks": f"{q.num_codebooks} x {q.codebook_size} x {q.codeword_dim}",
        "training": model.training,
    }


def aligned(facts: dict[str, Any], indent: str = "") -> str:
    """Facts one a line; those of an inner table below its name.

    >>> print(aligned({"bits": 64, "health": {"entropy": 0.9}}))
    bits    64
    health
      entropy  0.9
    """
    width = max(map(len, facts), default=0)
    lines = []
    for key, value in facts.items():
        if value and isinstance(value, dict):
            lines += [f"{indent}{key}", aligned(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"{indent}{key:{width}s}  {text if value or value == 0 else 'none'}")
    return "\n".join(lines)


def training_text(facts: dict[str, Any]) -> str:
    """The end of a training in two lines."""
    health = facts["health"]
    return (
        f"{facts['model']}: {facts['images']:,} pictures, {facts['epochs']:g} epochs, {facts['minutes']:g} minutes\n"
        f"codewords in use {health['codeword_use']:.0%}, codes carry {health['entropy']:.0%} of {facts['bits']} bits"
    )


def sync_text(facts: dict[str, Any], report: SyncReport) -> str:
    """What `spq index` did, in one line."""
    done = [f"{getattr(report, key)} {key}" for key in ("added", "changed", "renamed", "removed", "unchanged")]
    done.append(f"{len(report.failed)} unreadable")
    done += [f"{report.described} with new metadata"] * bool(report.described)
    done += [f"{report.kept} kept without a file"] * bool(report.kept)
    return f"{facts['index']}: {facts['images']:,} pictures at {facts['bits']} bits ({', '.join(done)})"


def failures_text(report: SyncReport) -> str:
    """The unreadable pictures and folders with their reasons; empty where there is none."""
    texts = listed("not indexed", report.failed), listed("cannot be looked at", report.unseen)
    return "\n".join(filter(None, texts))


def compact_text(index: Path, sizes: tuple[int, int]) -> str:
    """What `spq index --compact` did, in one line."""
    return f"{index}: {sizes[0]:,} bytes before, {sizes[1]:,} after"


def verify_text(index: Path, faults: list[str]) -> str:
    """One line a fault, or one that says that there is none."""
    return "\n".join(map(printable, faults)) or f"{index}: no fault found"


def listed(what: str, pictures: list[tuple[str, str]]) -> str:
    """(path, reason) a line, the first of them; empty where there is none."""
    lines = [f"{what}: {printable(path)}: {printable(reason)}" for path, reason in pictures[:LISTED]]
    if len(pictures) > LISTED:
        lines.append(f"{what}: {len(pictures) - LISTED} more, {len(pictures)} in all; --json lists them")
    return "\n".join(lines)


def explanation(error: Exception) -> tuple[str, int] | None:
    """One line and an exit status for errors of the libraries below that a user can mend; None for all others."""
    if hasattr(error, "format_message"):  # click's, from whichever copy of click typer carries
        message = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")
        command = getattr(getattr(error, "ctx", None), "command_path", "spq")
        return f"{message}; see {command} --help", 2
    if "inline_container" in str(error) or type(error).__name__ == "SafetensorError":
        # torch and safetensors hide the system's reason when a file cannot be written
        return "could not write the model or its checkpoint; is the disk full?", 1
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):  # torch's, of GPU and CPU
        return "out of memory; close other programs, or give --device cpu", 1
    return None


def printable(text: str) -> str:
    """A file name may hold bytes that are not UTF-8, or line breaks: shown as `?` and spaces."""
    return " ".join(text.encode("utf-8", "replace").decode().splitlines())


def lists_text(images: int, num_codebooks: int, method: str) -> str:
    """What a search by lists takes before it begins; nothing, where it makes none."""
    from spq.index.scan import IVF_FROM, memory_bytes

    if method != "ivf" and images < IVF_FROM:
        return ""
    size = memory_bytes(images, num_codebooks, ivf=True)
    return (
        f"making lists of similar codes, for this search alone: up to {size / 1e6:,.0f} MB, and thrice that on the way"
    )
