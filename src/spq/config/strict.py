"""Dataclasses from plain JSON and TOML types. Unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any, Literal, TypeVar

from spq.config.ranges import shown
from spq.config.sections import ClusterConfig
from spq.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], table: Any, where: str) -> T:
    """A dataclass from plain JSON or TOML types.

    Args:
        where: the source of `table`, for error messages.
    Raises:
        ConfigError: names the key and the expected type.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, got {shown(table)}")
    if cls is ClusterConfig and isinstance(table.get("self_training"), bool):  # in models from before `rounds` existed
        table = {key: value for key, value in table.items() if key != "self_training"} | {
            "rounds": int(table["self_training"])
        }
    hints = typing.get_type_hints(cls)
    unknown = sorted(map(str, set(table) - set(hints)))
    if unknown:
        raise ConfigError(f"{where}: unknown key {shown(unknown[0])}; use one of {', '.join(hints)}")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """The value as the type that `hint` names."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where} = {shown(value)}; use one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _tuple(args, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**300:
        return float(value)
    if not isinstance(hint, type) or not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where} = {shown(value)}; expected {getattr(hint, '__name__', hint)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} = {shown(value)}; expected a finite number")
    return value


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A list as a tuple, of any length if `args` ends with an ellipsis."""
    variadic = len(args) == 2 and args[1] is ...
    if not isinstance(value, list | tuple) or (not variadic and len(value) != len(args)):
        raise ConfigError(f"{where} = {shown(value)}; expected a list of {'numbers' if variadic else len(args)}")
    kinds = [args[0]] * len(value) if variadic else list(args)
    return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
