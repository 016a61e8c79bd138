"""spq: search your own pictures by picture, with 2-8 byte codes learned from them without labels."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spq.api import SPQ
    from spq.config import load_recipe
    from spq.data.image_set import ImageSet
    from spq.data.open import open_images
    from spq.data.protocols import load_protocol
    from spq.estimator import Estimator as Estimator  # not in `__all__`: it needs scikit-learn
    from spq.evaluation.compare import compare
    from spq.evaluation.evaluate import evaluate
    from spq.evaluation.rankings import Rankings
    from spq.evaluation.report import Report
    from spq.index.image_index import Hit, ImageIndex
    from spq.training.losses import CrossQuantized, NTXent

__all__ = [
    "SPQ", "CrossQuantized", "Hit", "ImageIndex", "ImageSet", "NTXent", "Rankings", "Report", "__version__",
    "compare", "evaluate", "load_protocol", "load_recipe", "open_images",
]  # fmt: skip
_MODULES = {
    "SPQ": "spq.api",
    "CrossQuantized": "spq.training.losses",
    "Estimator": "spq.estimator",
    "Hit": "spq.index.image_index",
    "ImageIndex": "spq.index.image_index",
    "ImageSet": "spq.data.image_set",
    "NTXent": "spq.training.losses",
    "Rankings": "spq.evaluation.rankings",
    "Report": "spq.evaluation.report",
    "compare": "spq.evaluation.compare",
    "evaluate": "spq.evaluation.evaluate",
    "load_protocol": "spq.data.protocols",
    "load_recipe": "spq.config",
    "open_images": "spq.data.open",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import spq` must not take the seconds that torch takes."""
    if name not in _MODULES:
        raise AttributeError(f"module 'spq' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
