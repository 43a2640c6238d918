"""A dictionary that the network cannot make grow without end."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar('K')
V = TypeVar('V')


class BoundedDict(OrderedDict[K, V]):
    """The `most` keys that were set last, oldest first; setting a key again makes it the newest."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._most:
            del self[next(iter(self))]
