from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from drawn import photo
from spq import ImageIndex
from spq.cli.reports.dupes_report import superfluous, text, to_json, write_csv, write_html
from spq.config import Recipe
from spq.data.open import open_images
from spq.dupes.facts import Facts
from spq.dupes.find import CONFIRMED, KINDS, Options, Report, _among_kept, _Distinct, find_duplicates
from spq.dupes.keep import Preference
from spq.dupes.signatures import grey_thumb
from spq.dupes.threshold import code_distances, within
from spq.errors import DataError
from spq.index.codebooks import decoder_of
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
    """8 different pictures, and every kind of copy of the first 2, named after their original."""
    root = tmp_path_factory.mktemp("collection")
    for position in range(8):
        image, name = large(position), root / f"{position:02d}"
        image.save(f"{name}.png")
        if position < 2:
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
        assert len(groups) == 2
        for copy, expected in COPIES.items():
            if expected == kind:
                assert {of(path) for path in originals if f"-{copy}." in path} == {f"{n:02d}" for n in range(2)}


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
            assert group.why == "lossless"
            assert {other.note for other in group.others} == {"re-encoded", "resized"}


def test_a_slow_fade_between_two_pictures_is_not_one_group(tiny_model: Model, tmp_path: Path) -> None:
    """Each step is the same picture as the one before; the first and the last have nothing in common."""
    steps = [Image.blend(large(0), large(7), step / 11) for step in range(12)]
    for step, image in enumerate(steps):
        image.save(tmp_path / f"{step:02d}.png")
    with ImageIndex.build(tmp_path / "i", tiny_model, tmp_path) as index:
        report = find_duplicates(index, open_images(tmp_path))
    groups = [group for group in report.groups if group.kind in ("re-encoded", "edited")]
    assert len(groups) >= 2
    for group in groups:
        span = [int(member.path[:2]) for member in (group.keep, *group.others)]
        assert max(abs(span[0] - other) for other in span) < 7
    confirmed = [other.path for group in groups for other in group.others]
    assert len(confirmed) == len(set(confirmed))


