"""spq: search your own pictures by picture, with 2-8 byte codes learned from them without a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["SPQ", "Hit", "ImageIndex", "__version__"]

if TYPE_CHECKING:
    from spq.api import SPQ
    from spq.index.image_index import Hit, ImageIndex


def __getattr__(name: str) -> Any:
    # lazily: `import spq` must not cost the seconds that torch takes
    if name == "SPQ":
        from spq.api import SPQ

        return SPQ
    if name in ("Hit", "ImageIndex"):
        from spq.index import image_index

        return getattr(image_index, name)
    raise AttributeError(f"module 'spq' has no attribute {name!r}")
