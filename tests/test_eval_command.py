"""`spq eval`."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from conftest import assert_refused, run_spq
from spq.cli.eval_command import mismatch
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.data.protocols import _PROTOCOLS, Protocol, split_flickr25k
from spq.model.model import Model

TINY = """
[input]
size = 16
[backbone]
blocks = [1]
width = 8
[quantizer]
num_codebooks = 4
codeword_dim = 4
[train]
batch_size = 16
"""
WRONG = [
    ("eval {m}", 2, "--protocol"),
    ("eval {m} --protocol nonsense", 2, "no protocol 'nonsense'"),
    ("eval {m} --protocol flickr25k", 2, "--root"),
    ("eval {m} --protocol cifar10-spq --gallery {p} --queries {p}", 2, "either"),
    ("eval {m} --gallery {p}", 2, "--queries"),
    ("eval {m} --gallery {p} --queries {p}", 1, "are the same"),
    ("eval {m} --gallery {t}/broken --queries {p}", 1, "no labels"),
    ("eval {t}/nowhere --gallery {p} --queries sample:test", 1, "no model at"),
    ("eval {m} --gallery {p} --queries sample:test --plots {t}/tiny.toml", 2, "is a file"),
    ("eval {m} --gallery {p} --queries sample:test --rankings 5", 2, "--rankings 5 are written to a folder; add --out"),
    (
        "eval a={m} a={t}/other --gallery {p} --queries sample:test --plots {t}/x",
        2,
        "is for one model; of several, --out",
    ),
    ("eval {m} {m} --gallery {p} --queries sample:test", 2, "two methods named"),
    ("eval {m} --protocol coco --root {p}", 1, "has no lists of coco"),
]


def test_a_shorter_code_is_measured_and_plotted(
    tiny_model: Model, tmp_path: Path, shared_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantizer = replace(tiny_model.config.quantizer, prefixes=(4, 8))
    Model(tiny_model.network, replace(tiny_model.config, quantizer=quantizer)).save(tmp_path / "m")
    command = ("eval", tmp_path / "m", "--gallery", shared_photos, "--queries", "sample:test", "--at", 5)
    assert run_spq(*command, "--bits", 16, "--plots", tmp_path / "plots") == 0
    out, err = capsys.readouterr()
    assert "500 queries, 60 in the gallery, 16 bits, l2" in out.splitlines()[0]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["pr.png", "precision.png"]
    assert f"wrote {tmp_path / 'plots' / 'pr.png'}" in err.splitlines()
    assert run_spq(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["bits"] == 32


def test_pictures_without_a_label_are_counted_on_stderr_and_in_json(
    model_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(photos.rglob("*.png")).rename(photos / "stray.png")
    assert run_spq("eval", model_folder, "--gallery", photos, "--queries", "sample:test", "--json") == 0
    out, err = capsys.readouterr()
    assert f"note: {photos}: 1 of 60 pictures have no label and are left out" in err.splitlines()
    assert (json.loads(out)["gallery"], len(json.loads(out)["remarks"])) == (59, 1)


def test_eval_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)


def test_several_models_are_compared_and_stored(
    tiny_model: Model, tmp_path: Path, shared_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_model.save(tmp_path / "one")
    for name, factor in (("two", 1.02), ("three", 0.5)):
        other = Model(copy.deepcopy(tiny_model.network), tiny_model.config)
        other.network.quantizer.codebooks.data.mul_(factor)
        other._hash = ""
        other.save(tmp_path / name)
    models = [f"{method}={tmp_path / name}" for method, name in (("a", "one"), ("a", "two"), ("b", "three"))]
    command = ("eval", *models, "--gallery", shared_photos, "--queries", "sample:test", "--at", 5)
    assert run_spq(*command, "--out", tmp_path / "out", "--rankings", 20) == 0
    out, err = capsys.readouterr()
    files = {"a-1", "a-2", "b"}
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"{name}.{kind}" for name in files for kind in ("json", "npz")} | {
        "comparison.json", "comparison.csv", "comparison.tex", "pr.png", "precision.png",
    }  # fmt: skip
    assert all(f"wrote {tmp_path / 'out' / name}" in err.splitlines() for name in written)
    assert [line.split()[:3] for line in out.splitlines()[2:4]] == [["a", "32", "2"], ["b", "32", "1"]]
    stored = json.loads((tmp_path / "out" / "a-1.json").read_text())
    assert len(stored["per_query"]["map"]) == stored["queries"] == 500

    assert run_spq("eval", tmp_path / "one", *command[4:], "--baselines", "--out", tmp_path / "more") == 0
    capsys.readouterr()
    rivals = [tmp_path / "more" / f"one{name}.json" for name in ("", "-ITQ-same-descriptors", "-float-cosine-no-code")]
    assert run_spq("compare", *rivals) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:4]] == [
        ["one", "32"], ["one-ITQ-same-descriptors", "32"],
    ]  # fmt: skip

    # the stored reports compare as the models did, and stored rankings are scored with another N
    reports = (f"a={tmp_path}/out/a-*.json", f"b={tmp_path}/out/b.json")
    assert run_spq("compare", *reports) == 0
    assert capsys.readouterr().out == out
    assert run_spq("compare", *(name.replace("json", "npz") for name in reports), "--at", 7, "--json") == 0
    assert json.loads(capsys.readouterr().out)["metric"] == "mAP@7"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder with the lists of a split: 20 queries and 60 pictures to search and train on."""
    images, folder = open_images("sample:test"), tmp_path / "listed"
    folder.mkdir()
    assert images.labels is not None
    lines = []
    for position in range(80):
        images.image(position).save(folder / f"p{position}.png")
        lines.append(f"p{position}.png {int(images.labels[position])}\n")
    (folder / "test.txt").write_text("".join(lines[:20]))
    for part in ("database", "train"):
        (folder / f"{part}.txt").write_text("".join(lines[20:]))
    return folder