def test_the_report_counts_pictures_whose_groups_may_be_incomplete(index: ImageIndex, collection: Path) -> None:
    notes = {}
    for by_code in (3, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spq.dupes.candidates.BY_CODE", by_code)
            patch.setattr("spq.dupes.find.BY_CODE", by_code)
            report = find_duplicates(index, open_images(collection), Options(threshold=1e6))
        notes[report.crowded] = "of them have more than" in text(report)
    assert notes == {8: True, 0: False}


def test_edited_copies_have_a_note_of_the_edit(report: Report) -> None:
    for group in (group for group in report.groups if group.kind == "edited"):
        notes = {other.path[3:].split(".")[0]: other.note for other in group.others}
        assert group.keep.path.endswith(".png")  # upright, whole
        assert notes == {"mirror": "mirrored", "crop": "cropped", "dark": "darker"}


def test_similar_pictures_lie_within_the_threshold_of_the_one_that_is_kept(report: Report, index: ImageIndex) -> None:
    assert report.threshold
    code = {item.path: item.code for item in index.store.items()}
    model = index.model
    for group in (group for group in report.groups if group.kind == "similar"):
        for other in group.others:
            pair = [np.array([code[member.path]]) for member in (group.keep, other)]
            distance = code_distances(pair[0], pair[1], decoder_of(model), "l2")
            assert other.distance == pytest.approx(distance[0], rel=1e-4, abs=1e-5)
            assert within(distance, report.threshold.distance).all()


def test_the_calibration_is_seeded_and_reaches_its_recall_and_a_given_threshold_replaces_it(
    report: Report, index: ImageIndex, collection: Path
) -> None:
    images = open_images(collection)
    assert find_duplicates(index, images) == report
    assert report.threshold
    assert report.threshold.copies == 8  # one for each of the different pictures
    assert report.threshold.copies_found >= 0.9
    for given_threshold, found in ((0.0, 0.0), (1e9, 1.0)):
        given_report = find_duplicates(index, images, Options(threshold=given_threshold)).threshold
        assert given_report
        assert given_report.distance == given_threshold
        assert (given_report.false_matches == 1) == (found == 1)
    wider = find_duplicates(index, images, Options(recall=1.0)).threshold
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
        large(9).save(photos / "07.png")
        broken = (photos / "01-small.jpg").stat()
        (photos / "01-small.jpg").write_bytes(b"\xff\xd8\xff" + b"\0" * (broken.st_size - 3))
        os.utime(photos / "01-small.jpg", ns=(broken.st_atime_ns, broken.st_mtime_ns))
        report = find_duplicates(index, open_images(photos))
    reasons = dict(report.left_out)
    assert set(reasons) == {"no-picture.jpg", "00.png", "07.png", "01-small.jpg"}
    assert "missing" in reasons["00.png"]
    assert "changed since it was indexed" in reasons["07.png"]
    assert not {"00.png", "07.png"} & {m.path for g in report.groups for m in (g.keep, *g.others)}
    assert sum(group.kind == "identical" for group in report.groups) == 1


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
    collapsed.network.quantizer.codebooks.data.fill_(1)  # every codeword is the nearest; the first one wins
    with ImageIndex.build(tmp_path / "i", collapsed, collection) as index:
        assert not index.store.codes()[1].any()
        again = find_duplicates(index, open_images(collection))
    sure = [[group for group in each.groups if group.kind != "similar"] for each in (report, again)]
    assert sure[0] == sure[1]
    assert again.threshold
    assert again.threshold.with_neighbour == again.threshold.false_matches == 1
    assert "hardly distinguish your pictures" in text(again)


def test_a_folder_without_an_index_has_the_same_confirmed_copies(report: Report, collection: Path) -> None:
    found = find_duplicates(None, open_images(collection))
    confirmed = [
        [(g.kind, g.keep.path, g.why, [(m.path, m.note) for m in g.others]) for g in each.groups if g.is_confirmed]
        for each in (report, found)
    ]
    assert confirmed[0] == confirmed[1]
    assert found.threshold is None
    assert found.freed == sum(member.bytes for member in superfluous(found))


def test_a_candidate_of_a_copy_becomes_one_of_the_picture_that_is_kept() -> None:
    image = large(2)
    turned, framed = image.transpose(Image.Transpose.ROTATE_90), Image.new("RGB", (224, 400))
    framed.paste(image, (0, 60))
    thumbs = np.stack([grey_thumb(each) for each in (image, turned, framed, Image.radial_gradient("L").convert("RGB"))])
    distinct = _Distinct(np.array([3, 1, 0, 2]), thumbs, None, [Facts(str(row), 0, 0, 64, 64, b"") for row in range(4)])
    kept = np.array([0, 1, 2, 1])  # the picture in row 3 is a copy of the turned one in row 1
    pairs = np.array([[0, 1], [0, 2], [0, 3], [2, 3]])  # numbers of thumbs
    assert _among_kept(distinct, kept, pairs).tolist() == [[0, 2], [1, 0]]


def test_only_copies_that_have_less_are_superfluous(tmp_path: Path) -> None:
    image = large(2)
    image.save(tmp_path / "plain.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.jpg", quality=70)
    image.convert("L").save(tmp_path / "grey.jpg", quality=85)
    found = find_duplicates(None, open_images(tmp_path))
    kept = {member.path: member.keep for group in found.groups for member in (group.keep, *group.others)}
    assert kept["grey.jpg"] == "no"
    assert sorted((kept["plain.png"], kept["mirrored.jpg"])) == ["look", "yes"]
    assert [member.path for member in superfluous(found)] == ["grey.jpg"]


@pytest.mark.parametrize("name", ["film.gif", "pages.tif"])
def test_a_file_with_further_pages_or_frames_is_no_copy_of_its_first_one(tmp_path: Path, name: str) -> None:
    first, others = large(2).convert("L"), [large(position).convert("L") for position in (3, 4)]
    first.save(tmp_path / "first.png")
    first.save(tmp_path / name, save_all=True, append_images=others)
    found = find_duplicates(None, open_images(tmp_path))
    assert [group.kind for group in found.groups] == ["almost"]
    assert superfluous(found) == []


def shifted(position: int, x: int) -> Image.Image:
    """A scene with a thing that moves."""
    image = large(position).resize((300, 300))
    image.paste((250, 60, 60), (40 + x, 200, 75 + x, 240))
    return image


def test_pictures_that_differ_in_one_place_are_shown_with_it_and_none_is_superfluous(tmp_path: Path) -> None:
    shifted(1, 0).save(tmp_path / "a.png")
    shifted(1, 150).save(tmp_path / "b.png")
    report = find_duplicates(None, open_images(tmp_path))
    (group,) = report.groups
    assert (group.kind, group.why, group.is_confirmed) == ("almost", "", False)
    region = group.others[0].region
    assert region
    x, y, width, height = region
    assert 0.5 < y + height / 2 < 0.9
    assert width * height < 0.5
    assert 0 <= x <= 1
    assert superfluous(report) == []
    facts = to_json(report)["groups"][0]
    assert (facts["keep"], facts["others"], len(facts["look"])) == (None, [], 2)
    write_html(tmp_path / "d.html", report, open_images(tmp_path))
    assert "differs here" in (tmp_path / "d.html").read_text("utf-8")


def with_exif(seconds: float, camera: str = "X100") -> Image.Exif:
    exif = Image.Exif()
    exif[0x10F], exif[0x110] = "Maker", camera
    inner = exif.get_ifd(0x8769)
    inner[0x9003], inner[0x9291] = f"2024:05:01 10:00:{int(seconds):02d}", f"{round(seconds % 1 * 100):02d}"
    return exif


def test_pictures_of_a_burst_are_a_class_of_their_own(tmp_path: Path) -> None:
    for n in range(3):
        shifted(2, 40 * n).save(tmp_path / f"{n}.jpg", quality=92, exif=with_exif(1 + 0.4 * n))
    shifted(2, 80).save(tmp_path / "later.jpg", quality=91, exif=with_exif(50))
    shutil.copy(tmp_path / "0.jpg", tmp_path / "0-copy.jpg")
    shifted(2, 0).resize((150, 150)).save(tmp_path / "0-small.jpg", quality=80)
    report = find_duplicates(None, open_images(tmp_path))
    bursts = [group for group in report.groups if group.kind == "burst"]
    assert [[m.path.split("-")[0].split(".")[0] for m in (g.keep, *g.others)] for g in bursts] == [["0", "1", "2"]]
    assert bursts[0].others[0].note == "taken 0.4 s after the first"
    assert not {"1.jpg", "2.jpg"} & {member.path for member in superfluous(report)}


def test_two_shots_of_a_tripod_are_no_copies_although_their_pixels_agree(tmp_path: Path) -> None:
    large(3).save(tmp_path / "a.jpg", quality=92, exif=with_exif(1))
    large(3).save(tmp_path / "b.jpg", quality=90, exif=with_exif(3))
    large(3).save(tmp_path / "c.jpg", quality=88, exif=with_exif(1))
    report = find_duplicates(None, open_images(tmp_path))
    assert [(g.kind, g.keep.path, [m.path for m in g.others]) for g in report.groups] == [
        ("re-encoded", "a.jpg", ["c.jpg"]),
        ("burst", "a.jpg", ["b.jpg"]),
    ]


def test_a_camera_original_is_kept_before_a_larger_copy(tmp_path: Path) -> None:
    large(4).save(tmp_path / "long-name-of-the-camera.jpg", quality=85, exif=with_exif(1))
    large(4).resize((448, 560), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=95)
    (group,) = find_duplicates(None, open_images(tmp_path)).groups
    assert (group.keep.path, group.why) == ("long-name-of-the-camera.jpg", "has the data of a camera (EXIF)")
    preferred = find_duplicates(None, open_images(tmp_path), Options(preference=Preference(("a.*",)))).groups
    assert [(g.keep.path, g.why) for g in preferred] == [("a.jpg", "preferred by your pattern")]


def test_links_are_no_copies_that_could_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    large(5).save(tmp_path / "deep" / "picture of a holiday.png")
    (tmp_path / "a.png").symlink_to("deep/picture of a holiday.png")
    os.link(tmp_path / "deep" / "picture of a holiday.png", tmp_path / "deep" / "the same picture, again.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "deep" / "a real copy of the picture.png")
    report = find_duplicates(None, open_images(tmp_path))
    (group,) = report.groups
    kept = {member.path: member.keep for member in (group.keep, *group.others)}
    assert kept["a.png"] == "link"
    assert sorted(kept.values()).count("yes") == 1
    assert not Path(group.keep.file).is_symlink()
    assert report.freed in (0, group.keep.bytes)


def test_new_pictures_are_compared_with_a_reference_and_with_nothing_else(
    collection: Path, index: ImageIndex, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    shutil.copy(collection / "03.png", tmp_path / "new" / "same.png")
    large(6).save(tmp_path / "new" / "again.jpg", quality=60)
    for name in ("x.png", "y.png"):
        large(25).save(tmp_path / "new" / name)  # copies of each other
    for reference in ((None, open_images(collection)), (index, open_images(collection))):
        report = find_duplicates(None, open_images(tmp_path / "new"), Options(reference=reference))
        found = {(m.path, g.keep.path[:2], g.kind) for g in report.groups if g.is_confirmed for m in g.others}
        assert found == {("same.png", "03", "identical"), ("again.jpg", "06", "re-encoded")}
        assert report.pictures == 4
        assert {m.path for m in superfluous(report)} == {"same.png", "again.jpg"}
    turned_round = find_duplicates(
        None, open_images(collection), Options(reference=(None, open_images(tmp_path / "new")))
    )
    assert {g.keep.path for g in turned_round.groups if g.is_confirmed} == {"same.png", "again.jpg"}


def test_a_file_of_both_collections_belongs_to_the_reference_by_whatever_name(tmp_path: Path) -> None:
    for name, picture in (("new/a.png", 3), ("new/b.png", 4), ("new/old/c.png", 3), ("new/old/d.png", 5)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        large(picture).save(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "new")
    os.link(tmp_path / "new" / "old" / "d.png", tmp_path / "new" / "hard.png")
    (tmp_path / "new" / "soft.png").symlink_to(tmp_path / "new" / "old" / "d.png")
    new = open_images(tmp_path / "new")
    for old in (tmp_path / "new" / "old", tmp_path / "link" / "old"):
        report = find_duplicates(None, new, Options(reference=(None, open_images(old))))
        assert (report.pictures, report.in_both) == (2, 4)
        ((kept, copy),) = [(g.keep.path, g.others[0].path) for g in report.groups]
        assert (kept, copy, [m.path for m in superfluous(report)]) == ("c.png", "a.png", ["a.png"])
        with pytest.raises(DataError, match=r"all pictures of .*old are files of .*new too; give another collection"):
            find_duplicates(None, open_images(old), Options(reference=(None, new)))
    with pytest.raises(DataError, match=r"are files of .*link too"):
        find_duplicates(None, new, Options(reference=(None, open_images(tmp_path / "link"))))


def test_a_container_has_no_copies_in_itself(tmp_path: Path) -> None:
    large(3).save(tmp_path / "a.png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "a.png")
    (tmp_path / "b.tar").symlink_to(tmp_path / "a.tar")
    for name in ("a.tar", "b.tar"):
        with pytest.raises(DataError, match="are files of"):
            find_duplicates(
                None, open_images(tmp_path / "a.tar"), Options(reference=(None, open_images(tmp_path / name)))
            )


def test_pairs_that_the_user_called_no_duplicates_are_never_grouped(collection: Path) -> None:
    images = open_images(collection)
    hash_of = {
        name: hashlib.blake2b((collection / name).read_bytes(), digest_size=16).hexdigest() for name in images.ids
    }
    pairs = [("00.png", "00-q35.jpg"), ("01.png", "01-bytes.png"), ("01.png", "01-mirror.jpg")]
    apart = frozenset(frozenset((hash_of[a], hash_of[b])) for a, b in pairs)
    found = {
        frozenset((g.keep.path, m.path))
        for g in find_duplicates(None, images, Options(apart=apart)).groups
        for m in g.others
    }
    assert not found & set(map(frozenset, pairs))
    assert frozenset(("00.png", "00-bytes.png")) in found


def test_no_model_is_needed_and_torch_is_not_loaded(collection: Path) -> None:
    code = (
        "import sys; from spq.dupes.find import find_duplicates; from spq.data.open import open_images; "
        f"find_duplicates(None, open_images({str(collection)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
    bare = find_duplicates(None, open_images(tmp_path / "p"))
    assert [group.kind for group in bare.groups] == ["identical"] * (count - 1)


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
    write_csv(tmp_path / "d.csv", report)
    write_html(tmp_path / "d.html", report, open_images(collection))
    with (tmp_path / "d.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    members = [member.path for group in report.groups for member in (group.keep, *group.others)]
    assert sorted(row["path"] for row in rows) == sorted(members)
    confirmed = [group for group in report.groups if group.is_confirmed]
    assert sum(row["keep"] == "yes" for row in rows) == len(confirmed) == written.count("  keep: ")
    assert {row["keep"] for row in rows if row["kind"] not in CONFIRMED} <= {"look"}
    assert all(Path(row["file"]).samefile(collection / row["path"]) for row in rows)
    page = (tmp_path / "d.html").read_text("utf-8")
    assert page.count("<img") == sum(1 + min(len(group.others), 11) for group in report.groups)
    assert page.count("<section>") == len(report.groups)
    assert not any(outside in page for outside in ("<script", "http:", "https:", "url("))
    assert "nothing was deleted" in written
    assert "random pairs" in written
    assert to_json(report)["pictures"] == report.pictures == 20


def around(image: Image.Image, size: tuple[int, int], place: tuple[int, int], colour: str = "white") -> Image.Image:
    ground = Image.new("RGB", size, colour)
    ground.paste(image, place)
    return ground


def written(image: Image.Image, place: tuple[int, int], text: str, size: int, colour: str) -> Image.Image:
    ImageDraw.Draw(image).text(place, text, fill=colour, font=ImageFont.load_default(size))
    return image


def between_blurred_bars(image: Image.Image) -> Image.Image:
    ground = image.resize((480, 853)).filter(ImageFilter.GaussianBlur(16))
    ground.paste(image, (0, 266))
    return ground


PUT_AROUND = {
    "caption": lambda image: written(
        around(image, (480, 400), (0, 80)), (12, 16), "When it works at once\nand nobody knows why", 24, "black"
    ),
    "caption below": lambda image: written(around(image, (480, 380), (0, 0)), (30, 336), "Summer 2019", 26, "black"),
    "print": lambda image: written(around(image, (520, 440), (20, 20)), (150, 370), "at the lake", 30, "navy"),
    "phone": lambda image: written(around(image, (480, 853), (0, 266), "black"), (24, 12), "9:41", 18, "white"),
    "bars": between_blurred_bars,
}


@pytest.mark.parametrize("seed", [7, 8])
@pytest.mark.parametrize("how", list(PUT_AROUND))
def test_a_picture_with_something_put_around_it_is_found_and_the_plain_one_is_kept(
    tmp_path: Path, how: str, seed: int
) -> None:
    image = photo(seed, (480, 320))
    image.save(tmp_path / "plain.jpg", quality=92)
    PUT_AROUND[how](image).save(tmp_path / "put.jpg", quality=85)
    photo(seed + 20, (480, 320)).save(tmp_path / "other.jpg")
    (group,) = find_duplicates(None, open_images(tmp_path)).groups
    assert (group.kind, group.keep.path) == ("edited", "plain.jpg")
    ((path, note),) = [(member.path, member.note) for member in group.others]
    assert (path, note) in {("put.jpg", "frame added"), ("put.jpg", "border added")}


def exposed(position: int, exposure: float, path: Path) -> None:
    """Save a shot of a scene with the data of a camera, all within one second."""
    exif = Image.Exif()
    exif[0x10F], exif[0x110] = "Make", "X100"
    inner = exif.get_ifd(0x8769)
    inner[0x9003], inner[0x829A] = "2024:05:01 10:00:00", exposure / 100
    values = (np.asarray(photo(position), float) / 255) ** (1 / exposure**0.4) * 255
    Image.fromarray(np.rint(values).astype(np.uint8)).save(path, quality=90, exif=exif)


def test_the_shots_of_a_bracket_are_a_burst_and_no_edited_copies(tmp_path: Path) -> None:
    for position in range(2):
        for n, exposure in enumerate((1.0, 1.5)):
            exposed(position, exposure, tmp_path / f"{position}-{n}.jpg")
    groups = find_duplicates(None, open_images(tmp_path)).groups
    assert [(g.kind, g.keep.path, [m.path for m in g.others]) for g in groups] == [
        ("burst", "0-0.jpg", ["0-1.jpg"]),
        ("burst", "1-0.jpg", ["1-1.jpg"]),
    ]


def test_the_picture_of_a_live_photo_or_with_a_sidecar_is_kept(tmp_path: Path) -> None:
    (tmp_path / "long name").mkdir()
    for position, other in enumerate(("0.MOV", "1.jpg.xmp")):
        photo(position).save(tmp_path / "long name" / f"{position}.jpg", quality=80)
        photo(position).save(tmp_path / f"{position}.jpg", quality=95)
        (tmp_path / "long name" / other).write_bytes(b"x")
    shutil.copy(tmp_path / "long name" / "0.jpg", tmp_path / "0c.jpg")
    report = find_duplicates(None, open_images(tmp_path))
    assert {(g.keep.path, g.why) for g in report.groups} == {
        (f"long name/{n}.jpg", "has a sidecar or a video beside it") for n in range(2)
    }
    assert sorted(m.path for m in superfluous(report)) == ["0.jpg", "0c.jpg", "1.jpg"]
