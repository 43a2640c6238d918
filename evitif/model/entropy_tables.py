"""The integer tables of an entropy code (`entropy_code`): what decides how bytes are read, so nothing here is a float of the machine's."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from evitif.model.symbol_coder import PRECISION, SymbolModel

# A step in units of the levels: 4 * 2^(index / 4), 4 to 861.
STEPS = np.array([4, 5, 6, 7, 8, 10, 11, 13, 16, 19, 23, 27, 32, 38, 45, 54, 64, 76, 91, 108, 128, 152, 181, 215, 256, 304, 362, 431,
                  512, 609, 724, 861], np.int64)
OCTAVE = 4                  # classes for each factor of 2 of spread / step
TABLES = 32                 # with frequencies of their own; greater classes send low bits as they are
MIDDLE = 18                 # the class of a spread of one step
CLASSES = TABLES + 6 * OCTAVE
REACH = 24                  # symbols -24 to 24; the outer ones are followed by a byte
ESCAPE = 256
CENTRES = 4                 # magnitudes 0, 1, 2 and more have centres of their own
BUCKETS = 41                # of how much larger a token's symbols were than expected, in quarters of an octave
_SMOOTH = 4 * 64            # symbols' worth of expectation that are taken as seen
_EDGES = (0, 4, 10, 18, 28, 42, 60, 84, 116, 156)


@functools.cache
def blocks(coefficients: int) -> tuple[slice, ...]:
    """The coefficients in the order in which they are decoded; each block's classes follow from the blocks before."""
    edges = [edge for edge in _EDGES if edge < coefficients] + [coefficients]
    return tuple(slice(first, last) for first, last in zip(edges, edges[1:]))


_MARKS = np.array([round(16 * 2**((bucket + 0.5 - BUCKETS // 2) / OCTAVE)) for bucket in range(BUCKETS - 1)], np.int64)


def bucket_of(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where a token stands whose magnitudes summed to `seen` and were expected to sum to `expected`, both in 1/64: int [n]."""
    return np.searchsorted(_MARKS, (seen + _SMOOTH) * 16 // (expected + _SMOOTH), side='right')


@dataclass(frozen=True, eq=False)
class Tables:
    """Raises ValueError where the arrays do not fit together."""

    base: np.ndarray            # int8 [modes, sorts, steps, K]: class before adaptation, 0 and less: not coded unless adaptation lifts it
    factors: np.ndarray         # int16 [modes, sorts, K]: of the other side's level, in 1/256; 0 in mode 0
    frequencies: np.ndarray     # int32 [TABLES, 2 * REACH + 1]
    centres: np.ndarray         # int8 [CLASSES + 1, CENTRES]: how far the centre of a cell is below its middle, in 1/64 of a step
    expected: np.ndarray        # int32 [CLASSES + 1]: mean magnitude in 1/64
    shifts: np.ndarray          # int8 [2, blocks, BUCKETS]: what is added to the class, of mode 0 and of the others

    def __post_init__(self):
        modes, sorts, steps, kept = self.base.shape if self.base.ndim == 4 else (0, 0, 0, 0)
        shapes = {'base': (modes, sorts, len(STEPS), kept), 'factors': (modes, sorts, kept), 'frequencies': (TABLES, 2 * REACH + 1),
                  'centres': (CLASSES + 1, CENTRES), 'expected': (CLASSES + 1,), 'shifts': (2, len(blocks(kept)), BUCKETS)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape or not all(shape):
                raise ValueError(f'{name} of shape {list(getattr(self, name).shape)}: expected {list(shape)}')
        if self.factors[0].any() or abs(self.factors.astype(int)).max() > 512:
            raise ValueError('factors of the tokens of an earlier frame: expected 0 in mode 0, and at most 512 elsewhere')
        if self.expected.min() < 0 or self.expected.max() > 1 << 20:
            raise ValueError(f'expected magnitudes from {self.expected.min()} to {self.expected.max()}: expected 0 to {1 << 20}')
        _ = self.models

    @functools.cached_property
    def models(self) -> tuple[SymbolModel, ...]:
        """One of each table."""
        return tuple(SymbolModel(row) for row in self.frequencies)

    @functools.cached_property
    def cost(self) -> np.ndarray:
        """float32 [CLASSES + 1, REACH + 1]: expected bits of a symbol, its sign included, by what is left of its magnitude without the
        low bits; for the choice of symbols only."""
        cost = np.zeros((CLASSES + 1, REACH + 1), np.float32)
        for label in range(1, CLASSES + 1):
            table, low = table_of(label)
            cost[label] = PRECISION - np.log2(self.frequencies[table, REACH:].astype(np.float64)) + low
        cost[:, -1] += 8
        cost[0, 1:] = 1e6
        return cost

    def bits(self, label: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
        """Expected bits of symbols of these classes and magnitudes."""
        return self.cost[label, np.minimum(magnitude >> LOW_BITS[label], REACH)]


def table_of(label: int) -> tuple[int, int]:
    """The table of class 1 to CLASSES, and how many low bits of a symbol are sent as they are."""
    if label <= TABLES:
        return label - 1, 0
    above = label - TABLES - 1
    return TABLES - OCTAVE + above % OCTAVE, 1 + above // OCTAVE


LOW_BITS = np.array([0, *(table_of(label)[1] for label in range(1, CLASSES + 1))])
