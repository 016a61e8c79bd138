"""From any picture to pixels: decode, orient, convert to RGB, resize. All commands use this module."""

from __future__ import annotations

import importlib.util
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from spq.common.parallel import cores, map_in_order
from spq.errors import ImageError

if TYPE_CHECKING:
    import torch

ImageInput: TypeAlias = "str | Path | bytes | Image.Image | NDArray[np.generic] | torch.Tensor"

PER_TASK = 64  # pictures in one task of a thread; for tiny pictures, single tasks would cost more than decoding
MAX_PIXELS = 178_956_970  # Pillow's own limit; a lower limit set in Pillow also counts

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> the operation that undoes it


class SomeImages(Protocol):
    """The part of a collection that `load_pixels` uses."""

    def __len__(self) -> int: ...
    def image(self, position: int, size_hint: int | None = None) -> Image.Image: ...


@dataclass(frozen=True)
class Pixels:
    """Decoded pictures of a collection.

    Attributes:
        array: (N, 3, S, S) uint8. kept: (N,) their positions in the collection.
        full_sizes: (N, 2) width and height of the upright picture as stored.
        failures: (position, reason) of the unreadable pictures.
    """

    array: NDArray[np.uint8]
    kept: NDArray[np.int64]
    full_sizes: NDArray[np.int64]
    failures: list[tuple[int, str]]


