"""Read structs in Thrift's compact protocol, in which Parquet has its footer and the headers of its pages.

Arrow reads them, too. But it ends the program where some numbers of a footer do not fit together, and does not tell the sizes of
pages before it unpacks them.
"""

from __future__ import annotations

from typing import Any

MAX_VALUES = 5_000_000  # of a struct and of all inside
MAX_DEPTH = 32
Struct = dict[int, Any]  # number of a field -> its value: int, bool, bytes, list or Struct


def read_struct(data: bytes) -> tuple[Struct, int]:
    """Return a struct, and how many bytes it has.

    Raises:
        IndexError, ValueError: it is damaged, or over a limit.

    >>> read_struct(bytes([0x15, 200, 1, 0x18, 2, 97, 98, 0]))
    ({1: 100, 2: b'ab'}, 8)
    """
    reader = _Reader(data)
    return reader.struct(0), reader.at


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self._left = data, 0, MAX_VALUES

    def struct(self, depth: int) -> Struct:
        number, found = 0, Struct()
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            found[number] = head & 15 == 1 if head & 15 in (1, 2) else self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise ValueError("too many values")
        if kind in (4, 5, 6):
            return self._signed()
        if kind in (1, 2, 3):
            return self._byte()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._number())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._number()
        return [self._value(head & 15, depth + 1) for _ in range(size)]

    def _bytes(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise IndexError
        return self.data[start : self.at]

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _number(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("too large")
        return value | byte << shift

    def _signed(self) -> int:
        value = self._number()
        return value >> 1 ^ -(value & 1)
