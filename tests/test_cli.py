"""The command line, in process. Only what a process alone can show runs in one of its own."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from spq.cli import main as cli
from spq.config import load_recipe
from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.pq import scan

TINY = """
[input]
size = 28
[backbone]
blocks = [1]
width = 8
stem_stride = 2
[quantizer]
num_codebooks = 4
codeword_dim = 4
[train]
batch_size = 16
epochs = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def model(tiny_model: Model, tmp_path: Path) -> Path:
    tiny_model.save(tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def index(tiny_model: Model, photos: Path, tmp_path: Path) -> Path:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    return tmp_path / "i"


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, and every folder; less what SQLite keeps beside a database it reads."""
    paths = (path for path in folder.rglob("*") if not path.name.startswith("items.sqlite-"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"/" for path in paths}


def test_help_is_there_for_every_command_and_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    listed = capsys.readouterr().out
    for command in ("train", "index", "search", "dupes", "eval", "serve", "info", "export", "doctor", "demo"):
        assert command in listed
        assert run(command, "--help") == 0
        assert f"Example: spq {command}" in capsys.readouterr().out


def test_without_arguments_it_helps_and_with_version_it_names_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "Usage: spq" in capsys.readouterr().out
    assert run("--version") == 0
    assert capsys.readouterr().out == f"spq {cli.__version__}\n"


def test_help_comes_in_a_blink() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "spq", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0  # 0.2 s on an idle machine; test machines are not


def test_train_index_search_eval_and_info_go_the_whole_way(
    recipe: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    m, i, query = tmp_path / "new.spq", tmp_path / "new.index", min(photos.rglob("*.png"))

    assert run("train", photos, "--out", m, "--recipe", recipe, "--bits", 32, "--device", "cpu", "--json") == 0
    trained = json.loads(capsys.readouterr().out)
    assert {"images", "views", "seconds", "epochs", "model"} <= set(trained)
    assert (trained["images"], trained["bits"], trained["epochs"]) == (60, 32, 1)

    assert run("index", photos, "--model", m, "--out", i, "--json") == 0
    assert json.loads(capsys.readouterr().out)["added"] == 60
    assert run("index", photos, "--model", m, "--out", i) == 0
    assert "60 unchanged" in capsys.readouterr().out

    assert run("search", i, query, "--top", 3, "--json", "--html", tmp_path / "answers.html") == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(hit) for hit in hits] == [{"rank", "id", "path", "distance"}] * 3
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert (tmp_path / "answers.html").read_text().count("<img") == 4

    assert run("eval", m, "--gallery", photos, "--queries", "sample:test", "--at", 10, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    wanted = {"protocol", "bits", "map", "map_at", "queries", "gallery", "distance", "seconds"}
    assert wanted <= set(report)
    assert (report["bits"], report["map_at"], report["queries"], report["gallery"]) == (32, 10, 500, 60)

    for path, kind in ((m, "model"), (i, "index")):
        assert run("info", path, "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert {"kind", "images", "bits", "bytes_per_image", "distance", "model"} <= set(facts)
        assert (facts["kind"], facts["images"], facts["bits"], facts["bytes_per_image"]) == (kind, 60, 32, 4)
        assert facts["model"] == trained["hash"]


def test_a_picture_from_stdin_gives_the_same_answers_as_its_file(
    index: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = min(photos.rglob("*.jpg"))
    assert run("search", index, query, "--json") == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(query.read_bytes())))
    assert run("search", index, "-", "--json") == 0
    assert capsys.readouterr().out == expected


def answers(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """The lines of `spq search --json`."""
    assert run("search", *arguments, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_option_of_search_is_that_of_python(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = sorted(photos.rglob("*.png"))[:3]
    with ImageIndex.open(index) as opened:
        id_ = opened.store.item(a.relative_to(photos).as_posix()).id
        for arguments, query, options in [
            ((a, b), [a, b], {}),
            ((a, "--not", b, "--not", c), a, {"negative": [b, c]}),
            ((a, "--box", "5,6,20,30"), a, {"box": (5, 6, 20, 30)}),
            ((a, "--where", "label in (shirt, coat) and width >= 56 and path ~ *.png"), a,
             {"where": "path ~ *.png and (label = coat or label = shirt)"}),
            ((a, "--max-distance", "0.3"), a, {"max_distance": 0.3}),
            ((a, "--fold"), a, {"fold": True}),
            ((a, b, "--not", c, "--weights", "2,1,0.5"), [a, b], {"negative": [c], "weights": [2, 1, 0.5]}),
            ((a, "--offset", 10, "--top", 5), a, {"offset": 10, "top": 5}),
            (("--id", id_), id_, {"exclude": [id_]}),
            ((b, "--id", id_, "--not", c), [b, id_], {"negative": [c], "exclude": [id_]}),
        ]:  # fmt: skip
            found = answers(capsys, index, *arguments)
            expected = opened.search(query, **{"top": 10, **options})
            assert expected
            assert [(hit["rank"], hit["path"], hit["id"]) for hit in found] == [
                (h.rank, h.path, h.id) for h in expected
            ]
            assert ("folded" in found[0]) == ("--fold" in arguments)
            assert all(hit["id"] != id_ for hit in found) or "--id" not in arguments


def test_weights_that_cannot_be_meant_and_no_answers_are_one_line(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = min(photos.rglob("*.png"))
    for weights, reason in (
        ("1,2", "--weights has 2 for 1 pictures"),
        ("x", "write --weights 1,2,0.5"),
        ("-1", "0..1,000,000"),
    ):
        assert run("search", index, query, "--weights", weights) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
    assert run("search", index, query, "--where", "label = nothing") == 0
    out, err = capsys.readouterr()
    assert not out
    assert "no picture is an answer" in err


def test_no_picture_and_no_part_of_an_index_or_a_model_is_written_over(
    index: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = min(photos.rglob("*.png"))
    before = tree(photos), tree(index), tree(model)
    for arguments, reason in [
        (("search", index, query, "--html", query), "is a picture, which would be lost"),
        (("search", index, query, "--html", photos), "is a folder; give a file"),
        (("dupes", index, "--csv", query), "is a picture"),
        (("export", index, "--to", "faiss", "--out", index / "items.sqlite"), "is a part of"),
        (("export", index, "--to", "onnx", "--out", index / "model" / "model.safetensors"), "is a part of"),
        (("info", model, "--html", model / "config.json"), "is a part of"),
    ]:
        assert run(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
    assert (tree(photos), tree(index), tree(model)) == before


def test_an_index_that_is_given_another_collection_says_so(
    index: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("index", photos / "bag", "--model", model, "--out", index) == 0
    assert f"held the pictures of {photos}" in capsys.readouterr().err


def test_folded_copies_are_told_on_the_line_and_in_json(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photos / "bag" / "001.jpg", photos / "bag" / "copy.jpg")
    assert run("index", photos, "--model", model, "--out", tmp_path / "new") == 0
    capsys.readouterr()
    query = (tmp_path / "new", photos / "bag" / "001.jpg", "--fold", "--where", "path in (bag/001.jpg, bag/copy.jpg)")
    (hit,) = answers(capsys, *query)
    assert sorted([hit["path"], *hit["folded"]]) == ["bag/001.jpg", "bag/copy.jpg"]
    assert run("search", *query) == 0
    assert capsys.readouterr().out.endswith("  (and 1 of the same code)\n")


def test_the_contact_sheet_shows_all_that_was_asked_with(
    index: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = sorted(photos.rglob("*.png"))[:3]
    sheet = tmp_path / "sheet.html"
    asked = (index, a, b, "--id", 3, "--not", c, "--top", 4, "--offset", 4, "--html", sheet)
    paths = [hit["path"] for hit in answers(capsys, *asked)]
    alts = re.findall('alt="([^"]*)"', sheet.read_text("utf-8"))
    with ImageIndex.open(index) as opened:
        third = opened.store.paths([3])[3]
    shown = [a.name, b.name, third, f"not {c.name}"]
    assert alts == [f"query: {name}" for name in shown] + [f"answer {n}: {path}" for n, path in enumerate(paths, 5)]
    assert run("search", index, a, "--box", "0,0,20,40", "--html", sheet) == 0
    assert 'width="80" height="160"' in sheet.read_text("utf-8")  # the region, enlarged
    assert run("search", index, a, "--where", "width = 1", "--html", sheet) == 0
    assert sheet.read_text("utf-8").count("<img") == 1
    (photos / third).unlink()
    capsys.readouterr()
    assert run("search", index, "--id", 3, "--html", sheet) == 1
    assert "no longer holds" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [("--method", "exact"), ("--method", "fast", "--threads", 1), ("--method", "ivf"), ("--recall-target", 0.9),
                ("--method", "ivf", "--nprobe", 1000), ("--method", "ivf", "--recall-target", 1)],
)  # fmt: skip
def test_every_method_finds_the_same_in_a_small_index(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...]
) -> None:
    query = next(photos.rglob("*.png"))
    assert run("search", index, query, "--top", 60) == 0
    expected = capsys.readouterr().out
    assert run("search", index, query, "--top", 60, *options) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert ("lists" in err) == ("ivf" in options)


def test_the_methods_of_the_command_line_are_those_of_the_scan() -> None:
    assert cli.Method == scan.Method


def test_index_lists_what_it_could_not_read_and_goes_on(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bag" / "broken.jpg").write_bytes(b"no picture")
    assert run("index", photos, "--model", model, "--out", tmp_path / "new") == 0
    out, err = capsys.readouterr()
    assert "60 added" in out
    assert "1 unreadable" in out
    assert "not indexed: bag/broken.jpg: " in err


def test_index_verifies_and_compacts_without_pictures_or_model(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("index", "--verify", "--compact", "--out", index) == 0
    shrunk, checked = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{index}: [\d,]+ bytes before, [\d,]+ after", shrunk)
    assert checked == f"{index}: no fault found"
    with sqlite3.connect(index / "items.sqlite") as database:
        database.execute("UPDATE items SET code = x'00' WHERE id = 3")
        database.execute("UPDATE items SET code = NULL WHERE id = 5")
    database.close()
    assert run("index", "--verify", "--out", index) == 1
    out, err = capsys.readouterr()
    assert [line.split(" (")[0] for line in out.splitlines()] == ["item 3", "item 5"]
    assert err == ""
    assert run("index", "--verify", "--json", "--out", index) == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 2


def test_index_keeps_vanished_pictures_when_told_to(
    index: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(list(photos.rglob("*.*g")))
    for path in sorted(photos.rglob("*.png"))[:4]:
        path.unlink()
    assert run("index", photos, "--model", model, "--out", index, "--keep-missing") == 0
    assert f"{before} pictures at 32 bits" in (out := capsys.readouterr().out)
    assert "4 kept without a file" in out
    assert run("index", photos, "--model", model, "--out", index, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["removed"], facts["kept"]) == (before - 4, 4, 0)


def test_data_goes_to_stdout_and_nothing_else_does(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("search", index, min(photos.rglob("*.png")), "--top", 2) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err == ""


def test_options_take_the_place_of_the_recipes_numbers(
    recipe: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--bits", 16, "--image-size", 16, "--epochs", 2, "--seed", 7, "--precision", "fp32", "--device", "cpu")
    assert run("train", photos, "--out", tmp_path / "n", "--recipe", recipe, *options) == 0
    config = Model.load(tmp_path / "n").config
    assert (config.quantizer.bits, config.input.size) == (16, 16)
    assert (config.train.epochs, config.train.seed, config.train.precision) == (2, 7, "fp32")
    assert config.train.batch_size == load_recipe(recipe).train.batch_size


def test_a_pretrained_backbone_gets_a_head_and_is_then_tuned(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    network = ("--backbone", "timm/test_efficientnet", "--weights", tmp_path / "w.safetensors", "--image-size", 32)
    head, tuned = tmp_path / "head", tmp_path / "tuned"
    assert run("train", photos, "--out", head, "--recipe", "head", *network, "--bits", 16, "--epochs", 2) == 0
    assert len(list((tmp_path / "cache" / "features").glob("*.npy"))) == 1
    config = Model.load(head).config
    assert (config.train.frozen, config.quantizer.bits, config.input.size) == (True, 16, 32)
    assert config.input.std == (0.229, 0.224, 0.225)  # what timm says of these weights, not the recipe's own
    assert run("train", photos, "--out", tuned, "--recipe", "finetune", "--start", head, "--epochs", 1) == 0
    frozen, moved = (Model.load(folder).network.backbone.state_dict() for folder in (head, tuned))
    assert any((frozen[name] != moved[name]).any() for name in frozen)
    assert Model.load(tuned).config.quantizer == config.quantizer
    assert run("index", photos, "--model", tuned, "--out", tmp_path / "index") == 0
    capsys.readouterr()
    assert run("search", tmp_path / "index", next(photos.rglob("*.png")), "--top", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rank"] == 1


# Every line: the arguments, the exit status, and words of the one line that says what is wrong.
# In them: {t} a folder, {p} pictures, {m} a model, {i} an index.
WRONG = [
    ("nonsense", 2, "No such command 'nonsense'"),
    ("train {p}", 2, "--out"),
    ("train {p} --out {t}/new --colour", 2, "--colour"),
    ("train {t}/nowhere --out {t}/new", 1, "no such folder or file"),
    ("train {t}/empty --out {t}/new", 1, "no pictures"),
    ("train {t}/broken --out {t}/new --recipe {t}/tiny.toml", 1, "none of the 20 pictures"),
    ("train {t}/tiny.toml --out {t}/new", 1, "not a folder"),
    ("train {p} --out {t}/new --bits 7", 2, "--bits 7"),
    ("train {p} --out {t}/new --bits 0", 2, "--bits 0"),
    ("train {p} --out {t}/new --bits many", 2, "--bits"),
    ("train {p} --out {t}/new --image-size 3", 2, "image size 3"),
    ("train {p} --out {t}/new --epochs 0", 2, "epochs 0"),
    ("train {p} --out {t}/new --minutes -1", 2, "--minutes -1"),
    ("train {p} --out {t}/new --minutes nan", 2, "--minutes nan"),
    ("train {p} --out {t}/new --minutes inf", 2, "--minutes inf"),
    ("train {p} --out {t}/new --recipe head --backbone timm/nonsense", 2, "nonsense"),
    ("train {p} --out {t}/new --recipe head --backbone timm/resnet18.typo", 2, "typo"),
    ("train {p} --out {t}/new --recipe head --backbone resnet", 2, "needs pretrained weights, and resnet has none"),
    ("train {p} --out {t}/new --backbone timm/vit_tiny_patch16_224", 2, "takes no pictures of 16 x 16 pixels"),
    ("train {p} --out {t}/new --minutes 1 --epochs 1", 2, "two budgets"),
    ("train {p} --out {t}/new --seed -1", 2, "--seed"),
    ("train {p} --out {t}/new --precision fp8", 2, "fp8"),
    ("train {p} --out {t}/new --device toaster", 2, "unknown device 'toaster'"),
    ("train {p} --out {t}/new --backbone vgg", 2, "unknown backbone 'vgg'"),
    ("train {p} --out {t}/new --backbone timm/nonsense", 2, "nonsense"),
    ("train {p} --out {t}/new --weights {t}/nowhere.safetensors", 2, "nowhere.safetensors"),
    ("train {p} --out {t}/new --recipe nonsense", 2, "no recipe 'nonsense'"),
    ("train {p} --out {t}/new --recipe {t}/nowhere.toml", 2, "cannot read recipe"),
    ("train {p} --out {t}/new --recipe {t}/unknown-key.toml", 2, "unknown key 'learning_rate'"),
    ("train {p} --out {t}/new --recipe {t}/no-toml.toml", 2, "is not TOML"),
    ("train {p} --out {p}", 2, "holds other things"),
    ("train {p} --out {t}/tiny.toml", 2, "is a file"),
    ("train {p} --out {m}", 2, "holds a training already"),
    ("train {p} --out {m} --resume", 2, "nothing to resume"),
    ("train {p} --out {t}/new --resume", 2, "nothing to resume"),
    ("index {p} --model {t}/nowhere --out {t}/new", 1, "no model at"),
    ("index {p} --model {t}/newer --out {t}/new", 1, "has format 99"),
    ("index {p} --model {t}/damaged --out {t}/new", 1, "damaged"),
    ("index {t}/nowhere --model {m} --out {t}/new", 1, "no such folder or file"),
    ("index {t}/empty --model {m} --out {t}/new", 1, "no pictures"),
    ("index {t}/broken --model {m} --out {t}/new", 1, "none of the 20 pictures"),
    ("index {p} --model {m} --out {p}", 1, "exists and is not an index"),
    ("index {p} --out {t}/new", 2, "give IMAGES with --model MODEL, or --compact or --verify"),
    ("index --out {i}", 2, "give IMAGES with --model MODEL"),
    ("index --model {m} --verify --out {i}", 2, "give IMAGES with --model MODEL"),
    ("index --verify --out {t}/nowhere", 1, "no index at"),
    ("index --compact --out {p}", 1, "no index at"),
    ("index {t}/empty --model {m} --out {i}", 1, "no pictures"),
    ("index {p} --model {m} --out {t}/tiny.toml", 2, "is a file"),
    ("index {p} --model {t}/other --out {i}", 1, "codes of two models do not mix"),
    ("index {p} --model {m} --out {t}/new --device gpu", 2, "unknown device 'gpu'"),
    ("search {t}/nowhere q.jpg", 1, "no index at"),
    ("search {i} {t}/nowhere.jpg", 1, "nowhere.jpg"),
    ("search {i} {t}/broken/00.jpg", 1, "00.jpg"),
    ("search {i} {p}", 1, "photos"),
    ("search {i} q.jpg --top 0", 2, "--top"),
    ("search {i}", 2, "nothing to be like"),
    ("search {i} --not {p}/bag/001.jpg", 2, "nothing to be like"),
    ("search {i} - --not -", 2, "stdin can be read once"),
    ("search {i} {p}/bag/001.jpg --not {t}/nowhere.jpg", 1, "nowhere.jpg"),
    ("search {i} --id 999", 1, "no picture with id 999"),
    ("search {i} --id one", 2, "--id"),
    ("search {i} {p}/bag/001.jpg --box 1,2,3", 2, "--box 1,2,3 is not x,y,width,height"),
    ("search {i} {p}/bag/001.jpg --box 0,0,57,56", 2, "not inside the picture of 56 x 56 pixels"),
    ("search {i} {p}/bag/001.jpg {p}/bag/011.jpg --box 0,0,5,5", 2, "--box belongs to one picture"),
    ("search {i} --id 1 --box 0,0,5,5", 2, "--box belongs to one picture"),
    ("search {i} --id 1 --where label=", 2, "--where: ends at 7; expected a value"),
    ("search {i} --id 1 --where colour=red", 2, "--where: unknown column colour at 1; columns are path, width"),
    ("search {i} --id 1 --where width=wide", 2, "--where: width is a number"),
    ("search {i} --id 1 --max-distance near", 2, "--max-distance"),
    ("search {i} --id 1 --max-distance nan", 2, "max distance nan"),
    ("search {i} --id 1 --offset -1", 2, "--offset"),
    ("search {i} {t}/q.png --method quick", 2, "quick"),
    ("search {i} {t}/q.png --method bucket", 2, "bucket is for codes of up to 16 bits"),
    ("search {i} {t}/q.png --threads 0", 2, "--threads"),
    ("search {i} {t}/q.png --nprobe 0", 2, "--nprobe"),
    ("search {i} {t}/q.png --recall-target 2", 2, "recall_target 2.0 is not a share"),
    ("search {i} {t}/q.png --recall-target 0.9 --nprobe 3", 2, "give one of them"),
    ("search {i} {t}/q.png --method exact --nprobe 3", 2, "exact looks at all codes"),
    ("eval {m}", 2, "--protocol"),
    ("eval {m} --protocol nonsense", 2, "no protocol 'nonsense'"),
    ("eval {m} --protocol flickr25k", 2, "--root"),
    ("eval {m} --protocol cifar10-spq --gallery {p} --queries {p}", 2, "either"),
    ("eval {m} --gallery {p}", 2, "--queries"),
    ("eval {m} --gallery {p} --queries {p}", 1, "are the same"),
    ("eval {m} --gallery {t}/broken --queries {p}", 1, "no labels"),
    ("eval {t}/nowhere --gallery {p} --queries sample:test", 1, "no model at"),
    ("eval {m} --gallery {p} --queries sample:test --plots {t}/tiny.toml", 2, "is a file"),
    ("dupes {t}/nowhere", 1, "no index at"),
    ("dupes {m}", 1, "no index at"),
    ("dupes {i} --threshold -1", 2, "--threshold"),
    ("dupes {i} --threshold nan", 2, "--threshold nan"),
    ("dupes {i} --recall 1.5", 2, "--recall"),
    ("dupes {i} --html {p}", 2, "is a folder"),
    ("dupes {i} --csv {p}", 2, "is a folder"),
    ("dupes {t}/astray", 1, "no such folder or file: /nowhere/photos"),
    ("export {i} --to nonsense --out {t}/new", 2, "'nonsense' is not one of"),
    ("export {i} --out {t}/new", 2, "--to"),
    ("export {i} --to codes --out {t}/new.txt", 2, "end it in .npz or .parquet"),
    ("export {i} --to faiss --out {p}", 2, "is a folder"),
    ("export {m} --to faiss --out {t}/new", 2, "is a model and has no codes"),
    ("train {p} --out {t}/new --start {m} --bits 16", 2, "--bits is the model's own with --start"),
    ("train {p} --out {t}/new --frozen", 2, "a frozen backbone needs pretrained weights"),
    ("train {p} --out {t}/new --start {t}/nowhere", 1, "no model at"),
    ("export {m} --to codes --out {t}/new.npz", 2, "is a model and has no codes"),
    ("export {t}/nowhere --to onnx --out {t}/new", 1, "nothing at"),
    ("export {p} --to faiss --out {t}/new", 1, "no index at"),
    ("export {p} --to onnx --out {t}/new", 1, "no model at"),
    ("export {t}/damaged --to onnx --out {t}/new", 1, "damaged"),
    ("info {t}/nowhere", 1, "nothing at"),
    ("info {p}", 1, "no model at"),
    ("info {t}/newer", 1, "has format 99"),
    ("demo {t}/nowhere --out {t}/new", 1, "no such folder or file"),
    ("demo {t}/broken --out {t}/new --minutes 0.01", 1, "none of the 20 pictures"),
    ("demo {p} --out {p}", 2, "holds other things"),
]


@pytest.fixture
def places(model: Path, index: Path, photos: Path, recipe: Path, tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    shutil.copy(next(photos.rglob("*.png")), tmp_path / "q.png")
    for position in range(20):
        (tmp_path / "broken" / f"{position:02d}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "unknown-key.toml").write_text("[train]\nlearning_rate = 1.0\n")
    (tmp_path / "no-toml.toml").write_text("learning rate: 1\n")
    for name in ("newer", "damaged", "other"):
        shutil.copytree(model, tmp_path / name)
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "newer" / "config.json").write_text(json.dumps({**config, "format": 99, "spq_version": "99.0"}))
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"no weights")
    other = Model.load(model)
    other.network.quantizer.codebooks.data.mul_(2)
    Model(other.network, other.config).save(tmp_path / "other")
    shutil.copytree(index, tmp_path / "astray")
    manifest = json.loads((index / "manifest.json").read_text())
    (tmp_path / "astray" / "manifest.json").write_text(json.dumps({**manifest, "source": "/nowhere/photos"}))
    return {"t": tmp_path, "p": photos, "m": model, "i": index}


def test_whatever_is_wrong_gives_one_line_a_status_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(places["t"])
    before, wrong = tree(places["t"]), []
    for line, expected, words in WRONG:
        status = cli.run(line.format(**places).split())
        out, err = capfd.readouterr()
        lines = [text for text in err.splitlines() if not text.startswith(("1/3", "encoding"))]  # progress
        after = tree(places["t"])
        if status != expected or out or len(lines) != 1 or not lines[0].startswith("spq: ") or words not in lines[0]:
            wrong.append(f"{line}\n  status {status}, not {expected}, out {out!r}, err {err!r}")
        if after != before:
            wrong.append(f"{line}\n  wrote {sorted({path for path, _ in set(after.items()) ^ set(before.items())})}")
            before = after
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OSError(28, "No space left on device", "/full/model.safetensors"), 1, "No space left on device: /full/model"),
        (PermissionError(13, "Permission denied", "/locked"), 1, "Permission denied: /locked"),
        (OSError("a disk of its own kind"), 1, "a disk of its own kind"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 9 vs 1"), 1, "is the disk full?"),
        (MemoryError(), 1, "out of memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to\nallocate 2 GiB"),
            1,
            "out of memory; close other programs",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            1,
            "out of memory; close other programs",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures_of_the_machine_are_one_line_too(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr("spq.cli.describe.facts_of", fail)
    assert run("info", "anything") == status
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert len(err.splitlines()) <= 1


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("spq.cli.describe.facts_of", fail)
    with pytest.raises(ZeroDivisionError):
        run("info", "anything")


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    code = "import sys; from spq.cli import main as cli; cli.app.command('many')(lambda: print('x\\n' * 10**6)); cli.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "many"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout
    assert process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_an_interrupted_training_says_how_to_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(images: object, recipe: object, out: Path, **options: object) -> None:
        (out / "checkpoints").mkdir(parents=True)
        (out / "checkpoints" / "last.pt").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("spq.training.train.train", interrupted)
    assert run("train", photos, "--out", tmp_path / "n") == 130
    assert capsys.readouterr().err == f"spq: stopped; go on with: spq train {photos} --out {tmp_path / 'n'} --resume\n"


def test_options_that_a_resumed_training_does_not_look_at_are_named(
    recipe: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ("train", photos, "--out", tmp_path / "m", "--bits", 32, "--device", "cpu", "--resume")
    assert run(*again[:-1], "--recipe", recipe, "--epochs", 1) == 0
    capsys.readouterr()
    assert run(*again, "--epochs", 1) == 0
    assert "as it began" not in capsys.readouterr().err
    assert run(*again, "--minutes", 3, "--seed", 5) == 0
    assert (
        f"the training in {tmp_path / 'm'} goes on as it began, without --minutes, --seed;" in capsys.readouterr().err
    )


def test_a_name_that_is_not_utf8_is_shown_and_kept(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(min(photos.rglob("*.png")), photos / odd)
    except OSError:  # a file system that only takes UTF-8 has no such names
        return
    assert run("index", photos, "--model", model, "--out", tmp_path / "odd") == 0
    capsys.readouterr()
    assert run("search", tmp_path / "odd", photos / odd, "--top", 2) == 0
    assert "caf\\xe9.png" in capsys.readouterr().out


def test_dupes_tells_of_copies_in_a_table_json_csv_and_a_page(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = min((photos / "bag").iterdir())
    shutil.copy(original, photos / "bag" / "copy of it.png")
    (photos / "bag" / "broken.jpg").write_bytes(b"no picture")
    assert run("index", photos, "--model", model, "--out", tmp_path / "new") == 0
    capsys.readouterr()

    assert run("dupes", tmp_path / "new", "--csv", tmp_path / "d.csv", "--html", tmp_path / "d.html") == 0
    out, err = capsys.readouterr()
    assert out.startswith("identical files: 1 group, 1 beside those to keep\n  = bag/")
    assert "nothing was deleted" in out
    assert err.splitlines() == [line for line in err.splitlines() if line.startswith("left out: bag/broken.jpg: ")]
    assert "copy of it.png" in (tmp_path / "d.csv").read_text()
    assert "copy of it.png" in (tmp_path / "d.html").read_text()

    assert run("dupes", tmp_path / "new", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    (group,) = (group for group in facts["groups"] if group["kind"] == "identical")
    assert {group["keep"]["path"], group["others"][0]["path"]} == {f"bag/{original.name}", "bag/copy of it.png"}
    assert facts["left_out"][0][0] == "bag/broken.jpg"
    assert 0 <= facts["threshold"]["false_matches"] <= 1


def test_export_says_what_it_wrote_and_that_faiss_ranks_by_squares(
    index: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, to, name in (
        (index, "faiss", "x"),
        (index, "codes", "x.npz"),
        (model, "onnx", "m"),
        (index, "onnx", "n"),
    ):
        assert run("export", path, "--to", to, "--out", tmp_path / "out" / name) == 0
        out, err = capsys.readouterr()
        assert (len(out.splitlines()), err) == (1, "")
        assert ("FAISS sums squares; the index itself ranks by l2" in out) == (to == "faiss")
        assert run("export", path, "--to", to, "--out", tmp_path / "out" / name, "--json") == 0
        assert {"out", "model", "distance", "bits"} <= set(json.loads(capsys.readouterr().out))
    assert (tmp_path / "out" / "m").read_bytes() == (tmp_path / "out" / "n").read_bytes()


def test_a_model_of_dot_is_indexed_searched_exported_and_measured(
    tiny_model: Model, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    q = replace(tiny_model.config.quantizer, distance="dot")
    model = Model(tiny_model.network, replace(tiny_model.config, quantizer=q))
    model.save(tmp_path / "m")
    assert run("index", photos, "--model", tmp_path / "m", "--out", tmp_path / "i") == 0
    capsys.readouterr()
    assert run("search", tmp_path / "i", "--id", 3, "--json") == 0
    distances = [json.loads(line)["distance"] for line in capsys.readouterr().out.splitlines()]
    assert distances == sorted(distances)
    assert distances[0] < 0
    assert run("search", tmp_path / "i", "--id", 3, "--max-distance", distances[4], "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5
    assert run("export", tmp_path / "i", "--to", "faiss", "--out", tmp_path / "x.faiss") == 0
    assert "distance dot (FAISS gives inner products, the largest first" in capsys.readouterr().out
    queries = ("--gallery", photos, "--queries", "sample:test", "--at", 10, "--json")
    scores = {}
    for distance in ("dot", "l2"):
        assert run("eval", tmp_path / "m", *queries, "--distance", distance) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["distance"] == distance
        scores[distance] = report["map"]
    assert run("eval", tmp_path / "m", *queries) == 0
    assert json.loads(capsys.readouterr().out)["map"] == scores["dot"] != scores["l2"]
    assert run("eval", tmp_path / "m", *queries, "--distance", "cosine") == 2
    assert "'cosine' is not one of 'l2', 'sqeuclidean', 'dot'" in capsys.readouterr().err


def test_doctor_names_the_device_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"device", "threads", "bf16", "pictures", "extras", "versions", "missing"} <= set(facts)
    assert "JPEG" in facts["pictures"]
    assert all(hint.startswith("pip install") for hint in facts["missing"].values())
    assert run("doctor") == 0
    assert "torch" in capsys.readouterr().out


def test_the_demo_answers_from_the_users_own_pictures(
    recipe: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.config.load_recipe", lambda name: load_recipe(recipe))
    for _ in range(2):  # a second one takes the place of the first
        assert run("demo", photos, "--out", tmp_path / "d", "--minutes", 0.01, "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["images"], facts["bits"]) == (60, 64)
    page = (tmp_path / "d" / "answers.html").read_text()
    assert page.count("<section>") == 8
    assert page.count("<img") == 8 * 9  # each query and eight answers, itself not among them
    with Image.open(tmp_path / "d" / "answers.png") as sheet:
        assert sheet.width > 500