def load_image(
    source: ImageInput,
    size_hint: int | None = None,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
    keep_alpha: bool = False,
) -> Image.Image:
    """Load a picture: first frame, upright, RGB, alpha on white; `info["full_size"]` is (width, height) as stored.

    Args:
        source: path, encoded bytes, PIL image, array or tensor: (H, W), (H, W, 1|3|4) or (1|3|4, H, W); uint8, uint16,
            or float in 0..1.
        size_hint: the shorter side that is needed; a larger JPEG is then decoded at a fraction of its size.
        name: used in errors; by default the path.
        max_pixels: files with more pixels are refused before decoding.
        keep_alpha: return RGBA, with the alpha as stored.
    Raises:
        ImageError: names the picture, the reason and, if there is one, the remedy.
    """
    name = _name(name or source)
    try:
        with quiet():
            if isinstance(source, Image.Image):
                return _upright(source, keep_alpha)
            if hasattr(source, "__array__"):
                return _upright(_from_array(np.asarray(source)), keep_alpha)
            with _opened(source) as image:
                _check_size(image, max_pixels)
                width, height = image.size
                if size_hint and image.format in ("JPEG", "MPO"):  # MPO: many phones write it
                    image.draft("RGB", (2 * size_hint, 2 * size_hint))  # at least twice the needed size
                sideways = _orientation(image) >= 5 and image.format != "TIFF"  # Pillow rotates TIFF by itself
                upright = _upright(image, keep_alpha)
                upright.info["full_size"] = (height, width) if sideways else (width, height)
                return upright
    except ImageError as error:
        raise ImageError(f"cannot read {name}: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(f"cannot read {name}: {_why_unidentified(source)}") from None
    except Image.DecompressionBombError:
        reason = f"its pixels are over the limit of {MAX_PIXELS:,}; scale it down first"
        raise ImageError(f"cannot read {name}: {reason}") from None
    except Exception as error:  # on damaged bytes, decoders raise errors of any type
        raise ImageError(f"cannot read {name}: {first_line(error)}") from None


def register_heif() -> bool:
    """Register HEIC with Pillow, and return whether that is possible; it needs pillow-heif."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def to_pixels(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize the whole picture to a square, with antialiasing: (3, size, size) uint8."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def load_pixels(
    images: SomeImages,
    size: int,
    *,
    positions: Iterable[int] | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Pixels:
    """Decode a collection at training size, in threads; Pillow releases the interpreter lock while it decodes.

    Args:
        positions: which pictures, by default all. workers: threads, by default all cores.
        progress: called with the number of pictures so far.
    """
    wanted = np.fromiter(range(len(images)) if positions is None else positions, np.int64)
    array = np.empty((len(wanted), 3, size, size), np.uint8)
    full_sizes = np.zeros((len(wanted), 2), np.int64)
    reasons: list[str] = [""] * len(wanted)

    def decode(slot: int) -> None:
        try:
            image = images.image(int(wanted[slot]), size)
            full_sizes[slot] = image.info.get("full_size", image.size)
            array[slot] = to_pixels(image, size)
        except ImageError as error:
            reasons[slot] = str(error)

    def decode_some(first: int) -> int:
        end, slot = min(first + PER_TASK, len(wanted)), first
        while slot < end and not stopped.is_set():
            decode(slot)
            slot += 1
        return end

    ready = getattr(images, "array", None)  # pictures in memory, perhaps of this size
    if isinstance(ready, np.ndarray) and ready.dtype == np.uint8 and ready.shape[1:] == (size, size, 3):
        full_sizes[:] = size
        return Pixels(np.ascontiguousarray(ready[wanted].transpose(0, 3, 1, 2)), wanted, full_sizes, [])

    tasks, stopped = range(0, len(wanted), PER_TASK), threading.Event()
    with closing(map_in_order(decode_some, tasks, workers or cores(), stopped)) as ends:
        for end in ends:
            if progress:
                progress(end)
    good = np.array([not reason for reason in reasons], bool)
    failures = [(int(wanted[slot]), reasons[slot]) for slot in np.flatnonzero(~good)]
    return Pixels(array if good.all() else array[good], wanted[good], full_sizes[good], failures)


def first_line(error: Exception) -> str:
    """Return the first line of an error, for a message of spq."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings, for example about broken EXIF: only the pixels matter.

    `catch_warnings` changes state of the whole process, so overlapping threads would restore each other's state. Therefore the
    first thread changes it, and the last one restores it.
    """
    global _inside, _caught
    with _lock:
        _inside += 1
        if _inside == 1:
            _caught = warnings.catch_warnings()
            _caught.__enter__()
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _caught.__exit__(None, None, None)


_lock, _inside, _caught = threading.Lock(), 0, warnings.catch_warnings()


def _name(source: ImageInput) -> str:
    if isinstance(source, str | Path):
        return " ".join(os.fspath(source).encode("utf-8", "replace").decode().splitlines())
    return "the given bytes" if isinstance(source, bytes) else "the given picture"


def _opened(source: str | Path | bytes) -> Image.Image:
    def attempt() -> Image.Image:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)

    try:
        return attempt()
    except UnidentifiedImageError:  # only now, because loading pillow-heif is slow
        if not register_heif():
            raise
        return attempt()


def _why_unidentified(source: ImageInput) -> str:
    if isinstance(source, str | Path):
        try:
            empty = Path(source).stat().st_size == 0
        except OSError:
            return "the file no longer exists"
    else:
        empty = source == b""
    return "the file is empty" if empty else "not a picture in a known format; `spq doctor` lists the formats"


def _check_size(image: Image.Image, limit: int) -> None:
    width, height = image.size
    if width * height > limit:
        raise ImageError(f"{width} x {height} pixels are over the limit of {limit:,}; scale it down first")


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)  # (C, H, W), as tensors are
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise ImageError(f"an array of shape {array.shape} is not a picture; give (H, W), (H, W, 3) or (3, H, W)")
    if array.dtype.kind == "f":
        values = array.astype(np.float64)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError("float pixels must lie in 0..1; divide by 255")
        array = np.round(values * 255)
    elif array.dtype == np.uint16:
        array = array.astype(np.int64) // 257
    elif array.dtype != np.uint8:
        raise ImageError(f"pixels of type {array.dtype} are ambiguous; give uint8, uint16 or float in 0..1")
    return Image.fromarray(np.ascontiguousarray(array, np.uint8))


def _upright(image: Image.Image, keep_alpha: bool) -> Image.Image:
    image.seek(0) if getattr(image, "n_frames", 1) > 1 else None
    orientation = _orientation(image)
    format_ = image.format
    image.load()
    if orientation > 1 and format_ != "TIFF":
        image = image.transpose(_UPRIGHT[orientation])
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _scaled_to_8_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if not keep_alpha:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    converted = image.convert("RGBA" if keep_alpha else "RGB")
    converted = converted.copy() if converted is image else converted  # the caller's picture does not change
    converted.info = {}  # no EXIF, which would rotate the picture again when it is loaded again
    return converted


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if EXIF is damaged, where `ImageOps.exif_transpose` would raise an error."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in _UPRIGHT else 1
    except Exception:  # struct.error, SyntaxError, TypeError, ...
        return 1


def _scaled_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8, where Pillow's convert would clip at 255. Wider ranges (32-bit, float) are scaled by their maximum.

    Mode I does not tell the range: values up to 255 count as 8 bits, up to 65535 as 16 bits.
    """
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    top = values.max(initial=0)
    if image.mode.startswith("I;16") or (image.mode == "I" and 255 < top <= 65535):
        full = 65535.0
    else:
        full = max(top, 1e-12 if image.mode == "F" else 255.0)
    return Image.fromarray(np.round(values / full * 255).astype(np.uint8))


ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated picture is unreadable, even if another library allows it
