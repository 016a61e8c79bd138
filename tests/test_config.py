from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spq.config import Recipe, from_dict, load_recipe, recipe_names, to_dict, with_overrides
from spq.errors import ConfigError


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_survives_a_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert from_dict(Recipe, to_dict(recipe), "recipe") == recipe


def test_the_paper_recipe_has_the_papers_numbers() -> None:
    recipe = load_recipe("paper")
    assert (recipe.quantizer.bits, recipe.quantizer.dim, recipe.quantizer.temperature) == (32, 128, 0.2)
    assert (recipe.train.temperature, recipe.train.lr, recipe.train.weight_decay) == (0.5, 3e-4, 1e-5)
    assert (recipe.backbone.blocks, recipe.backbone.width, recipe.train.batch_size) == ((2, 2, 2, 2), 64, 256)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nlearning_rate = 1", "train: unknown key 'learning_rate'"),
        ("[trian]\nlr = 1", "unknown key 'trian'"),
        ("[train]\nlr = 'fast'", "lr = 'fast'; expected float"),
        ("[train]\nepochs = 1.5", "epochs = 1.5; expected int"),
        ("[train]\nepochs = true", "epochs = True; expected int"),
        ("[train]\nlr = nan", "expected a finite number"),
        ("[train]\nminutes = inf", "expected a finite number"),
        ("[train]\noptimizer = 'sgd'", "use one of adam, muon"),
        ("[quantizer]\ndistance = 'cosine'", "use one of l2, sqeuclidean, dot"),
        ("[input]\nmean = [1.0]", "expected a list of 3"),
        ("[train]\nlr = -1.0", "train.lr must be from 0 to 1000, got -1.0"),
        ("[train]\ntemperature = 0", "train.temperature must be above 0 and at most 1000, got 0.0"),
        ("[train]\nseed = -1", "train.seed must be from 0 to 4,294,967,295, got -1"),
        ("[train]\nneighbours = -1", "train.neighbours must be from 0 to 10,000, got -1"),
        ("[train]\nwarmup = 2.0", "train.warmup must be from 0 to 1, got 2.0"),
        ("[input]\nstd = [0.2, 0.0, 0.2]", "must be above 0"),
        ("[views]\ncrop_scale = [1.0, 0.2]", "crop_scale must satisfy 0 < min <= max <= 1, got [1.0, 0.2]"),
        ("[views]\ncrop_ratio = [0.0, 1.0]", "crop_ratio must satisfy 0 < min <= max, got [0.0, 1.0]"),
        ("[views]\nblur_sigma = [2.0, 1.0]", "blur_sigma must satisfy 0 < min <= max, got [2.0, 1.0]"),
        ("[views]\nblur_kernel = 4", "blur_kernel must be 0 or an odd number, got 4"),
        ("[views]\nblur_kernel = 65", "blur_kernel 65 is too large for views of 32 pixels"),
        ("[views]\nflip = 1.5", "views.flip must be from 0 to 1, got 1.5"),
        ("[views]\nhue = -0.1", "views.hue must be from 0 to 1, got -0.1"),
        ("[quantizer]\ncodebook_size = 15", "got K=15"),
        ("[quantizer]\nprefixes = [8, 4]", "prefixes must rise to M=8, got [8, 4]; for example [4, 8]"),
        ("[quantizer]\nprefixes = [4, 4, 8]", "prefixes must rise to M=8"),
        ("[quantizer]\nprefixes = [0, 8]", "prefixes must rise to M=8"),
        ("[quantizer]\nprefixes = [4]", "prefixes must rise to M=8"),
        ("train = 3", "expected a table, got 3"),
        ("[train", "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="mine") as caught:
        load_recipe(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\x00\x01", "is not text in UTF-8; save it as UTF-8"),
        (b"a" + b".a" * 50_000 + b"=1", "more than 16,000 bytes"),  # would take minutes
    ],
)
def test_a_file_that_is_no_recipe_is_refused_at_once(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "mine.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "mine.toml")


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[train]\nepochs = 7\n", "utf-8-sig")
    assert load_recipe(tmp_path / "mine.toml").train.epochs == 7


def test_a_missing_recipe_is_refused_with_a_list_of_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe 'papre'; use one of fast, finetune, gpu, head, paper"):
        load_recipe("papre")
    with pytest.raises(ConfigError, match="No such file"):
        load_recipe(tmp_path / "none.toml")


@given(bits=st.integers(-5, 300))
def test_bits_that_are_no_whole_codebooks_are_refused(bits: int) -> None:
    quantizer = load_recipe("paper").quantizer
    if bits >= 4 and bits % 4 == 0:
        assert quantizer.with_bits(bits).bits == bits
    else:
        with pytest.raises(ConfigError, match=f"`bits` must be .*, got {bits};"):
            quantizer.with_bits(bits)


def test_several_bits_are_prefixes_of_the_longest_and_one_keeps_those_that_are_shorter() -> None:
    nested = load_recipe("paper").quantizer.with_bits(64, 16, 32)
    assert (nested.bits, nested.prefixes, nested.lengths, nested.prefix_dims) == (
        64,
        (4, 8, 16),
        (16, 32, 64),
        (64, 128, 256),
    )
    assert nested.with_bits(48).prefixes == (4, 8, 12)
    assert nested.with_bits(32).lengths == (16, 32)
    assert (nested.with_bits(16).prefixes, nested.with_bits(16).lengths) == ((), (16,))
    assert nested.with_bits(16, 24).lengths == (16, 24)


def test_overrides_change_their_values_and_nothing_else() -> None:
    fast = load_recipe("fast")
    changed = with_overrides(
        fast, ["train.lr=1e-3", "backbone.blocks=[1,2]", 'train.optimizer = "adam"', "train.refit=false", "train.lr=2"]
    )
    assert (changed.train.lr, changed.backbone.blocks, changed.train.optimizer, changed.train.refit) == (
        2.0,
        (1, 2),
        "adam",
        False,
    )
    back = [
        f"train.lr={fast.train.lr}",
        f"backbone.blocks={list(fast.backbone.blocks)}",
        "train.optimizer='muon'",
        "train.refit=true",
    ]
    assert with_overrides(changed, back) == fast
    assert with_overrides(fast, []) == fast


def test_overrides_by_name_are_those_in_text() -> None:
    fast = load_recipe("fast")
    by_name = with_overrides(fast, {"train.lr": 2, "backbone.blocks": (1, 2), "train.optimizer": "adam"})
    assert by_name == with_overrides(fast, ["train.lr=2", "backbone.blocks=[1,2]", "train.optimizer='adam'"])
    for wrong, message in (
        ({"train.learnrate": 1.0}, "override 'train.learnrate': unknown key 'learnrate'"),
        ({"lr": 1.0}, "override 'lr': unknown section 'lr'; use one of input"),
        ({"train.lr": "1"}, "recipe fast with train.lr = '1': train: lr = '1'; expected float"),
        ({"train.lr": -1.0}, "train.lr must be from 0 to 1000, got -1.0"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            with_overrides(fast, wrong)


def test_a_recipe_may_have_changes_after_a_colon(tmp_path: Path) -> None:
    assert load_recipe("fast:train.lr=2,backbone.blocks=[1, 2]") == with_overrides(
        load_recipe("fast"), {"train.lr": 2.0, "backbone.blocks": [1, 2]}
    )
    (tmp_path / "a:b.toml").write_text("[train]\nepochs = 7\n")
    assert load_recipe(f"{tmp_path}/a:b.toml").train.epochs == 7
    assert load_recipe(f"{tmp_path}/a:b.toml:train.epochs=8").train.epochs == 8
    for wrong, message in (
        ("fast:lr", "override 'lr' is not section.key=value"),
        ("fats:train.lr=1", "no recipe 'fats'; use one of"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_recipe(wrong)


def test_overrides_are_checked_together_not_one_by_one() -> None:
    fast = load_recipe("fast")
    changed = with_overrides(fast, ["quantizer.num_codebooks=8", "quantizer.prefixes=[4, 8]"])
    assert changed.quantizer.lengths == (16, 32)
    with pytest.raises(ConfigError, match="prefixes must rise to M=16"):
        with_overrides(fast, ["quantizer.prefixes=[4, 8]"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trian.lr=1",
            "override 'trian.lr': unknown section 'trian'; did you mean train.lr? use one of input, backbone, head",
        ),
        ("train.learning_rate=1", "override 'train.learning_rate': unknown key 'learning_rate'; "),
        ("train.batchsize=1", "unknown key 'batchsize'; did you mean train.batch_size? use one of temperature, late"),
        (
            "views.lr=1",
            "override 'views.lr': unknown key 'lr'; did you mean train.lr? use one of crop_scale, crop_ratio",
        ),
        ("train.lr", "override 'train.lr' is not section.key=value; for example train.lr=1e-3"),
        ("lr=1", "is not section.key=value"),
        ("name='x'", "is not section.key=value"),
        ("train.optimizer=adam", "'adam' is not a TOML value; write 1e-3, true"),
        ("train.lr=1\nseed = 2", "is not a TOML value"),
        ("train.lr='fast'", "train: lr = 'fast'; expected float"),
        ("train.epochs=1.5", "train: epochs = 1.5; expected int"),
        ("train.lr=nan", "train: lr = nan; expected a finite number"),
        ("train.optimizer='sgd'", "use one of adam, muon"),
        ("input.mean=[1.0]", "expected a list of 3"),
        ("train.lr=-1", "train.lr must be from 0 to 1000, got -1.0"),
    ],
)
def test_a_wrong_override_is_refused_with_a_remedy(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_overrides(load_recipe("fast"), ["train.seed=1", override])
    assert message in str(caught.value)
