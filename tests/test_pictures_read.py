"""The table of the docs: which pictures are read, the same in index, search and upload."""

from __future__ import annotations

import random
from pathlib import Path

from formats import agreed, decoded, kinds, table
from spq.data.decode import load_image
from spq.errors import ImageError
from spq.model.model import Model

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "pictures.md"


def test_the_table_of_the_docs_is_what_index_search_and_upload_do(tiny_model: Model, tmp_path: Path) -> None:
    every = kinds()
    reasons = {kind.file: decoded(kind) for kind in every}
    assert len(every) >= 60
    assert agreed(every, tiny_model, tmp_path) == reasons
    page = PAGE.read_text("utf-8")
    rows = [row for row in table(every, reasons).splitlines() if row not in page]
    assert not rows


def test_changed_bytes_of_any_format_raise_nothing_but_image_error() -> None:
    rng = random.Random(0)
    every = [kind for kind in kinds() if 20 < len(kind.data) < 50_000]
    whole = {kind.file: load_image(kind.data).tobytes() for kind in every if kind.shows}
    messages: list[str] = []
    for number in range(700):
        kind = every[number % len(every)]
        data = bytearray(kind.data)
        if is_cut := number % 3 == 0:
            data = data[: rng.randrange(len(data))]
        else:
            for _ in range(rng.choice((1, 3, 20))):
                data[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))
        try:
            read = load_image(bytes(data))
        except ImageError as error:
            messages.append(str(error))
            continue
        if is_cut and not kind.file.startswith(("fade-in", "pages-blank")):  # nothing that is cut off is made up
            assert read.tobytes() == whole[kind.file], kind.file
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)
