"""Lists in a sentence, never longer than a sentence may be."""

from __future__ import annotations

from collections.abc import Iterable


def some(names: Iterable[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    names = [name if len(name) <= 80 else name[:79] + '…' for name in map(str, names)]
    more = len(names) - most
    return ', '.join(names) if more <= 0 else f'{", ".join(names[:most])} and {more} more'
