"""The table of the docs: which pictures are read, the same in index, search and upload."""

from __future__ import annotations

from pathlib import Path

from formats import agreed, decoded, kinds, table
from spq.data.formats import register_heif
from spq.model.model import Model

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "pictures.md"


def test_the_table_of_the_docs_is_what_index_search_and_upload_do(tiny_model: Model, tmp_path: Path) -> None:
    every = [kind for kind in kinds() if not (register_heif() and "HEIC" in kind.what)]
    reasons = {kind.file: decoded(kind) for kind in every}
    assert len(every) >= 60
    assert agreed(every, tiny_model, tmp_path) == reasons
    page = PAGE.read_text("utf-8")
    rows = [row for row in table(every, reasons).splitlines() if row not in page]
    assert not rows
