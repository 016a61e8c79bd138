"""The page: ten planted pictures among two thousand come first in the order of unusual pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spq import SPQ
from spq.index.image_index import ImageIndex
from test_unusual import FEW_WORDS, ODD, write_photos
from web import NEEDS_BROWSER, expect, served, tab, wait_for_pictures

pytestmark = NEEDS_BROWSER


@pytest.mark.drill
def test_ten_of_two_thousand_are_among_the_first_twenty_on_the_page(browser: Any, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1990)
    model = SPQ.train(tmp_path / "photos", recipe="pq", overrides=FEW_WORDS)
    ImageIndex.build(tmp_path / "i", model, tmp_path / "photos").close()
    with served(tmp_path / "i", model, tmp_path / "cache") as server, tab(browser) as page:
        page.goto(f"{server}#order=unusual")
        wait_for_pictures(page)
        expect(page.locator("#summary")).to_have_text("2,000 pictures")
        names = page.locator("#grid .tile[data-id] img").evaluate_all("(all) => all.map((one) => one.alt)")
        print(*names[:20], sep=", ")
        assert sum("odd-" in name for name in names[:20]) == ODD
