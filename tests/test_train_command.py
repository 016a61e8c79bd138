"""`spq train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conftest import assert_refused, run_spq, write_photos
from spq.config import load_recipe
from spq.data.open import open_images
from spq.model.model import Model


def test_options_override_the_recipe(
    recipe_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--bits", 16, "--image-size", 16, "--epochs", 2, "--seed", 7, "--precision", "fp32", "--device", "cpu")
    assert run_spq("train", photos, "--out", tmp_path / "n", "--recipe", recipe_file, *options) == 0
    config = Model.load(tmp_path / "n").config
    assert (config.quantizer.bits, config.input.size) == (16, 16)
    assert (config.train.epochs, config.train.seed, config.train.precision) == (2, 7, "fp32")
    assert config.train.batch_size == load_recipe(recipe_file).train.batch_size


def test_a_pretrained_backbone_gets_a_head_and_is_then_finetuned(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    network = ("--backbone", "timm/test_efficientnet", "--weights", tmp_path / "w.safetensors", "--image-size", 32)
    head, tuned = tmp_path / "head", tmp_path / "tuned"
    assert run_spq("train", photos, "--out", head, "--recipe", "head", *network, "--bits", 16, "--epochs", 2) == 0
    assert len(list((tmp_path / "cache" / "features").glob("*.npy"))) == 1
    config = Model.load(head).config
    assert (config.train.frozen, config.quantizer.bits, config.input.size) == (True, 16, 32)
    assert config.input.std == (0.229, 0.224, 0.225)  # what timm says of these weights, not the recipe's own
    tune = ("train", photos, "--out", tuned, "--recipe", "finetune", "--start", head, "--epochs", 1)
    assert run_spq(*tune) == 0
    capsys.readouterr()
    assert run_spq(*tune, "--resume") == 0
    assert "its own recipe" not in capsys.readouterr().err
    frozen, moved = (Model.load(folder).network.backbone.state_dict() for folder in (head, tuned))
    assert any((frozen[name] != moved[name]).any() for name in frozen)
    assert Model.load(tuned).config.quantizer == config.quantizer
    assert run_spq("index", photos, "--model", tuned, "--out", tmp_path / "index") == 0
    capsys.readouterr()
    assert run_spq("search", tmp_path / "index", next(photos.rglob("*.png")), "--top", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rank"] == 1


def test_training_takes_what_patterns_include_and_leaves_out_what_they_exclude(
    recipe_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("train", photos, "--out", tmp_path / "m", "--recipe", recipe_file, "--json")
    folders = sorted(folder.name for folder in photos.iterdir())[1:]
    include = [word for name in folders for word in ("--include", name)]
    assert run_spq(*given, "--exclude", "*.png", *include) == 0
    taken = [path for path in photos.rglob("*.jpg") if path.parent.name in folders]
    assert json.loads(capsys.readouterr().out)["images"] == len(taken) < len(list(photos.rglob("*.jpg")))


def test_an_interrupted_training_says_how_to_continue(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(images: object, recipe: object, out: Path, options: object) -> None:
        (out / "checkpoints").mkdir(parents=True)
        (out / "checkpoints" / "last.pt").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("spq.training.train.train", interrupted)
    assert run_spq("train", photos, "--out", tmp_path / "n", "--recipe", "spq") == 130
    assert (
        capsys.readouterr().err == f"spq: stopped; continue with: spq train {photos} --out {tmp_path / 'n'} --resume\n"
    )


def test_several_folders_become_one_collection(
    recipe_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_photos(tmp_path / "other")
    (other / "metadata.csv").write_text("Album\nHoliday\n")
    words = ("train", photos, other, "--out", tmp_path / "m", "--recipe", recipe_file, "--epochs", 1, "--device", "cpu")
    assert run_spq(*words, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["images"] == 2 * len(open_images(photos))
    assert "note: other/metadata.csv: not used: it has no column file_name, only Album; " in err
    assert json.loads(out)["remarks"][0][0] == "other/metadata.csv"


def test_single_values_of_the_recipe_are_set(recipe_file: Path, photos: Path, tmp_path: Path) -> None:
    changes = (
        "--recipe",
        f"{recipe_file}:train.epochs=1,views.flip=0",
        "--set",
        "train.lr=0.5",
        "--set",
        "train.epochs=2",
    )
    assert run_spq("train", photos, "--out", tmp_path / "m", *changes, "--bits", 8) == 0
    config = Model.load(tmp_path / "m").config
    assert (config.train.lr, config.train.epochs, config.views.flip, config.quantizer.bits) == (0.5, 2, 0.0, 8)


def test_options_that_a_resumed_training_ignores_are_reported(
    recipe_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ("train", photos, "--out", tmp_path / "m", "--bits", 32, "--device", "cpu", "--resume")
    assert run_spq(*again[:-1], "--recipe", recipe_file, "--epochs", 1) == 0
    capsys.readouterr()
    assert run_spq(*again, "--epochs", 1) == 0
    assert "its own recipe" not in capsys.readouterr().err
    assert run_spq(*again, "--epochs", 1, "--recipe", "fast") == 0
    assert "with its own recipe and ignores --recipe; to use" in capsys.readouterr().err
    assert run_spq(*again, "--minutes", 3, "--seed", 5, "--set", "train.lr=0.5") == 0
    assert (
        f"the training in {tmp_path / 'm'} continues with its own recipe and ignores --minutes, --seed, --set;"
        in capsys.readouterr().err
    )


WRONG = [
    ("train {p}", 2, "--out"),
    ("train --out {t}/new", 2, "give either IMAGES or --protocol NAME"),
    ("train {p} --protocol coco --out {t}/new", 2, "give either IMAGES or --protocol NAME"),
    ("train --protocol coco --exclude *.gif --out {t}/new", 2, "takes no patterns"),
    ("train {p} --split-seed 1 --out {t}/new", 2, "--root and --split-seed belong to --protocol NAME"),
    (
        "train --protocol coco --out {t}/new",
        2,
        "protocol coco needs --root, the folder with its pictures and the lists",
    ),
    ("train --protocol nothing --out {t}/new", 2, "no protocol 'nothing'; there are cifar10-spq"),
    ("train {p} --out {t}/new --colour", 2, "--colour"),
    ("train {t}/nowhere --out {t}/new", 1, "no such folder or file"),
    ("train {t}/empty --out {t}/new", 1, "no pictures"),
    ("train {t}/broken --out {t}/new --recipe {t}/tiny.toml", 1, "none of the 20 pictures"),
    ("train {t}/tiny.toml --out {t}/new", 1, "not a folder"),
    (
        "train {p} --out {t}/new --recipe spq --bits 7",
        2,
        "--bits must be a multiple of log2(K) = 4 bits per codebook, got 7",
    ),
    ("train {p} --out {t}/new --bits 0", 2, "--bits must be a multiple"),
    ("train {p} --out {t}/new --set train.lr", 2, "override 'train.lr' is not section.key=value; for example train.lr"),
    ("train {p} --out {t}/new --set train.rl=1", 2, "unknown key 'rl'; did you mean train.lr?"),
    ("train {p} --out {t}/new --recipe fast:train.lr=x", 2, "'x' is not a TOML value"),
    ("train {p} --out {t}/new --start {t}/m --set head.hidden=4", 2, "--start decides head.hidden; omit this value"),
    ("train {p} --out {t}/new --bits many", 2, "--bits"),
    ("train {p} --out {t}/new --image-size 3", 2, "--image-size must be from 8 to 1024, got 3"),
    ("train {p} --out {t}/new --epochs 0", 2, "--epochs 0 and --minutes 0.0 are no budget"),
    ("train {p} --out {t}/new --minutes -1", 2, "--minutes must be above 0, got -1"),
    ("train {p} --out {t}/new --minutes nan", 2, "--minutes must be above 0, got nan"),
    ("train {p} --out {t}/new --minutes inf", 2, "--minutes must be above 0, got inf"),
    (
        "train {p} --out {t}/new --recipe head --backbone timm/nonsense",
        1,
        "cannot download timm/nonsense (HF_HUB_OFFLINE",
    ),
    ("train {p} --out {t}/new --recipe head --backbone timm/resnet18.typo", 1, "cannot download timm/resnet18.typo"),
    ("train {p} --out {t}/new --recipe head --backbone resnet", 2, "needs pretrained weights, and resnet has none"),
    (
        "train {p} --out {t}/new --recipe spq --backbone timm/vit_tiny_patch16_224 --image-size 40",
        2,
        "--image-size 40 is no multiple of the patches of timm/vit_tiny_patch16_224, 16 pixels; try 32, 48",
    ),
    ("train {p} --out {t}/new --minutes 1 --epochs 1", 2, "two budgets"),
    ("train {p} --out {t}/new --seed -1", 2, "--seed"),
    ("train {p} --out {t}/new --precision fp8", 2, "fp8"),
    ("train {p} --out {t}/new --device toaster", 2, "unknown device 'toaster'"),
    ("train {p} --out {t}/new --backbone vgg", 2, "unknown backbone 'vgg'"),
    ("train {p} --out {t}/new --recipe spq --backbone timm/nonsense", 2, "nonsense"),
    ("train {p} --out {t}/new --weights {t}/nowhere.safetensors", 2, "nowhere.safetensors"),
    ("train {p} --out {t}/new --recipe nonsense", 2, "no recipe 'nonsense'"),
    ("train {p} --out {t}/new --recipe {t}/nowhere.toml", 2, "cannot read recipe"),
    ("train {p} --out {t}/new --recipe {t}/unknown-key.toml", 2, "unknown key 'learning_rate'"),
    ("train {p} --out {t}/new --recipe {t}/no-toml.toml", 2, "is not TOML"),
    ("train {p} --out {p}", 2, "holds other files"),
    ("train {p} --out {t}/tiny.toml", 2, "is a file"),
    ("train {p} --out {m}", 2, "holds a finished model; give a new folder, for example"),
    ("train {p} --out {m} --resume", 2, "holds a finished model"),
    ("train {p} --out {t}/new --resume", 2, "nothing to resume"),
    ("train {p} --out {t}/new --start {m} --bits 16", 2, "decides --bits; omit --bits"),
    (
        "train {p} --out {t}/new --recipe spq --frozen",
        2,
        "a frozen backbone needs pretrained weights, and resnet has none",
    ),
    ("train {p} --out {t}/new --start {t}/nowhere", 1, "no model at"),
]


@pytest.mark.parametrize("count", [1, 15])
@pytest.mark.parametrize("options", [(), ("--recipe", "fast"), ("--recipe", "pq")])
def test_too_few_pictures_are_sent_to_the_way_without_training(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, options: tuple[str, ...]
) -> None:
    few = tmp_path / "my few"
    few.mkdir()
    for path in sorted(photos.rglob("*.png"))[:count]:
        path.rename(few / path.name)
    assert run_spq("train", few, "--out", tmp_path / "m", *options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"spq: {count} picture")
    assert f"training needs 16; search them without training: spq index '{few}' --out INDEX" in said
    assert not (tmp_path / "m").exists()


def test_train_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)
