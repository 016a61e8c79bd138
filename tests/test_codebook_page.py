from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq import ImageIndex
from spq.cli import main as cli
from spq.cli.info_command import facts_of
from spq.cli.reports import codebook_page
from spq.cli.reports.codebook_page import write_codebook_page
from spq.data.open import open_images
from spq.errors import DataError
from spq.model.model import Model


class Page(HTMLParser):
    """A page taken apart; complains of tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.open, self.seen = text, [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, tag: str, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for name, attrs in self.seen if name == tag and attribute in attrs]


@pytest.fixture
def index(photos: Path, tiny_model: Model, tmp_path: Path) -> Path:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    return tmp_path / "i"


@pytest.fixture
def page(index: Path, tmp_path: Path) -> Page:
    write_codebook_page(tmp_path / "page.html", index, facts_of(index))
    return Page((tmp_path / "page.html").read_text("utf-8"))


def test_the_page_is_well_formed_and_has_no_external_resources(page: Page) -> None:
    tags = {tag for tag, _ in page.seen}
    assert not {"script", "link", "iframe"} & tags
    outside = re.sub(r"(url\(|src=\")data:image/jpeg;base64,[A-Za-z0-9+/=]*", "", page.text)
    assert not re.search(r"https?:|//|url\(|@import", outside)


def test_each_codeword_shows_its_pictures_and_their_number(page: Page, index: Path, tiny_model: Model) -> None:
    with ImageIndex.open(index) as opened:
        codes = {item.path: item.code for item in opened.store.items()}
    boxes = re.split(r"<div class='word' id='m", page.text)[1:]
    assert len(boxes) == sum(len(set(column)) for column in zip(*codes.values(), strict=True))
    for box in boxes:
        m, k = map(int, re.match(r"(\d+)k(\d+)'", box).groups())
        count = sum(code[m] == k for code in codes.values())
        assert f"codeword {k}: {count} picture" in box
        shown = re.findall(r'aria-label="([^"]+)"', box)
        assert len(shown) == min(count, 6)
        assert all(codes[path][m] == k for path in shown)


def test_a_picture_is_in_the_page_only_once(page: Page) -> None:
    rules = re.findall(r"\.(p\d+) \{ background-image: url\(data:image/jpeg;base64,([^)]+)\)", page.text)
    used = [name for attrs in page.values("span", "class") for name in attrs.split() if re.fullmatch(r"p\d+", name)]
    assert len(used) > len(rules) == len(set(used))
    for _, data in rules:
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) == 56  # the photos' own


def test_bars_show_what_each_codebook_adds_and_link_to_its_codeword(page: Page, index: Path, tiny_model: Model) -> None:
    first = page.text.split("<section>", 1)[1]
    query, answer = re.findall(r'alt="([^"]+)"', first)[:2]
    bars = re.findall(r"<title>codebook (\d+), codeword (\d+): ([\d.]+),", first)[:8]
    with ImageIndex.open(index) as opened:
        source = open_images(opened.store.manifest.source)
        picture = source.image(source.ids.index(query), 28)
        hits = [hit for hit in opened.search(picture, 2) if hit.path != query]
        code = opened.store.item(answer).code
        own = opened.store.item(query).code
    assert hits[0].path == answer
    assert [int(k) for _, k, _ in bars] == code.tolist()
    table = tiny_model.tables(tiny_model.embed([picture]))[0]
    np.testing.assert_allclose([float(added) for _, _, added in bars], table[np.arange(8), code], atol=2e-3)
    assert f"distance {hits[0].distance:.3f}, {int((own == code).sum())} of 8 codewords the same" in first
    links = page.values("a", "href")
    assert len(links) == 8 * len(re.findall(r"<svg", page.text))
    assert {link.removeprefix("#") for link in links} <= set(page.values("div", "id"))


def test_bars_of_dot_start_at_the_smallest_value_of_a_codebook(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    q = replace(tiny_model.config.quantizer, distance="dot")
    model = Model(tiny_model.network, replace(tiny_model.config, quantizer=q))
    ImageIndex.build(tmp_path / "i", model, photos).close()
    write_codebook_page(tmp_path / "page.html", tmp_path / "i", facts_of(tmp_path / "i"))
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    assert "Bars start at the smallest value" in text
    bars = re.findall(
        r"height='([\d.]+)'><title>codebook \d, codeword \d+: (-?[\d.]+), (\d+)% of a random pair's", text
    )
    assert len(bars) == text.count("<title>codebook") > 100
    assert any(float(added) < 0 for _, added, _ in bars)
    heights, shares = (np.array([float(row[n]) for row in bars]) for n in (0, 2))
    np.testing.assert_allclose(heights, np.clip(48 * np.minimum(shares / 125, 1), 1, None), atol=0.3)
    assert (shares == 0).any()


def test_names_from_files_cannot_become_html(tmp_path: Path, photos: Path, tiny_model: Model) -> None:
    (photos / "shirts").mkdir()
    next(photos.rglob("*.png")).rename(photos / "shirts" / 'a"><b onclick=alert(1)>&.png')
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    write_codebook_page(tmp_path / "page.html", tmp_path / "i", facts_of(tmp_path / "i"))
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "b" not in {tag for tag, _ in page.seen}
    assert not any("onclick" in attrs for _, attrs in page.seen)
    assert "onclick=alert(1)&gt;&amp;.png" in page.text


def test_the_number_of_codewords_and_pictures_is_limited(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codebook_page, "GALLERIES", 16)
    monkeypatch.setattr(codebook_page, "PICTURES", 20)
    write_codebook_page(tmp_path / "page.html", index, facts_of(index))
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.count("<div class='word'") == 16
    assert "Of 16 codewords in a codebook the 2 most used are shown" in text
    assert "20 pictures of" in text


def test_an_index_without_pictures_is_refused_and_one_missing_picture_is_left_out(
    index: Path, photos: Path, tmp_path: Path
) -> None:
    victims = sorted(photos.rglob("*.*"))
    victims[0].unlink()
    write_codebook_page(tmp_path / "page.html", index, facts_of(index))
    assert "59 pictures of" in (tmp_path / "page.html").read_text("utf-8")
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="photos"):
        write_codebook_page(tmp_path / "other.html", index, facts_of(index))
    assert not (tmp_path / "other.html").exists()


def test_a_model_shows_the_pictures_of_its_training(
    photos: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {
        "bits": 32, "codeword_use": 1.0, "dead_codewords": 0, "entropy": 0.99, "error": 0.2, "copy_at_1": 0.7, "copy_at_10": 0.96,
        "float_copy_at_1": 0.83, "float_copy_at_10": 0.97, "kept": 0.7, "pictures": 60, "queries": 50,
    }  # fmt: skip
    facts = {"images": 60, "source": str(photos), "codes": [report]}
    Model(tiny_model.network, tiny_model.config, facts).save(tmp_path / "m")
    assert cli.run(["info", str(tmp_path / "m"), "--html", str(tmp_path / "page.html")]) == 0
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    for cell in ("70% (83%)", "96% (97%)", "50 altered copies among 60 training pictures"):
        assert cell in text
    printed = capsys.readouterr()
    assert "4 bytes keep 70% of the 10 pictures" in printed.out
    assert "page.html" in printed.err
    photos.rename(tmp_path / "elsewhere")
    assert cli.run(["info", str(tmp_path / "m"), "--html", str(tmp_path / "other.html")]) == 1
    assert "give an index" in capsys.readouterr().err
    assert cli.run(["info", str(tmp_path / "m"), "--html", str(tmp_path)]) == 2


def test_info_of_an_index_reports_the_use_of_its_codes(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["info", str(index), "--json"]) == 0
    health = json.loads(capsys.readouterr().out)["health"]
    with ImageIndex.open(index) as opened:
        codes = opened.store.codes()[1]
    assert health["pictures"] == 60
    assert health["distinct_codes"] == len(np.unique(codes, axis=0))
    assert health["dead_codewords"] == 8 * 16 - sum(len(np.unique(column)) for column in codes.T)
    assert 0.5 < health["entropy"] < 1
