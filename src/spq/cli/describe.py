"""What models, indexes and their makers have to say: facts as plain types, and as text."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.common.text import printable
from spq.errors import ModelError

if TYPE_CHECKING:
    from spq.index.image_index import ImageIndex
    from spq.index.sync import SyncReport

LISTED = 20  # unreadable pictures named one by one
SAMPLED = 100_000  # codes that `spq info INDEX` looks at


def facts_of(path: Path) -> dict[str, Any]:
    """What `spq info` says of a model or an index folder.

    Raises:
        ModelError, StoreError: nothing there, or it cannot be read.
    """
    if (path / "manifest.json").exists():
        from spq.index.image_index import ImageIndex

        with ImageIndex.open(path) as index:
            return {**index.info(), "health": _health_of(index), "codes": _trained_codes(index)}
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


def _health_of(index: ImageIndex) -> dict[str, Any]:
    """How the index uses its codes, on a sample of them that takes a second at any size."""
    import numpy as np

    from spq.training.health import usage

    M, K = index.store.manifest.num_codebooks, index.store.manifest.codebook_size
    last = index.store.select("SELECT coalesce(max(id), 0) FROM items")[0][0]
    ids = sorted(random.Random(0).sample(range(1, last + 1), min(last, SAMPLED)))
    found = index.store.select(
        "SELECT code FROM items WHERE status = 0 AND id IN (SELECT value FROM json_each(?))", json.dumps(ids)
    )
    codes = np.frombuffer(b"".join(code for (code,) in found), np.uint8).reshape(-1, M)
    use, entropy = usage(codes, K)
    return {
        "pictures": len(codes),
        "distinct_codes": len({code for (code,) in found}),
        "codeword_use": use,
        "dead_codewords": round(M * K * (1 - use)),
        "entropy": entropy,
    }


def _trained_codes(index: ImageIndex) -> list[dict[str, Any]]:
    """What the model's training measured of codes of this length, from the copy of the model, without loading torch."""
    try:
        config = json.loads((index.store.folder / "model" / "config.json").read_text("utf-8"))
        return [codes for codes in config["training"].get("codes", []) if codes["bits"] == index.store.manifest.bits]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # spq index --verify says what is wrong with it


def info_text(facts: dict[str, Any]) -> str:
    """What `spq info` prints: facts one a line, then what the codes keep."""
    facts, training = dict(facts), dict(facts.get("training") or {})
    codes = [*facts.pop("codes", []), *training.pop("codes", [])]
    if "training" in facts:
        facts["training"] = training
    return "\n".join(filter(None, [aligned(facts), codes_text(codes)]))


def codes_text(codes: list[dict[str, Any]]) -> str:
    """What codes of each length keep, as a table; empty where a model does not say it.

    Args:
        codes: each a `spq.training.fidelity.Fidelity` as a table of facts.
    """
    if not codes:
        return ""
    lines = [
        "bits  codewords dead  entropy  variance lost  copies find their original first, in 10  top 10 kept",
        *(
            f"{c['bits']:4d}  {c['codeword_use']:7.0%} {c['dead_codewords']:6d}  {c['entropy']:7.0%}  {c['error']:13.0%}"
            f"  {_pair(c, 'copy_at_1'):>25s}  {_pair(c, 'copy_at_10'):>12s}  {c['kept']:11.0%}"
            for c in codes
        ),
    ]
    last = codes[-1]
    lines += [
        f"{-(-last['bits'] // 8)} bytes keep {last['kept']:.0%} of the 10 pictures that the descriptors themselves find first",
        f"measured without labels: {last['queries']:,} altered copies among {last['pictures']:,} pictures of the training; "
        "in brackets without quantization",
    ]
    return "\n".join(lines)


def _pair(codes: dict[str, Any], key: str) -> str:
    return f"{codes[key]:.0%} ({codes['float_' + key]:.0%})"


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
    """The end of a training: what it was, and what its codes keep."""
    return (
        f"{facts['model']}: {facts['images']:,} pictures, {facts['epochs']:g} epochs, {facts['minutes']:g} minutes\n"
        f"{codes_text(facts['codes'])}"
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


def as_options(message: str, options: set[str]) -> str:
    """An error of the library, with the parameters that it names shown as options.

    >>> as_options("`image_size` 7 is too small; see `Model.truncate`", {"--image-size"})
    '--image-size 7 is too small; see `Model.truncate`'
    """

    def option(match: re.Match[str]) -> str:
        name = f"--{match[1].replace('_', '-')}"
        return name if name in options else match[0]

    return re.sub(r"`(\w+)`", option, message)


def lists_text(images: int, num_codebooks: int, method: str) -> str:
    """What a search by lists takes before it begins; nothing, where it makes none."""
    from spq.pq.scan import IVF_FROM, memory_bytes

    if method != "ivf" and images < IVF_FROM:
        return ""
    size = memory_bytes(images, num_codebooks, ivf=True)
    return (
        f"making lists of similar codes, for this search alone: up to {size / 1e6:,.0f} MB, and thrice that on the way"
    )
