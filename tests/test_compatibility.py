"""Models and indexes of an earlier version open and give the same answers.

tests/golden/before_tree was made at commit f007009: 60 pictures of the sample, 16 px, recipe `fast` with 4 codebooks, 2 epochs.
"""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spq.config import ClusterConfig, Recipe, from_dict
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.index.image_index import ImageIndex
from spq.model.model import Model

BEFORE = Path(__file__).parent / "golden" / "before_tree"
ANSWERS: dict[str, Any] = json.loads((BEFORE / "answers.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return subset(open_images("sample:train"), range(60))


def test_a_model_of_before_gives_the_same_descriptors_and_codes(images: ImageSet) -> None:
    model = Model.load(BEFORE / "model")
    assert model.hash == ANSWERS["hash"]
    pictures = [images.image(i) for i in range(60)]
    np.testing.assert_allclose(model.embed(pictures[:3]), ANSWERS["descriptors"], atol=1e-4)
    assert (
        model.encode(pictures) == ANSWERS["codes"]
    ).mean() > 0.99  # a value between two codewords may round otherwise


def test_an_index_of_before_gives_the_same_hits(images: ImageSet, tmp_path: Path) -> None:
    folder = shutil.copytree(BEFORE / "photos", tmp_path / "photos.index")  # readers write beside it
    index = ImageIndex.open(folder)
    try:
        for position, expected in enumerate(ANSWERS["hits"]):
            hits = index.search(images.image(position), top=10)
            np.testing.assert_allclose(
                [hit.distance for hit in hits], [distance for _, distance in expected], atol=1e-3
            )
            # which of the nearest comes first is another one, if several are at the same distance
            assert hits[0].path in {path for path, distance in expected if distance == expected[0][1]}
    finally:
        index.close()


@pytest.mark.parametrize(("was", "rounds"), [(True, 1), (False, 0)])
def test_a_recipe_of_before_with_one_self_training_has_one_round(was: bool, rounds: int) -> None:
    table = {key: value for key, value in asdict(ClusterConfig()).items() if key != "rounds"} | {"self_training": was}
    assert from_dict(Recipe, {"cluster": table}, where="x").cluster == ClusterConfig(rounds=rounds)


def test_all_files_of_a_model_have_the_same_mode(tmp_path: Path) -> None:
    Model.load(BEFORE / "model").save(tmp_path / "m")
    assert len({stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "m").iterdir()}) == 1
