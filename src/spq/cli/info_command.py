"""`spq info`: what a model or an index is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spq.cli.describe import aligned, codes_text
from spq.cli.indexing import names_index
from spq.cli.options import AsJson
from spq.cli.output import note, show
from spq.cli.stopping import AGAIN, when_stopped
from spq.errors import ModelError

if TYPE_CHECKING:
    from spq.index.image_index import ImageIndex

SAMPLED = 100_000  # codes of an index in the sample


@when_stopped(f"nothing was changed, {AGAIN}")
def info(
    name: Annotated[
        str, typer.Argument(metavar="PATH", help="A model or an index folder, or the URL of a published index.")
    ],
    html: Annotated[Path | None, typer.Option(help="Also write a page of the pictures that share a codeword.")] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a model or an index, and measure how well its codes preserve similarity.

    Example: spq info photos.index --json

    Example: spq info photos.index --html codewords.html
    """
    from spq.cli.checks import check_file
    from spq.cli.publishing import index_folder

    check_file("--html", html)
    with index_folder(name) as path:
        facts = facts_of(path)
        if html:
            from spq.cli.reports.codebook_page import write_codebook_page

            write_codebook_page(html, path, facts)
            note(f"wrote {html}")
    show(json.dumps(facts) if as_json else _text(facts))


def facts_of(path: Path) -> dict[str, Any]:
    """Facts of a model or an index folder, as plain types.

    Raises:
        ModelError, StoreError: nothing there, or it cannot be read.
    """
    if names_index(path):
        from spq.index.image_index import ImageIndex

        with ImageIndex.open(path) as index:
            return {**index.info(), "health": _health_of(index), "codes": _trained_codes(index)}
    if not path.is_dir():
        what = f"{path} is a file" if path.exists() else f"nothing at {path}"
        raise ModelError(f"{what}; give a model or an index folder")
    from spq.api import SPQ

    model = SPQ.load(path)
    q = model.config.quantizer
    return {
        "kind": "model",
        "images": model.facts.get("images"),
        "bits": q.bits,
        "lengths": list(q.lengths),
        "bytes_per_image": q.bytes,
        "distance": q.distance,
        "model": model.hash,
        "recipe": model.config.name,
        "image_size": model.config.input.size,
        "backbone": model.config.backbone.name,
        "codebooks": f"{q.num_codebooks} x {q.codebook_size} x {q.codeword_dim}",
        **({} if q.kind == "product" else {"quantizer": q.described}),
        "training": model.facts,
    }


def _health_of(index: ImageIndex) -> dict[str, Any]:
    """How the index uses its codes, measured on a sample so that it takes a second at any size."""
    import numpy as np

    from spq.training.health import use_and_entropy

    M, K = index.store.manifest.num_codebooks, index.store.manifest.codebook_size
    last = index.store.last_id()
    ids = sorted(random.Random(0).sample(range(1, last + 1), min(last, SAMPLED)))
    found = index.store.codes_of(ids)
    codes = np.frombuffer(b"".join(found), np.uint8).reshape(-1, M)
    use, entropy = use_and_entropy(codes, K)
    return {
        "pictures": len(codes),
        "distinct_codes": len(set(found)),
        "codeword_use": use,
        "dead_codewords": round(M * K * (1 - use)),
        "entropy": entropy,
    }


def _trained_codes(index: ImageIndex) -> list[dict[str, Any]]:
    """What training measured for codes of this length, read from the copy of the model without loading torch."""
    from spq.model.model_folder import read_config
    from spq.model.training_facts import checked_facts

    try:
        facts = checked_facts(read_config(index.store.folder / "model").get("training"))
    except (ModelError, ValueError):
        return []  # spq index --verify reports the fault
    return [codes for codes in facts.get("codes", []) if codes["bits"] == index.store.manifest.bits]


def _text(facts: dict[str, Any]) -> str:
    """One fact a line, then a table of what the codes keep."""
    facts, training = dict(facts), dict(facts.get("training") or {})
    codes = [*facts.pop("codes", []), *training.pop("codes", [])]
    if "training" in facts:
        facts["training"] = training
    return "\n".join(filter(None, [aligned(facts), codes_text(codes)]))