def test_a_model_records_its_protocol_and_another_one_is_warned_of(
    listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    model, recipe = tmp_path / "m.spq", ("--recipe", tmp_path / "tiny.toml", "--epochs", 1)
    assert run_spq("train", "--protocol", "flickr25k", "--root", listed, "--out", model, *recipe) == 0
    record = json.loads((model / "config.json").read_text())["training"]["protocol"]
    assert (record["name"], len(record["split"])) == ("flickr25k", 16)
    capsys.readouterr()
    assert run_spq("eval", model, "--protocol", "flickr25k", "--root", listed, "--json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["split"], json.loads(out)["queries"], "warning" in err) == (record["split"], 20, False)

    (listed / "train.txt").write_text((listed / "train.txt").read_text().partition("\n")[0] + "\n")
    assert run_spq("eval", model, "--protocol", "nuswide21", "--root", listed) == 0
    warning = f"warning: {model} was trained for flickr25k, not for nuswide21; its training pictures are others"
    assert warning in capsys.readouterr().err.splitlines()

    (listed / "test.txt").write_text((listed / "test.txt").read_text().partition("\n")[0] + "\n")
    assert run_spq("eval", model, "--protocol", "flickr25k", "--root", listed) == 0
    warning = (
        f"warning: {model} was trained on other pictures, or other lists, of flickr25k; it may have seen these queries"
    )
    assert warning in capsys.readouterr().err


def test_a_model_of_a_collection_that_has_the_queries_is_warned_of() -> None:
    gallery = subset(open_images("sample:train"), range(40))
    queries = subset(open_images("sample:test"), range(10))
    protocol, pool = Protocol("p", queries, gallery, gallery, 5), subset(queries, range(10))
    pool.ids = [f"sample:test/{id_}" for id_ in queries.ids]  # as in a pool of several collections
    for source, other, warned in (
        ("sample:test", protocol, True), ("sample:test", replace(protocol, queries=pool), True),
        ("sample:train", protocol, False), ("", protocol, False),
    ):  # fmt: skip
        expected = f"warning: m was trained on {source}, which has these queries" if warned else ""
        assert mismatch("m", {"source": source}, other) == expected


def test_the_split_is_that_of_training_unless_a_seed_is_given(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("test.txt", "train.txt"):
        (listed / name).unlink()
    names, labels = zip(*(line.split() for line in (listed / "database.txt").read_text().splitlines()), strict=True)
    (listed / "database.txt").unlink()
    (listed / "img.txt").write_text("\n".join(names))
    (listed / "targets.txt").write_text("\n".join(labels))
    few = replace(_PROTOCOLS["flickr25k"], splitter=partial(split_flickr25k, queries=10, training=30))
    monkeypatch.setitem(_PROTOCOLS, "flickr25k", few)  # the real one needs 7,000 pictures
    (tmp_path / "tiny.toml").write_text(TINY)
    model, recipe = tmp_path / "m.spq", ("--recipe", tmp_path / "tiny.toml", "--epochs", 1)
    protocol = ("--protocol", "flickr25k", "--root", listed)
    assert run_spq("train", *protocol, "--split-seed", 3, "--seed", 1, "--out", model, *recipe) == 0
    training = json.loads((model / "config.json").read_text())["training"]
    assert (training["images"], training["seed"], training["protocol"]["split_seed"]) == (30, 1, 3)
    found = {}
    for seed in ((), ("--seed", 3), ("--split-seed", 4)):
        capsys.readouterr()
        assert run_spq("eval", model, *protocol, *seed, "--json") == 0
        out, err = capsys.readouterr()
        warning = "was trained for flickr25k, split seed 3, not for flickr25k, split seed 4; it may have seen"
        found[seed] = (json.loads(out)["split_seed"], json.loads(out)["split"], warning in err)
    assert found[()] == found["--seed", 3] == (3, training["protocol"]["split"], False)
    assert found["--split-seed", 4][::2] == (4, True)
