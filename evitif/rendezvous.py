"""Weighted rendezvous hashing: which of several places a name belongs to, without a table and with few moves when a place comes or goes.

Each place draws a number from the name and its own; the highest, in proportion to the weights, wins (Thaler and Ravishankar 1998; with
weights Schindelhauer and Schomaker 2005, the logarithmic method). If a place goes, only its names move; if its weight grows, names only
move to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b

_MASK = (1 << 64) - 1


def ranked(name: str, weights: Mapping[int, float]) -> list[int]:
    """The places by how well they suit `name`, best first; those whose weight is 0 are left out.

    >>> ranked('rover', {1: 1.0, 2: 0.0})
    [1]
    """
    seed = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), 'big')
    draws = {place: weight / -math.log(_share(seed, place)) for place, weight in weights.items() if weight > 0.0}
    return sorted(draws, key=draws.__getitem__, reverse=True)


def _share(seed: int, place: int) -> float:
    """A number above 0 and below 1 that only depends on both: SplitMix64's last step (Steele, Lea and Flood 2014)."""
    mixed = (seed + (place + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ mixed >> 31) + 0.5) / 2 ** 64
