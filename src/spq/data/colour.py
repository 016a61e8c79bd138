"""Colours as a screen shows them: sRGB, and a ground behind transparency on which the picture is seen."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from PIL import Image

from spq.data.strips import by_parts, part

MAX_PROFILES = 64  # transforms that are kept; a collection has few different profiles
MAX_PROFILE = 16 * 2**20  # bytes; larger profiles are ignored
SAME = 4  # levels of 255 that a profile may differ from sRGB and still count as sRGB
SAME_GAMMA = 0.05  # share that a gamma may differ from that of sRGB and still count as it
INK = 0.98  # share of the visible ink that must be light for a dark ground
LIGHT = 224  # the darkest channel of light ink has at least this value

_BASES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile -> Pillow's mode
_transforms: dict[tuple[bytes, str], Any] = {}


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert a picture of 8 bits from its ICC profile to sRGB.

    The picture is returned as it is if it has no profile, or one of sRGB; or if the profile is broken, or of another colour
    space than the pixels. "Is sRGB" is measured on colours of the whole range, not read from the name of the profile.
    """
    if image.mode == "LAB":
        return _apply(image, _transform(b"LAB", "LAB"))
    if not profile or len(profile) > MAX_PROFILE:
        return image
    has_alpha = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    if has_alpha and image.mode != "LA":
        opaque = image.convert("RGBA").convert("RGB")
    elif image.mode in ("LA", "P"):
        opaque = image.convert("L" if image.mode == "LA" else "RGB")
    else:
        opaque = image
    transform = _transform(profile, opaque.mode)
    if transform is None:
        return image
    converted = _apply(opaque, transform)
    if has_alpha:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted


def with_gamma(image: Image.Image, gamma: Any) -> Image.Image:
    """Convert a picture of 8 bits to sRGB from the gamma that a PNG tells, such as 1.0 of a renderer's linear light.

    It is returned as it is without a gamma, with one that no picture has, and with that of sRGB (1 / 2.2).
    """
    if not isinstance(gamma, float) or not 0.1 <= gamma <= 10 or abs(gamma * 2.2 - 1) < SAME_GAMMA:
        return image
    light = (np.arange(256) / 255) ** (1 / gamma)
    shown = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    if "transparency" in image.info:  # a colour that the curve would change
        image = image.convert("RGBA")
    image = image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")
    bands, curve = image.getbands(), shown.round().astype(int).tolist()
    return image.point([level for band in bands for level in (range(256) if band == "A" else curve)])


def _apply(image: Image.Image, transform: Any) -> Image.Image:
    if transform is None:
        return image
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform) or image


def _transform(profile: bytes, mode: str) -> Any:
    """Return the transform of a profile to sRGB, or None if none is needed or possible; each is made once."""
    key = hashlib.blake2b(profile, digest_size=16).digest(), mode
    if key not in _transforms:
        if len(_transforms) >= MAX_PROFILES:
            _transforms.clear()
        _transforms[key] = _new_transform(profile, mode)
    return _transforms.get(key)


def _new_transform(profile: bytes, mode: str) -> Any:
    try:
        import io

        from PIL import ImageCms

        srgb = ImageCms.createProfile("sRGB")
        if mode == "LAB":
            return ImageCms.buildTransform(ImageCms.createProfile("LAB"), srgb, "LAB", "RGB")
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _BASES.get(opened.profile.xcolor_space) != mode:
            return None
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        transform = ImageCms.buildTransform(opened, srgb, mode, "RGB", intent, flags)
        return None if _changes_nothing(transform, mode) else transform
    except Exception:  # the profile is broken (any error), or Pillow has no LittleCMS
        return None


def _changes_nothing(transform: Any, mode: str) -> bool:
    if mode == "CMYK":
        return False
    levels = np.linspace(0, 255, 9 if mode == "RGB" else 256).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3) if mode == "RGB" else levels[None]
    before = Image.fromarray(grid)
    after = np.asarray(_apply(before, transform)).astype(int)
    return int(np.abs(after - np.asarray(before.convert("RGB"))).max()) <= SAME


def as_shown(image: Image.Image, keep_alpha: bool, has_alpha: bool = True, shrink: int = 1) -> Image.Image:
    """Convert a picture of 8 bits to sRGB as a screen shows it: by its profile or its gamma, and its alpha on a ground.

    Args:
        keep_alpha: return RGBA, with the alpha as stored; else RGB.
        has_alpha: whether the alpha that it may have counts.
        shrink: width and height are divided by it.
    """
    mode, info = "RGBA" if keep_alpha else "RGB", image.info
    profile, gamma = info.get("icc_profile"), info.get("gamma") if "srgb" not in info else None
    if image.mode == mode == "RGB" and not (profile or gamma or "transparency" in info) and shrink == 1:
        return image
    ground = ""

    def shown(some: Image.Image) -> Image.Image:
        some = some if has_alpha or "A" not in some.getbands() else some.convert("RGB")
        some = to_srgb(some, profile) if profile else to_srgb(with_gamma(some, gamma), None)
        if not has_transparency(some):
            return some.convert(mode)
        some = some.convert("RGBA")
        return _over(some, ground).convert(mode) if ground else some

    if not keep_alpha and has_transparency(image):
        few = image.resize((min(image.width, 256), min(image.height, 256)), Image.Resampling.NEAREST)
        ground = ground_of(shown(few).convert("RGBA"))
    return by_parts(image.size, lambda box: shown(part(image, box)), shrink)


def has_transparency(image: Image.Image) -> bool:
    """Whether a picture has a channel of alpha, or a colour or palette that is transparent."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def ground_of(image: Image.Image) -> str:
    """Return the colour to put an RGBA picture on: white, or black if nearly all of its ink is so light that it would vanish.

    Ink is what is visible, weighted by its alpha. A picture without transparent parts, and one without ink, stays on white.
    """
    return "black" if _is_light_ink(image) else "white"


def _over(image: Image.Image, ground: str) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image)


def _is_light_ink(image: Image.Image) -> bool:
    width, height = image.size
    small = image.resize((min(width, 256), min(height, 256)), Image.Resampling.NEAREST)
    pixels = np.asarray(small)
    alpha = pixels[..., 3].astype(np.int64)
    ink = int(alpha.sum())
    if not ink or alpha.min() > 127:
        return False
    return int(alpha[pixels[..., :3].min(-1) >= LIGHT].sum()) >= INK * ink
