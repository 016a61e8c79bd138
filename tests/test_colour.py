"""Profiles to sRGB against the matrices computed here, and the ground behind transparency."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from spq.data import colour
from spq.data.colour import ground_of
from spq.data.decode import load_image

RNG = np.random.default_rng(0)
D50 = np.array([0.9642, 1.0, 0.8249])
P3 = [(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)]
ADOBE = [(0.640, 0.330), (0.210, 0.710), (0.150, 0.060)]
SRGB = [(0.640, 0.330), (0.300, 0.600), (0.150, 0.060)]


def xyz_of(primaries: list[tuple[float, float]]) -> np.ndarray:
    """Linear RGB with white D65 -> XYZ with white D50 (Lindbloom: primaries, then Bradford)."""
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    matrix = columns * np.linalg.solve(columns, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gains = np.diag((bradford @ D50) / (bradford @ white))
    return np.linalg.inv(bradford) @ gains @ bradford @ matrix


def linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def curved(values: np.ndarray) -> np.ndarray:
    values = values.clip(0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def profile_of(primaries: list[tuple[float, float]] | None, curve: bytes) -> bytes:
    """A minimal ICC profile, version 2: three colorants and a curve, or grey with a curve."""

    def fixed(xyz: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in xyz)

    tags = {b"wtpt": fixed(D50)}
    if primaries:
        matrix = xyz_of(primaries)
        tags |= {kind + b"XYZ": fixed(matrix[:, i]) for i, kind in enumerate((b"r", b"g", b"b"))}
        tags |= {kind + b"TRC": curve for kind in (b"r", b"g", b"b")}
    else:
        tags[b"kTRC"] = curve
    tags |= {b"desc": b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78), b"cprt": b"text\0\0\0\0none\0"}
    at, directory, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        directory += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    space = b"RGB " if primaries else b"GRAY"
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02400000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + b"".join(struct.pack(">i", round(value * 65536)) for value in D50)
    whole = header.ljust(128, b"\0") + directory + body
    return struct.pack(">I", len(whole)) + whole[4:]


def table(function: Any) -> bytes:
    values = np.round(function(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + values.tobytes()


GAMMA = b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", 563)  # 2.19921875, as Adobe has it
PROFILES = {
    "P3": (profile_of(P3, table(linear)), P3, linear),
    "Adobe": (profile_of(ADOBE, GAMMA), ADOBE, lambda values: values ** (563 / 256)),
}


def png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", PROFILES)
def test_a_wide_gamut_picture_is_converted_as_its_matrix_and_curve_say(name: str) -> None:
    profile, primaries, curve = PROFILES[name]
    pixels = RNG.integers(0, 256, (40, 50, 3), np.uint8)
    expected = curved(curve(pixels / 255) @ (np.linalg.inv(xyz_of(SRGB)) @ xyz_of(primaries)).T) * 255
    read = np.asarray(load_image(png(Image.fromarray(pixels), icc_profile=profile))).astype(float)
    assert np.abs(read - expected).mean() < 0.6
    assert np.percentile(np.abs(read - expected), 99.9) <= 3
    assert np.abs(read - pixels).mean() > 5  # it is not the same without the profile


def test_alpha_and_palettes_are_converted_too() -> None:
    profile = PROFILES["P3"][0]
    opaque = load_image(png(Image.new("RGB", (4, 4), (200, 30, 30)), icc_profile=profile)).getpixel((0, 0))
    clear = load_image(png(Image.new("RGBA", (4, 4), (200, 30, 30, 77)), icc_profile=profile), keep_alpha=True)
    assert clear.getpixel((0, 0)) == (*opaque, 77)
    palette = Image.new("RGB", (4, 4), (200, 30, 30)).quantize(4)
    assert load_image(png(palette, icc_profile=profile)).getpixel((0, 0)) == opaque
    see_through = load_image(png(palette, icc_profile=profile, transparency=0), keep_alpha=True)
    assert see_through.getpixel((0, 0)) == (*opaque, 0)
    assert opaque[0] > 205  # P3's red is redder than sRGB's


def test_grey_profiles_are_converted() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(4, 0)
    mac_grey = profile_of(None, b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", 461))  # gamma 1.8
    for image in (Image.fromarray(ramp), Image.merge("LA", [Image.fromarray(ramp), Image.new("L", (256, 4), 255)])):
        read = np.asarray(load_image(png(image, icc_profile=mac_grey)))[0, :, 1].astype(float)
        assert np.abs(read - curved((np.arange(256) / 255) ** (461 / 256)) * 255)[8:].max() <= 2


def test_srgb_a_broken_profile_and_one_of_another_space_change_nothing() -> None:
    pixels = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ours, grey = profile_of(SRGB, table(linear)), profile_of(None, GAMMA)
    for profile in (srgb, ours, grey, b"junk", PROFILES["P3"][0][:200], b"\0" * 3000):
        assert load_image(png(pixels, icc_profile=profile)).tobytes() == pixels.tobytes()
    assert (
        load_image(png(pixels.convert("L"), icc_profile=srgb)).tobytes() == pixels.convert("L").convert("RGB").tobytes()
    )


def test_a_transform_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(Image.new("RGB", (4, 4), "red"), icc_profile=PROFILES["Adobe"][0])
    load_image(data)
    monkeypatch.setattr(colour, "_new_transform", lambda *_: pytest.fail("made again"))
    load_image(data)


def test_lab_is_read() -> None:
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    image = ImageCms.applyTransform(Image.new("RGB", (4, 4), (200, 90, 20)), lab)
    assert np.abs(np.subtract(load_image(image).getpixel((0, 0)), (200, 90, 20))).max() <= 3


def icon(ink: tuple[int, int, int], shape: str = "ellipse") -> Image.Image:
    image = Image.new("RGBA", (300, 200), (*ink, 0))
    getattr(ImageDraw.Draw(image), shape)((40, 40, 200, 160), fill=(*ink, 255))
    return image


def test_light_ink_on_transparency_is_seen() -> None:
    for ink in ((255, 255, 255), (240, 245, 250)):
        round_, square = (load_image(png(icon(ink, shape))) for shape in ("ellipse", "rectangle"))
        assert round_.getpixel((100, 100)) == ink
        assert round_.getpixel((0, 0)) == (0, 0, 0)
        assert round_.tobytes() != square.tobytes()


def test_other_pictures_with_alpha_stay_on_white() -> None:
    nothing, opaque = Image.new("RGBA", (30, 20), (255, 255, 255, 0)), Image.new("RGBA", (30, 20), "white")
    shadow = icon((255, 255, 255))
    ImageDraw.Draw(shadow).rectangle((0, 0, 60, 60), fill=(0, 0, 0, 90))
    for image in (icon((200, 60, 20)), icon((0, 0, 0)), icon((250, 250, 0)), nothing, opaque, shadow):
        assert ground_of(image) == "white"


def png_with_gamma(image: Image.Image, gamma: float, more: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = buffer.getvalue()
    body = b"gAMA" + round(gamma * 100_000).to_bytes(4, "big")
    chunk = (4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return data[:33] + chunk + more + data[33:]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8])
def test_the_gamma_of_a_png_is_followed(mode: str, gamma: float) -> None:
    levels = np.tile(np.arange(16, dtype=np.uint8) * 17, (16, 1))
    shown = np.asarray(load_image(png_with_gamma(Image.fromarray(levels).convert(mode), gamma)))[0, :, 0]
    light = (levels[0] / 255) ** (1 / gamma)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(shown - expected).max() <= 1


def test_a_transparent_colour_stays_transparent_under_a_gamma() -> None:
    picture = Image.new("RGB", (8, 8), (60, 70, 80))
    picture.paste((200, 10, 10), (0, 0, 4, 8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=(60, 70, 80))
    with Image.open(io.BytesIO(png_with_gamma(Image.open(buffer), 1.0))) as again:
        assert again.info["transparency"] == (60, 70, 80)
    alpha = load_image(png_with_gamma(Image.open(buffer), 1.0), keep_alpha=True).getchannel("A")
    assert (alpha.getpixel((1, 1)), alpha.getpixel((6, 1))) == (255, 0)


def test_the_gamma_of_srgb_and_of_nonsense_changes_nothing() -> None:
    picture = Image.fromarray(np.tile(np.arange(0, 256, 5, dtype=np.uint8), (8, 1)))
    for gamma in (0.45455, 1 / 2.2, 0, 0.00001, 40_000):
        assert np.array_equal(np.asarray(load_image(png_with_gamma(picture, gamma)))[..., 0], np.asarray(picture))
    srgb = b"\0\0\0\1sRGB\0" + zlib.crc32(b"sRGB\0").to_bytes(4, "big")  # it has priority
    assert np.array_equal(np.asarray(load_image(png_with_gamma(picture, 1.0, srgb)))[..., 0], np.asarray(picture))
