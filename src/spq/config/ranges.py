"""Ranges of the numbers in a recipe: each field names its own, and all are checked in one place before anything is allocated."""

from __future__ import annotations

import dataclasses
import numbers
import os
import reprlib
from typing import Any, TypeVar

from spq.errors import ConfigError

T = TypeVar("T")
_OPTIONS = {
    "input.size": "`image_size`",
    "train.epochs": "`epochs`",
    "train.minutes": "`minutes`",
}  # as users give them


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, without `low` itself if it is `above`."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):  # numbers of NumPy are such, too
            return False
        number: Any = value
        return bool((self.low < number if self.above else self.low <= number) and number <= self.high)

    def __str__(self) -> str:
        high = f"{self.high:,}" if isinstance(self.high, int) and self.high >= 10_000 else f"{self.high:g}"
        return f"above {self.low:g} and at most {high}" if self.above else f"from {self.low:g} to {high}"


def ranged(default: T, low: float, high: float, above: bool = False) -> T:
    """Return a field of a dataclass whose number, or each number in its tuple, must be in a range."""
    field: T = dataclasses.field(default=default, metadata={"range": Range(low, high, above)})
    return field


def check_ranges(config: Any, section: str) -> None:
    """Refuse a number outside the range of its field.

    Raises:
        ConfigError: names the field, its range and the value.
    """
    for field in dataclasses.fields(config):
        value, allowed = getattr(config, field.name), field.metadata.get("range")
        if allowed is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if number not in allowed:
                name = f"{section}.{field.name}"
                raise ConfigError(
                    f"{_OPTIONS.get(name, name)} must be {allowed}, got {shown(number)}; omit it for its default"
                )


_KINDS: dict[type, Any] = {int: numbers.Integral, float: numbers.Real, str: str | os.PathLike}
_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def plain(name: str, value: Any, kind: type | None) -> Any:
    """Return an option of the caller as a plain int, float, bool or str; None stays None.

    Args:
        name: of the option, for the error. kind: any value is taken as it is where this is None.
    Raises:
        ConfigError: the value is of another type.

    >>> import numpy as np
    >>> plain("seed", np.int64(3), int), plain("minutes", 2, float), plain("seed", None, int)
    (3, 2.0, None)
    """
    if value is None or kind is None:
        return value
    truth = isinstance(value, bool) or type(value).__name__ == "bool"  # NumPy's own type has the same name
    is_kind = truth if kind is bool else isinstance(value, _KINDS[kind]) and not truth
    if not is_kind:
        raise ConfigError(f"`{name}` must be {_WANTED[kind]}, got {shown(value)}")
    try:
        return os.fspath(value) if kind is str else kind(value)
    except OverflowError:
        raise ConfigError(f"`{name}` must be a smaller number, got {shown(value)}") from None


def shown(value: object) -> str:
    """Return a value as short text for an error message, however large it is or deeply nested.

    >>> shown([[1, 2], "three"]), len(shown("x" * 10**6)) < 50
    ("[[1, 2], 'three']", True)
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return "a number of more than 40 digits"  # Python may refuse to write it
    return reprlib.repr(value)
