"""`Estimator`: spq as a transformer of scikit-learn, for pipelines and searches over parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from spq.errors import ConfigError

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ConfigError("spq.Estimator needs scikit-learn; pip install scikit-learn") from error

if TYPE_CHECKING:
    from spq.api import SPQ

OUTPUTS = ("descriptors", "codes", "decoded")


class Estimator(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learns codes of pictures with `fit`, and gives descriptors or codes with `transform`.

    Args:
        bits, recipe, image_size, epochs, minutes, seed: as those of `SPQ.train`.
        overrides: values that replace those of the recipe, such as {"train.lr": 1e-3}.
        output: what `transform` returns: `descriptors` (N, D) float32, `codes` (N, M) uint8, or `decoded` (N, D), the descriptors
            that the codes stand for.
    Attributes:
        model_: the trained `SPQ`, after `fit`.
    """

    def __init__(
        self,
        bits: int | Sequence[int] | None = None,
        recipe: Any = None,
        image_size: int | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        seed: int | None = None,
        overrides: dict[str, Any] | None = None,
        output: Literal["descriptors", "codes", "decoded"] = "descriptors",
    ) -> None:
        self.bits, self.recipe, self.image_size, self.epochs = bits, recipe, image_size, epochs
        self.minutes, self.seed, self.overrides, self.output = minutes, seed, overrides, output

    def fit(self, X: Any, y: object = None) -> Self:
        """Train on pictures in any form that `SPQ.train` takes. y is not used: spq learns without labels.

        Raises:
            ConfigError: an unknown `output`, and as `SPQ.train`. DataError: too few readable pictures.
        """
        from spq.api import SPQ

        self._check()
        options = {name: value for name, value in self.get_params().items() if name != "output"}
        self.model_: SPQ = SPQ.train(X, **options)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Describe or encode pictures in any form that `Model.embed` takes.

        Raises:
            NotFittedError: `fit` was not called. ImageError: a picture cannot be read.
        """
        check_is_fitted(self, "model_")
        self._check()
        x = self.model_.embed(X)
        if self.output == "descriptors":
            return x
        codes = self.model_.encode_descriptors(x)
        return codes if self.output == "codes" else self.model_.decode(codes)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Names of the columns that `transform` returns."""
        check_is_fitted(self, "model_")
        quantizer, name = self.model_.config.quantizer, "code" if self.output == "codes" else "spq"
        count = quantizer.num_codebooks if self.output == "codes" else quantizer.dim
        return np.array([f"{name}{number}" for number in range(count)], object)

    def _check(self) -> None:
        if self.output not in OUTPUTS:
            raise ConfigError(f"unknown `output` {self.output!r}; use {', '.join(OUTPUTS)}")
