from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spq.config import Recipe, from_dict, load_recipe, recipe_names, to_dict
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
        ("[train]\nlr = -1.0", "train.lr -1.0 is outside 0..inf"),
        ("[train]\ntemperature = 0", "train.temperature 0.0 divides and must be above 0"),
        ("[train]\nseed = -1", "train.seed -1 is outside 0..4294967295"),
        ("[train]\nneighbours = -1", "train.neighbours -1 is outside 0..inf"),
        ("[train]\nwarmup = 2.0", "train.warmup 2.0 is outside 0..1"),
        ("[input]\nstd = [0.2, 0.0, 0.2]", "must be above 0"),
        ("[views]\ncrop_scale = [1.0, 0.2]", "crop_scale [1.0, 0.2] is no rising share"),
        ("[views]\ncrop_ratio = [0.0, 1.0]", "crop_ratio [0.0, 1.0] does not rise from above 0"),
        ("[views]\nblur_sigma = [2.0, 1.0]", "blur_sigma [2.0, 1.0] does not rise"),
        ("[views]\nblur_kernel = 4", "blur_kernel 4 is not odd"),
        ("[views]\nblur_kernel = 65", "blur_kernel 65 is too large for views of 32 px"),
        ("[views]\nflip = 1.5", "views.flip 1.5 is outside 0..1"),
        ("[views]\nhue = -0.1", "views.hue -0.1 is outside 0..1"),
        ("[quantizer]\ncodebook_size = 15", "got K=15"),
        ("[quantizer]\nprefixes = [8, 4]", "prefixes [8, 4] do not rise to M=8; give for example [4, 8]"),
        ("[quantizer]\nprefixes = [4, 4, 8]", "do not rise to M=8"),
        ("[quantizer]\nprefixes = [0, 8]", "do not rise to M=8"),
        ("[quantizer]\nprefixes = [4]", "do not rise to M=8"),
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


def test_a_missing_recipe_is_named_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe 'papre'; there are fast, finetune, gpu, head, paper"):
        load_recipe("papre")
    with pytest.raises(ConfigError, match="No such file"):
        load_recipe(tmp_path / "none.toml")


@given(bits=st.integers(-5, 300))
def test_bits_give_whole_codebooks_or_a_refusal(bits: int) -> None:
    quantizer = load_recipe("paper").quantizer
    if bits >= 4 and bits % 4 == 0:
        assert quantizer.with_bits(bits).bits == bits
    else:
        with pytest.raises(ConfigError, match=f"--bits {bits}"):
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
