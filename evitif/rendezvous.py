"""Weighted rendezvous hashing: which of several places a name belongs to, without a table and with few moves when a place comes or goes.

Each place draws a number from the name and its own; the highest, in proportion to the weights, wins (Thaler and Ravishankar 1998; with
weights Schindelhauer and Schomaker 2005, the logarithmic method). If a place goes, only its names move; if its weight grows, names only
move to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b


def ranked(name: str, weights: Mapping[int, float]) -> list[int]:
    """The places by how well they suit `name`, best first; those whose weight is 0 are left out.

    >>> ranked('rover', {1: 1.0, 2: 0.0})
    [1]
    """
    said = name.encode()
    draws = {place: weight / -math.log(_share(said, place)) for place, weight in weights.items() if weight > 0.0}
    return sorted(draws, key=draws.__getitem__, reverse=True)


def _share(name: bytes, place: int) -> float:
    """A number above 0 and below 1 that only depends on both."""
    drawn = int.from_bytes(blake2b(name, digest_size=8, key=place.to_bytes(8, 'big')).digest(), 'big')
    return (drawn + 0.5) / 2 ** 64
