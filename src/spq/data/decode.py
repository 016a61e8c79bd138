"""From any picture to pixels: decode, orient, convert to RGB, resize. All commands use this module."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from spq.common.parallel import cores, map_in_order, slices
from spq.data.colour import as_shown
from spq.data.deep import stored_in_8_bits, with_low_bytes, with_whole_planes
from spq.data.fit import LARGE_JPEG, fit, fraction, over, with_copies
from spq.data.formats import NOT_READ, is_heif, read_file, register_heif, why_unknown
from spq.data.frames import shown_frame
from spq.data.preview import find_preview
from spq.data.repair import repaired, without_padding
from spq.data.work import MAX_PIXELS, Steps, check_tags, memory_limit, room, shared_memory, stream
from spq.errors import ImageError

if TYPE_CHECKING:
    import torch

ImageInput: TypeAlias = "str | Path | bytes | Image.Image | NDArray[np.generic] | torch.Tensor"

PER_COPY = 4096  # pictures that are copied at a time
PER_TASK = 64  # pictures in one task of a thread; for tiny pictures, single tasks would cost more than decoding
# Formats whose writers leave the alpha at zero if they do not mean any.
NO_ALPHA = ("BMP", "CUR", "DIB", "ICO", "TGA", "TIFF")
SMALL = 2**22  # bytes of a picture that need not wait until other threads free memory
MAX_REPAIRED = 50_000_000  # pixels of a damaged picture that is tried again without its defects

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
        large: (N, 3, C, C) uint8, the same pictures at a larger side, if that was wanted.
    """

    array: NDArray[np.uint8]
    kept: NDArray[np.int64]
    full_sizes: NDArray[np.int64]
    failures: list[tuple[int, str]]
    large: NDArray[np.uint8] | None = None


def load_image(
    source: ImageInput,
    size_hint: int | None = None,
    name: str = "",
    max_pixels: int | None = None,
    keep_alpha: bool = False,
) -> Image.Image:
    """Load a picture: upright, RGB, alpha on a ground; `info["full_size"]` is (width, height) as stored.

    Content decides what it is, not the name. Colours are sRGB, more than 8 bits are scaled (`data/deep.py`), and the frame of
    an animation is the first that is not empty (`data/frames.py`). Defects in what is not pixels do not matter; a picture that
    lacks pixels is an error.

    Args:
        source: path of a regular file, encoded bytes, PIL image, array or tensor: (H, W), (H, W, 1|3|4) or (1|3|4, H, W);
            uint8, uint16, or float in 0..1.
        size_hint: the shorter side that is needed; a larger JPEG is then decoded at a fraction of its size.
        name: used in errors; by default the path.
        max_pixels: files with more pixels are refused before decoding, by default those above the limit of `set_max_pixels`. A
            JPEG with up to `LARGE_JPEG` times as many is decoded at the largest of 1/2, 1/4 and 1/8 that is within the limit.
        keep_alpha: return RGBA, with the alpha as stored.
    Raises:
        ImageError: names the picture, the reason and, if there is one, the remedy.
    """
    name, limit = _name(name or source), max_pixels or _max_pixels
    try:
        with quiet():
            if isinstance(source, Image.Image):
                return _upright(source, keep_alpha, limit)
            if hasattr(source, "__array__"):
                return _upright(_from_array(np.asarray(source)), keep_alpha, limit)
            data = source if isinstance(source, bytes) else read_file(source, name=name)
            return _load_bytes(data, size_hint, limit, keep_alpha)
    except UnidentifiedImageError:
        raise ImageError(f"cannot read {name}: {why_unknown(data)}") from None
    except MemoryError:
        raise ImageError(f"cannot read {name}: there is not enough memory for it; scale it down first") from None
    except Image.DecompressionBombError:
        raise ImageError(f"cannot read {name}: its pixels are {over(limit)}") from None
    except ImageError as error:
        text = str(error)
        raise ImageError(text if text.startswith("cannot read ") else f"cannot read {name}: {text}") from None
    except Exception as error:  # on damaged bytes, decoders raise errors of any type
        raise ImageError(f"cannot read {name}: {first_line(error)}") from None


def set_max_pixels(count: int) -> None:
    """Set the limit of pixels of all files that this process opens, also Pillow's own."""
    global _max_pixels
    _max_pixels = count
    Image.MAX_IMAGE_PIXELS = (count + 1) // 2  # Pillow raises an error above twice this number


