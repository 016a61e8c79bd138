"""Pretrained weights at hand: installed, cached, in the cache of timm's hub, or a file. Nothing here uses the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spq.errors import WeightsError
from spq.model import hub, lite0
from spq.model.tensors_file import read_shapes

# the best first, by published results of nearest neighbours; the first two were trained without labels
PREFERRED = (
    "timm/vit_small_patch14_reg4_dinov2.lvd142m",
    "timm/vit_small_patch14_dinov2.lvd142m",
    "lite0",
    "timm/tf_efficientnet_lite0.in1k",
    "timm/resnet50.a1_in1k",
)
UNLABELLED = {"dino", "dinov2", "lvd142m", "lvd1689m", "mae", "fcmae", "ijepa"}
CAPTIONED = ("clip", "openai", "laion", "webli", "metaclip", "dfn", "datacomp", "merged2b")
LABELLED = ("in1k", "in12k", "in21k", "in22k", "inat", "jft", "ig1b", "yfcc")


@dataclass(frozen=True)
class Weights:
    """Weights on this machine.

    Attributes:
        backbone: the name for a recipe. place: "installed", "cached", "hub cache" or "file".
        size: in bytes. licence: as stated by their publisher, or "unknown".
        labels: whether labels took part in their training: "yes", "no", "captions" or "unknown".
    """

    backbone: str
    place: str
    size: int
    licence: str
    labels: str
    path: str


def best_at_hand() -> str | None:
    """Return the backbone with the best pretrained weights on this machine; None if `PREFERRED` has none of them."""
    return next((name for name in PREFERRED if is_at_hand(name)), None)


def is_at_hand(backbone: str) -> bool:
    """Whether a backbone's pretrained weights are on this machine."""
    if backbone == "lite0":
        return lite0.cached_file().is_file() or lite0.installed_file() is not None
    return hub.cached_weights(backbone) is not None


def check_at_hand(backbone: str) -> None:
    """Refuse pretrained weights that are neither here nor can be downloaded. Loads neither torch nor timm, so it is quick.

    Raises:
        WeightsError: names the ways that work.
    """
    if backbone == "lite0" and not is_at_hand(backbone):
        raise WeightsError(f"the weights of lite0 are not installed; run {lite0.INSTALL}")
    name = backbone.removeprefix("timm/")
    if name != backbone and not hub.has_cached(name) and (reason := hub.unreachable()):
        raise hub.unavailable(backbone, reason)


def weights_at_hand(files: Sequence[Path] = ()) -> list[Weights]:
    """List all weights that are here, and these .safetensors files.

    Raises:
        WeightsError: a file is missing or has another format.
    """
    return [*_of_lite0(), *_of_hub(), *map(_of_file, files)]


def labels_used(tag: str) -> str:
    """Whether labels took part in a training, by the tag that timm gives its weights.

    >>> [labels_used(tag) for tag in ("a1_in1k", "lvd142m", "fcmae_ft_in1k", "laion2b")]
    ['yes', 'no', 'yes', 'captions']
    """
    words = tag.lower().split("_")
    if "ft" not in words and UNLABELLED & set(words):
        return "no"
    if any(word.startswith(LABELLED) for word in words):
        return "yes"
    return "captions" if any(word.startswith(CAPTIONED) for word in words) else "unknown"


def _of_lite0() -> Iterator[Weights]:
    for place, path in (("installed", lite0.installed_file()), ("cached", lite0.cached_file())):
        if path and path.is_file():
            yield Weights("lite0", place, path.stat().st_size, "apache-2.0", "yes", str(path))


def _of_hub() -> Iterator[Weights]:
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--timm--*")):
        backbone = "timm/" + folder.name.removeprefix("models--timm--")
        if path := hub.cached_weights(backbone):
            licence = _licence(backbone.removeprefix("timm/"))
            tag = backbone.partition(".")[2]
            yield Weights(backbone, "hub cache", path.stat().st_size, licence, labels_used(tag), str(path))


def _of_file(path: Path) -> Weights:
    try:
        read_shapes(path)
        return Weights("timm/NAME", "file", path.stat().st_size, "unknown", "unknown", str(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path} is no .safetensors file: {reason}; give another file") from None


def _licence(name: str) -> str:
    import timm  # slow to import, and only needed here

    try:
        config = timm.models.get_pretrained_cfg(name)
    except RuntimeError:
        return "unknown"
    return str(getattr(config, "license", None) or "unknown")
