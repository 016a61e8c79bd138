"""Read JSON that may be damaged: one error for all that can be wrong with it, and limits before it is parsed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from spq.common.files import read_regular

MOST_BYTES = 2**24  # 16 MB; Python's objects take up to 20 times as much


class JsonError(ValueError):
    """JSON that cannot be used. The message says why, without the place, which the caller names."""


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Read a JSON file.

    Args:
        most: bytes that are read at most.
    Raises:
        OSError: the system does not open it. JsonError: it is no regular file, too large, or `parse_json` refuses it.
    """
    try:
        return parse_json(read_regular(path, most))
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(str(error)) from None


def parse_json(text: str | bytes) -> Any:
    """Parse JSON as the standard defines it: UTF-8, no key twice, and numbers that are finite.

    Raises:
        JsonError: it is something else, or nested too deep.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(plain, parse_float=_finite, parse_constant=_refuse, object_pairs_hook=_without_repeats)
    except JsonError:
        raise
    except UnicodeDecodeError as error:
        raise JsonError(f"no UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise JsonError("it is nested too deep") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"no JSON: {error}") from None
    except ValueError:  # Python converts no integers of more than 4,300 digits
        raise JsonError("it has a number of too many digits") from None


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise JsonError(f"{text[:20]} is no finite number")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise JsonError(f"it has the key {max(keys, key=keys.count)[:40]!r} twice")
    return table
