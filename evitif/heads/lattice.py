"""A map coded from coarse to fine, so that whole groups of places are coded at once, each from known ones on all of its sides.

The places of stride 32 come first; then, for each halving of the stride, the middles of the squares of known places, and last the middles
of their edges (the order of interlaced images: PNG's Adam7, and the hierarchical mode of JBIG, ITU-T T.82). So the context of a place is
not only what is left of it and above it, and NumPy can work on a group without a loop over places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evitif.model.symbol_coder import SymbolEncoder, SymbolModel

TOP = 32                # stride of the places that come first
UNKNOWN = -1            # a place that is not known yet, or outside
_REACH = 3
# (row, column) offsets, in strides: the nearest four known places, and eight further ones.
_MIDDLES = ((-1, -1), (-1, 1), (1, -1), (1, 1), (-1, -3), (-3, -1), (-1, 3), (-3, 1), (1, -3), (3, -1), (1, 3), (3, 1))
_EDGES = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -2), (-1, 2), (1, -2), (1, 2), (-2, -1), (-2, 1), (2, -1), (2, 1))
NEAR, FAR = 4, 8


@dataclass(frozen=True, eq=False)
class Group:
    """Places that are coded together, in the order of the map's rows."""

    number: int             # 0, 1, … of the groups behind the first places
    rows: np.ndarray        # int [n]
    columns: np.ndarray     # int [n]
    around: np.ndarray      # int [n, 12]: what is known of the NEAR and FAR places around each, or UNKNOWN

    @property
    def kind(self) -> int:
        """0 for middles, 1 for edges."""
        return self.number % 2


def packed(symbols: Sequence[tuple[np.ndarray, SymbolModel]]) -> bytes:
    """Symbols int [n] with their models, in the order in which they are to be decoded, to bytes."""
    encoder = SymbolEncoder()
    for values, model in reversed(symbols):
        if len(values):
            encoder.push(np.ascontiguousarray(values, np.int32), model)
    return encoder.bytes()


def first_places(height: int, width: int) -> tuple[slice, slice]:
    """Where the places are that come first."""
    return slice(0, height, TOP), slice(0, width, TOP)


def groups(values: np.ndarray) -> Iterator[Group]:
    """The groups of a map int [h, w] of which the first places are filled in; each has to be filled in before the next is asked for.

    A decoder begins with UNKNOWN everywhere else; an encoder may have all places filled in: a place never sees one of a later group.
    """
    height, width = values.shape
    stride, number = TOP, 0
    while stride > 1:
        half = stride // 2
        rows, columns = len(range(0, height, half)), len(range(0, width, half))
        y, x = np.indices((rows, columns))
        for kind, offsets in ((0, _MIDDLES), (1, _EDGES)):
            known = (y % 2 == 0) & (x % 2 == 0) if kind == 0 else (y + x) % 2 == 0
            padded = np.pad(np.where(known, values[::half, ::half], UNKNOWN), _REACH, constant_values=UNKNOWN)
            here = np.nonzero((y % 2 == 1) & (x % 2 == 1) if kind == 0 else ~known)
            around = np.stack([padded[here[0] + _REACH + down, here[1] + _REACH + right] for down, right in offsets], 1)
            yield Group(number, here[0] * half, here[1] * half, around)
            number += 1
        stride = half
