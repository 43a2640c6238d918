"""A fuzzer's bytes read as decisions; once they are used up every decision is zero."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar('T')


class Stream:
    """Numbers and bytes, one after the other, from `data`."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next bytes, at most `count`."""
        taken = self._data[self._at:self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        """What is left."""
        return self.take(len(self._data))

    def number(self, size: int = 1) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size), 'big')

    def real(self) -> float:
        """A binary64, infinities and NaN included."""
        return struct.unpack('>d', self.take(8).ljust(8, b'\0'))[0]

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.number() % len(options)]

    def value(self) -> Any:
        """What a settings file or a caller might give where one number is expected."""
        kind = self.number() % 6
        if kind == 0:
            return self.real()
        if kind == 1:
            return self.number(1)
        if kind == 2:
            return self.number(9) - (1 << 70)
        if kind == 3:
            return self.choice((None, True, '', '1', (), {}))
        return self.number(2) / 1000 if kind == 4 else self.number(2)
