from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from spq import Estimator
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.errors import ConfigError

sklearn_base = pytest.importorskip("sklearn.base")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return subset(open_images("sample:train"), range(64))


@pytest.fixture(scope="module")
def fitted(images: ImageSet) -> Estimator:
    return Estimator(bits=16, recipe="pq", image_size=16, seed=3).fit(images)


def pictures(images: ImageSet) -> list[Any]:
    return [images.image(position) for position in range(6)]


def test_it_gives_what_the_model_gives(fitted: Estimator, images: ImageSet) -> None:
    some = pictures(images)
    x, codes = fitted.transform(some), fitted.model_.encode(some)
    np.testing.assert_array_equal(x, fitted.model_.embed(some))
    assert list(fitted.get_feature_names_out()[:2]) == ["spq0", "spq1"]
    other = pickle.loads(pickle.dumps(fitted)).set_params(output="codes")
    np.testing.assert_array_equal(other.transform(some), codes)
    assert len(other.get_feature_names_out()) == codes.shape[1]
    decoded = other.set_params(output="decoded").transform(some)
    np.testing.assert_array_equal(decoded, fitted.model_.decode(codes))
    with pytest.raises(ConfigError, match="unknown `output` 'bits'; use descriptors, codes, decoded"):
        other.set_params(output="bits").transform(some)


def test_it_is_cloned_and_works_in_a_pipeline(fitted: Estimator, images: ImageSet) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    fresh = sklearn_base.clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert (fresh.bits, fresh.seed) == (16, 3)
    with pytest.raises(NotFittedError):
        fresh.transform(pictures(images))
    pipeline = make_pipeline(fitted, KNeighborsClassifier(1))
    pipeline.steps[1][1].fit(fitted.transform(pictures(images)), images.labels[:6])
    assert list(pipeline.predict(pictures(images))) == list(images.labels[:6])