def pixel_limit() -> int:
    """Return the limit of pixels of a file, as `set_max_pixels` has set it."""
    return _max_pixels


def decoder_version() -> str:
    """What decides which pictures can be read: versions and limit. Where another one failed, this one may not."""
    from spq import __version__

    heif = f", pillow-heif {metadata.version('pillow-heif')}" if register_heif() else ""
    return f"spq {__version__}, Pillow {PIL.__version__}{heif}, up to {_max_pixels} pixels"


def to_pixels(image: Image.Image, size: int, resampling: int = Image.Resampling.BILINEAR) -> NDArray[np.uint8]:
    """Resize the whole picture to a square, with antialiasing: (3, size, size) uint8."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling(resampling))
    return np.asarray(image).transpose(2, 0, 1)


def load_pixels(
    images: SomeImages,
    size: int,
    *,
    positions: Iterable[int] | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    large: int = 0,
) -> Pixels:
    """Decode a collection at training size, in threads; Pillow releases the interpreter lock while it decodes.

    Args:
        positions: which pictures, by default all. workers: threads, by default all cores.
        progress: called with the number of pictures so far.
        large: also keep each picture at this side, at most twice `size`. Lanczos keeps what a second resize would blur.
    """
    wanted = np.fromiter(range(len(images)) if positions is None else positions, np.int64)
    array = np.empty((len(wanted), 3, size, size), np.uint8)
    larger = np.empty((len(wanted), 3, large, large), np.uint8) if large else None
    full_sizes = np.zeros((len(wanted), 2), np.int64)
    reasons: list[str] = [""] * len(wanted)

    def decode(slot: int) -> None:
        try:
            image = images.image(int(wanted[slot]), size)
            full_sizes[slot] = image.info.get("full_size", image.size)
            array[slot] = to_pixels(image, size)
            if larger is not None:
                larger[slot] = to_pixels(image, large, Image.Resampling.LANCZOS)
        except ImageError as error:
            reasons[slot] = str(error)

    def decode_some(first: int) -> int:
        end, slot = min(first + PER_TASK, len(wanted)), first
        while slot < end and not stopped.is_set():
            decode(slot)
            slot += 1
        return end

    ready: Any = getattr(images, "array", None)  # pictures in memory, perhaps of this size
    is_array = isinstance(ready, np.ndarray) and not large
    if is_array and ready.dtype == np.uint8 and ready.shape[1:] == (size, size, 3):
        full_sizes[:] = size
        for rows in slices(len(wanted), PER_COPY):
            array[rows] = ready[wanted[rows]].transpose(0, 3, 1, 2)
        return Pixels(array, wanted, full_sizes, [])

    tasks, stopped = range(0, len(wanted), PER_TASK), threading.Event()
    with closing(map_in_order(decode_some, tasks, workers or cores(), stopped)) as ends:
        for end in ends:
            if progress:
                progress(end)
    good = np.array([not reason for reason in reasons], bool)
    failures = [(int(wanted[slot]), reason) for slot, reason in enumerate(reasons) if reason]
    found = Pixels(array, wanted[good], full_sizes[good], failures, larger)
    return _without_failed(found, np.flatnonzero(good)) if failures else found


def _without_failed(found: Pixels, kept: NDArray[np.int64]) -> Pixels:
    """Move the rows that are kept to the front, in place: there may be no memory for a second array."""
    for array in (found.array, found.large):
        for rows in slices(len(kept), PER_COPY):
            if array is not None:
                array[rows] = array[kept[rows]]
    large = None if found.large is None else found.large[: len(kept)]
    return replace(found, array=found.array[: len(kept)], large=large)


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
_max_pixels = MAX_PIXELS


def _name(source: ImageInput) -> str:
    if isinstance(source, str | Path):
        return " ".join(os.fspath(source).encode("utf-8", "replace").decode().splitlines())
    return "the given bytes" if isinstance(source, bytes) else "the given picture"


def _load_bytes(data: bytes, size_hint: int | None, limit: int, keep_alpha: bool) -> Image.Image:
    """Load a picture from the bytes as they are; if that fails, from bytes with the same pixels and without the defect."""
    data = without_padding(data)
    preview = find_preview(data)
    if preview:
        try:
            return _decode(preview[0], size_hint, limit, keep_alpha, orientation=preview[1])
        except Exception:  # errors of any type: then as any other TIFF
            pass
    try:
        return _decode(data, size_hint, limit, keep_alpha)
    except (ImageError, Image.DecompressionBombError, MemoryError):
        raise
    except Exception as error:
        failed = error.with_traceback(None)  # it would keep what was decoded
    tried = {data}
    for other in repaired(data, limit) if _pixels_told(data) <= MAX_REPAIRED else ():
        if other not in tried:
            tried.add(other)
            with suppress(Exception):  # the first error tells most
                return _decode(other, size_hint, limit, keep_alpha)
    if is_heif(data[:64]):
        raise ImageError(why_unknown(data)) from None
    try:
        raise failed
    finally:
        del failed  # it knows this frame, and would keep the bytes


def _pixels_told(data: bytes) -> int:
    """Return the pixels of a picture as its header tells; 0 if the header is damaged."""
    try:
        with Image.open(stream(data, LARGE_JPEG * MAX_REPAIRED)) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        return MAX_REPAIRED + 1
    except Exception:  # errors of any type
        return 0


def _decode(data: bytes, size_hint: int | None, limit: int, keep_alpha: bool, orientation: int = 1) -> Image.Image:
    """Load a picture from its bytes; `orientation` counts if they have none of their own."""
    check_tags(data)
    with _opened(data, limit) as image:
        if image.format in NOT_READ:
            raise ImageError(f"{NOT_READ[image.format]} is not read; save it as PNG or JPEG")
        full_size, memory = image.size, memory_limit(limit) - len(data)
        needed = fit(image, data, size_hint, limit, memory)
        is_smaller = image.size != full_size
        with (
            room.take(len(data) + min(memory, with_copies(image, needed)), shared_memory(limit))
            if needed > SMALL
            else nullcontext()
        ):
            loaded = with_low_bytes(with_whole_planes(image), data, memory)
            is_smaller = is_smaller or (image.format == "JPEG2000" and image.size != full_size)
            own = _orientation(loaded)
            orientation = own if own > 1 else orientation
            upright = _upright(loaded, keep_alpha, limit, orientation, memory)
        if is_smaller:
            upright.info["full_size"] = full_size[::-1] if orientation >= 5 else full_size
        upright.info.setdefault("full_size", upright.size)
        return upright


def _opened(data: bytes, limit: int) -> Image.Image:
    source = stream(data, limit)
    try:
        image = Image.open(source)
        if isinstance(source, Steps):
            source.expect(image)
        return image
    except UnidentifiedImageError:  # only now, because loading pillow-heif is slow
        if not register_heif():
            raise
        return Image.open(stream(data, limit))
    except Image.DecompressionBombError:
        if not data.startswith(b"\xff\xd8\xff"):
            raise
        return JpegImageFile(stream(data, limit))  # can be decoded at a fraction of its size, which `_shrink` decides


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


def _upright(
    image: Image.Image, keep_alpha: bool, limit: int, orientation: int = 0, memory: int | None = None
) -> Image.Image:
    """Return a picture as it is shown.

    Args:
        memory: bytes that it and its copies may take, else it is made smaller. None for a picture of the caller, which stays.
    """
    given, format_, full_size = image, image.format, image.info.get("full_size")
    orientation = orientation or _orientation(image)
    frame = shown_frame(image, limit)
    orientation = 1 if format_ == "TIFF" else orientation  # Pillow rotates TIFF by itself
    shrink = 1 if memory is None else fraction(frame, orientation > 1, memory)
    if shrink > 1:
        full_size = frame.size[::-1] if orientation >= 5 else frame.size
    image = stored_in_8_bits(frame, shrink)
    has_alpha = not (format_ in NO_ALPHA and "A" in image.getbands() and not image.getbbox())
    image = as_shown(image, keep_alpha, has_alpha, shrink if image.size == frame.size else 1)
    if orientation > 1:
        image = image.transpose(_UPRIGHT[orientation])
    elif image is given:  # without its file, whose other frames it could show; without a copy if nobody else has it
        image = image.copy() if memory is None else image._new(image.im)
    image.info = {"full_size": full_size} if full_size else {}  # no EXIF, which would rotate the picture again
    return image


def _orientation(image: Image.Image) -> int:
    """Load a picture, and return its EXIF orientation, 1 to 8; 1 if EXIF is damaged."""
    image.load()  # not by getexif: an error of the pixels is none of EXIF, and a second load would return half a picture
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in _UPRIGHT else 1
    except Exception:  # struct.error, SyntaxError, TypeError, ...
        return 1


logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the error says enough; what it logs would be printed too
ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated picture is unreadable, even if another library allows it
