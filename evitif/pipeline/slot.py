"""The latest-frame slot: a place for one item, so that no queue ever grows."""

from __future__ import annotations

import itertools
import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class LatestSlots(Generic[T]):
    """One slot for each key: a new item replaces one that waits. Items are taken in the order in which their slots were filled."""

    def __init__(self):
        self._items: dict[object, T] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, key: object, item: T) -> T | None:
        """Put an item and return the one that it replaced, if any; after `close`, the item itself."""
        with self._changed:
            if self._closed:
                return item
            replaced = self._items.get(key)
            self._items[key] = item  # a replaced key keeps its turn
            self._changed.notify()
            return replaced

    def take(self) -> T | None:
        """Wait for an item and take it; None once closed."""
        return next(iter(self.take_up_to(1)), None)

    def take_up_to(self, limit: int) -> list[T]:
        """Wait for an item, then take at most `limit` items, each of another key; empty once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            return [self._items.pop(key) for key in list(itertools.islice(self._items, limit))]

    def discard(self, key: object) -> T | None:
        """Take a key's item out, if there is one."""
        with self._changed:
            return self._items.pop(key, None)

    def close(self) -> list[T]:
        """Wake all that wait, and return the items that nobody took."""
        with self._changed:
            self._closed = True
            left = list(self._items.values())
            self._items.clear()
            self._changed.notify_all()
            return left
