from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from spq import ImageIndex
from spq.cli.reports.dupes_report import text, write_csv, write_html
from spq.config import Recipe
from spq.data.open import open_images
from spq.dupes.find import KINDS, Report, find_duplicates
from spq.dupes.threshold import code_distances, within
from spq.model.model import Model
from spq.model.network import Network

COPIES = {"bytes": "identical", "q35": "re-encoded", "small": "re-encoded", "mirror": "edited", "crop": "edited"} | {
    "dark": "edited"
}


def large(position: int) -> Image.Image:
    grey = np.asarray(open_images("sample:test").image(position).resize((224, 280), Image.Resampling.BICUBIC), float)
    tint = np.random.default_rng(position).uniform(0.4, 1, 3)
    return Image.fromarray((30 + grey * 0.75 * tint).astype(np.uint8))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 different pictures, and every kind of copy of the first 8, named after their original."""
    root = tmp_path_factory.mktemp("collection")
    for position in range(30):
        image, name = large(position), root / f"{position:02d}"
        image.save(f"{name}.png")
        if position < 8:
            shutil.copy(f"{name}.png", f"{name}-bytes.png")
            image.save(f"{name}-q35.jpg", quality=35)
            image.resize((112, 140)).save(f"{name}-small.jpg", quality=80)
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(f"{name}-mirror.jpg", quality=85)
            image.crop((5, 7, 219, 273)).save(f"{name}-crop.jpg", quality=85)
            ImageEnhance.Brightness(image).enhance(0.8).save(f"{name}-dark.jpg", quality=85)
    return root


@pytest.fixture(scope="module")
def index(collection: Path, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageIndex]:
    with ImageIndex.build(tmp_path_factory.mktemp("index") / "i", tiny_model, collection) as built:
        yield built


@pytest.fixture(scope="module")
def report(index: ImageIndex, collection: Path) -> Report:
    return find_duplicates(index, open_images(collection))


def of(path: str) -> str:
    return path[:2]


def test_every_copy_is_found_under_its_kind_and_beside_its_original_alone(report: Report) -> None:
    for kind in ("identical", "re-encoded", "edited"):
        groups = [group for group in report.groups if group.kind == kind]
        found = {(of(group.keep.path), other.path) for group in groups for other in group.others}
        assert all(of(path) == original for original, path in found)
        originals = {path for _, path in found} | {group.keep.path for group in groups}
        assert len(groups) == 8
        for copy, expected in COPIES.items():
            if expected == kind:
                assert {of(path) for path in originals if f"-{copy}." in path} == {f"{n:02d}" for n in range(8)}


def test_no_picture_is_superfluous_twice_or_kept_after_it_was_superfluous(report: Report) -> None:
    gone: set[str] = set()
    for kind in KINDS:
        for group in (group for group in report.groups if group.kind == kind):
            assert group.keep.path not in gone
            for other in group.others:
                assert other.path not in gone
                gone.add(other.path)
    assert len(gone) < report.pictures


def test_the_lossless_original_is_kept_over_its_smaller_and_its_lossy_copies(report: Report) -> None:
    for group in report.groups:
        if group.kind == "re-encoded":
            assert group.keep.path.endswith(".png")
            assert group.why == "largest file of the most pixels"
            assert {other.note for other in group.others} == {"re-encoded", "resized"}


def test_a_slow_fade_between_two_pictures_is_not_one_group(tiny_model: Model, tmp_path: Path) -> None:
    """Each step is the same picture as the one before; the first and the last have nothing in common."""
    steps = [Image.blend(large(0), large(7), step / 30) for step in range(31)]
    for step, image in enumerate(steps):
        image.save(tmp_path / f"{step:02d}.png")
    with ImageIndex.build(tmp_path / "i", tiny_model, tmp_path) as index:
        report = find_duplicates(index, open_images(tmp_path))
    groups = [group for group in report.groups if group.kind in ("re-encoded", "edited")]
    assert len(groups) > 2
    for group in groups:
        span = [int(member.path[:2]) for member in (group.keep, *group.others)]
        assert max(abs(span[0] - other) for other in span) < 12
    confirmed = [other.path for group in groups for other in group.others]
    assert len(confirmed) == len(set(confirmed))


def test_the_report_counts_pictures_whose_groups_may_be_incomplete(index: ImageIndex, collection: Path) -> None:
    notes = {}
    for by_code in (5, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spq.dupes.candidates.BY_CODE", by_code)
            patch.setattr("spq.dupes.find.BY_CODE", by_code)
            report = find_duplicates(index, open_images(collection), threshold=1e6)
        notes[report.crowded] = "of them have more than" in text(report)
    assert notes == {30: True, 0: False}


def test_edited_copies_have_a_note_of_the_edit(report: Report) -> None:
    for group in (group for group in report.groups if group.kind == "edited"):
        notes = {other.path[3:].split(".")[0]: other.note for other in group.others}
        assert group.keep.path.endswith(".png")  # upright, whole
        assert notes == {"mirror": "mirrored", "crop": "cropped", "dark": "brightness changed"}


def test_similar_pictures_lie_within_the_threshold_of_the_one_that_is_kept(report: Report, index: ImageIndex) -> None:
    assert report.threshold
    code = {item.path: item.code for item in index.store.items()}
    model = index.model
    for group in (group for group in report.groups if group.kind == "similar"):
        for other in group.others:
            pair = [np.array([code[member.path]]) for member in (group.keep, other)]
            distance = code_distances(pair[0], pair[1], model.codebooks, "l2")
            assert other.distance == pytest.approx(distance[0], rel=1e-4, abs=1e-5)
            assert within(distance, report.threshold.distance).all()


def test_the_calibration_is_seeded_and_reaches_its_recall_and_a_given_threshold_replaces_it(
    report: Report, index: ImageIndex, collection: Path
) -> None:
    images = open_images(collection)
    assert find_duplicates(index, images) == report
    assert report.threshold
    assert report.threshold.copies == 30  # one for each of the different pictures
    assert report.threshold.copies_found >= 0.9
    for given_threshold, found in ((0.0, 0.0), (1e9, 1.0)):
        given_report = find_duplicates(index, images, threshold=given_threshold).threshold
        assert given_report
        assert given_report.distance == given_threshold
        assert (given_report.false_matches == 1) == (found == 1)
    wider = find_duplicates(index, images, recall=1.0).threshold
    assert wider
    assert wider.copies_found == 1
    assert wider.distance >= report.threshold.distance


def test_missing_changed_and_broken_pictures_are_named_and_the_rest_is_judged(
    collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(collection, photos)
    (photos / "no-picture.jpg").write_bytes(b"none")
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        (photos / "00.png").unlink()
        large(9).save(photos / "01.png")
        broken = (photos / "02-small.jpg").stat()
        (photos / "02-small.jpg").write_bytes(b"\xff\xd8\xff" + b"\0" * (broken.st_size - 3))
        os.utime(photos / "02-small.jpg", ns=(broken.st_atime_ns, broken.st_mtime_ns))
        report = find_duplicates(index, open_images(photos))
    reasons = dict(report.left_out)
    assert set(reasons) == {"no-picture.jpg", "00.png", "01.png", "02-small.jpg"}
    assert "missing" in reasons["00.png"]
    assert "changed since it was indexed" in reasons["01.png"]
    assert not {"00.png", "01.png"} & {m.path for g in report.groups for m in (g.keep, *g.others)}
    assert sum(group.kind == "identical" for group in report.groups) == 6


def test_if_every_picture_is_missing_all_are_named_and_nothing_is_found(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        report = find_duplicates(index, open_images("sample:test"))
    assert (report.pictures, report.groups, report.threshold, len(report.left_out)) == (0, [], None, 60)


def test_codes_that_are_all_the_same_hide_no_copy(
    report: Report, collection: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    collapsed = Model(Network(tiny_recipe), tiny_recipe)
    collapsed.network.quantizer.codebooks.data.zero_()
    with ImageIndex.build(tmp_path / "i", collapsed, collection) as index:
        assert not index.store.codes()[1].any()
        again = find_duplicates(index, open_images(collection))
    sure = [[group for group in each.groups if group.kind != "similar"] for each in (report, again)]
    assert sure[0] == sure[1]
    assert again.threshold
    assert again.threshold.with_neighbour == again.threshold.false_matches == 1
    assert "hardly distinguish your pictures" in text(again)


@pytest.mark.parametrize("count", [1, 2])
def test_very_small_collections_have_nothing_or_one_pair(count: int, tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for n in range(count):
        large(0).save(tmp_path / "p" / f"{n}.png")
    with ImageIndex.build(tmp_path / "i", tiny_model, tmp_path / "p") as index:
        report = find_duplicates(index, open_images(tmp_path / "p"))
    assert [group.kind for group in report.groups] == ["identical"] * (count - 1)
    assert report.threshold is None
    assert text(report)


def test_nothing_is_written_or_deleted(index: ImageIndex, collection: Path) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in collection.rglob("*")}

    before, rows = files(), list(map(str, index.store.items()))
    find_duplicates(index, open_images(collection))
    assert files() == before
    assert list(map(str, index.store.items())) == rows


def test_an_index_of_dot_has_the_duplicates_that_the_same_codes_have_by_squared_distance(
    collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    reports = []
    for distance in ("sqeuclidean", "dot"):
        q = replace(tiny_model.config.quantizer, distance=distance)
        model = Model(tiny_model.network, replace(tiny_model.config, quantizer=q))
        with ImageIndex.build(tmp_path / distance, model, collection) as index:
            reports.append(find_duplicates(index, open_images(collection)))
    assert reports[0] == reports[1]
    assert reports[1].threshold
    assert reports[1].threshold.distance > 0


def test_the_table_the_csv_and_the_page_hold_every_group(report: Report, collection: Path, tmp_path: Path) -> None:
    written = text(report)
    write_csv(tmp_path / "new" / "d.csv", report)
    write_html(tmp_path / "new" / "d.html", report, open_images(collection))
    with (tmp_path / "new" / "d.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    members = [member.path for group in report.groups for member in (group.keep, *group.others)]
    assert sorted(row["path"] for row in rows) == sorted(members)
    assert sum(row["keep"] == "yes" for row in rows) == len(report.groups) == written.count("  keep: ")
    page = (tmp_path / "new" / "d.html").read_text("utf-8")
    assert page.count("<img") == sum(1 + min(len(group.others), 11) for group in report.groups)
    assert page.count("<section>") == len(report.groups)
    assert not any(outside in page for outside in ("<script", "http:", "https:", "url("))
    assert "nothing was deleted" in written
    assert "random pairs" in written
    assert json.loads(json.dumps(asdict(report)))["pictures"] == report.pictures == 78
