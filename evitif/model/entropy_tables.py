"""The integer tables of an entropy code (`entropy_code`): what decides how bytes are read, so nothing here is a float of the machine's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evitif.model.symbol_coder import PRECISION, SymbolModel

# A step in units of the levels: 4 * 2^(index / 4), 4 to 861.
STEPS = np.array([4, 5, 6, 7, 8, 10, 11, 13, 16, 19, 23, 27, 32, 38, 45, 54, 64, 76, 91, 108, 128, 152, 181, 215, 256, 304, 362, 431,
                  512, 609, 724, 861], np.int64)
LIMIT = 32767               # of a level
FINENESSES, PLAIN = 8, 3    # of a token: its step is that of the frame, 3 indices finer to 4 coarser
OCTAVE = 3                  # classes for each factor of 2 of spread / step
TABLES = 14                 # with frequencies of their own; greater classes send low bits as they are
MIDDLE = 5                  # the class of a spread of one step; below class 1 hardly any symbol is worth its bits
CLASSES = TABLES + 6 * OCTAVE
REACH = 24                  # symbols -24 to 24; the outer ones are followed by a byte
ESCAPE = 256
CENTRES = 4                 # magnitudes 0, 1, 2 and more have centres of their own
BUCKETS = 33                # of how much larger a token's symbols were than expected, in quarters of an octave
SMOOTH = 4 * 64            # symbols' worth of expectation that are taken as seen
_EDGES = (0, 6, 16, 32, 56, 92, 140)


@functools.cache
def blocks(coefficients: int) -> tuple[slice, ...]:
    """The coefficients in the order in which they are decoded; each block's classes follow from the blocks before."""
    edges = [edge for edge in _EDGES if edge < coefficients] + [coefficients]
    return tuple(slice(first, last) for first, last in zip(edges, edges[1:]))


MARKS = np.array([round(16 * 2**((bucket + 0.5 - BUCKETS // 2) / 4)) for bucket in range(BUCKETS - 1)], np.int64)


def bucket_of(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where a token stands whose magnitudes summed to `seen` and were expected to sum to `expected`, both in 1/64: int [n]."""
    return np.searchsorted(MARKS, (seen + SMOOTH) * 16 // (expected + SMOOTH), side='right')


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

    def at(self, step: int) -> Step:
        """What a step needs of the tables."""
        if step not in self._steps:
            self._steps[step] = self._at(step)
        return self._steps[step]

    @functools.cached_property
    def _steps(self) -> dict[int, Step]:
        return {}

    def _at(self, step: int) -> Step:
        kinds, sorts, _, kept = self.base.shape
        modes, steps = FINENESSES * kinds, np.clip(np.arange(FINENESSES) + step - PLAIN, 0, len(STEPS) - 1)
        base = self.base[:, :, steps].transpose(2, 0, 1, 3).reshape(modes * sorts, kept).astype(np.int16)
        lifted = np.concatenate([np.broadcast_to(shift.max(), part.stop - part.start) for part, shift in zip(
            blocks(kept), self.shifts.transpose(1, 0, 2), strict=True)])
        used = np.flatnonzero((base.max(0) + np.maximum(lifted, 0)) > 0)
        columns = int(used[-1]) + 1 if len(used) else 1
        expected = self.expected[np.clip(base, 0, CLASSES)].astype(np.int64)
        parts = blocks(columns)
        before = np.stack([expected[:, :part.start].sum(1) for part in parts], 1)
        # What a token coded as it is would get bits for has to be coded in a difference as well: or its error would grow with the frames.
        alone = base[:, :columns].reshape(FINENESSES, kinds, sorts, columns)[:, :1] > 0
        floor = np.repeat(alone, kinds, 1).astype(np.int16)
        floor[:, 0] = 0
        return Step(np.repeat(STEPS[steps], kinds).astype(np.int32), columns, parts, np.ascontiguousarray(base[:, :columns]),
                    floor.reshape(modes * sorts, columns), before,
                    np.tile(self.factors.reshape(kinds * sorts, kept).astype(np.int32), (FINENESSES, 1)), sorts, kinds, self.shifts,
                    self.centres.ravel().astype(np.int32))

    def bits(self, label: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
        """Expected bits of symbols of these classes and magnitudes, float32."""
        if label.size and label.max() > TABLES:
            magnitude = magnitude >> LOW_BITS[label]
        return self.cost.ravel().take(label * np.intp(REACH + 1) + np.minimum(magnitude, REACH))


@dataclass(frozen=True, eq=False)
class Step:
    """The tables of one step, by mode and sort: row mode * sorts + sort, where a mode is fineness * kinds + kind."""

    sizes: np.ndarray           # int32 [modes], of the step in units of the levels
    columns: int                # coefficients after which none is coded at this step
    blocks: tuple[slice, ...]
    base: np.ndarray            # int16 [modes * sorts, columns]
    floor: np.ndarray           # int16 [modes * sorts, columns]: the least class that adaptation may lead to
    expected: np.ndarray        # int64 [modes * sorts, blocks]: sum of the magnitudes, in 1/64, before each block
    factors: np.ndarray         # int32 [modes * sorts, K]
    sorts: int
    kinds: int                  # ways to refer to what is known, none among them: the modes of `Tables`
    shifts: np.ndarray          # as in `Tables`
    centres: np.ndarray         # int32 [(CLASSES + 1) * CENTRES], the same

    @functools.cached_property
    def inverses(self) -> np.ndarray:
        """float32 [modes], for the choice of symbols only."""
        return (1 / self.sizes).astype(np.float32)

    # What encoder and decoder share: integers only.

    def predicted(self, row: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
        """Levels int32 [n, K] of what is known before a token is decoded, of tokens of these rows and earlier levels int32 [n, K]."""
        if reference is None:
            return np.zeros((len(row), self.factors.shape[1]), np.int32)
        levels = self.factors[row]
        levels *= reference
        levels += 128
        levels >>= 8
        return levels

    def adapted(self, row: np.ndarray, symbols: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """Block by block the classes int16 [n, k] and their columns, each after `symbols` was filled up to there."""
        base, floor, later = self.base[row], self.floor[row], (row // self.sorts % self.kinds > 0).astype(np.intp)
        expected, seen = self.expected[row], np.zeros(len(row), np.int64)
        for index, part in enumerate(self.blocks):
            label = base[:, part] + self.shifts[later, index, bucket_of(seen, expected[:, index])][:, None]
            np.maximum(label, floor[:, part], out=label)
            yield np.minimum(label, CLASSES, out=label), part
            seen += 64 * np.abs(symbols[:, part]).sum(1)

    def levels(self, row: np.ndarray, predicted: np.ndarray, symbols: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Levels int16 [n, K] of tokens of these rows with these symbols and classes [n, columns]. `predicted` int32 [n, K] is changed."""
        magnitude = np.abs(symbols)
        at = classes * np.intp(CENTRES) + np.minimum(magnitude, CENTRES - 1)
        offset = magnitude << 6
        offset -= self.centres.take(at)
        offset *= self.sizes[row // self.sorts][:, None]
        offset += 32
        offset >>= 6
        offset *= np.sign(symbols)
        predicted[:, :self.columns] += offset
        return np.clip(predicted, -LIMIT, LIMIT, out=predicted).astype(np.int16)


def table_of(label: int) -> tuple[int, int]:
    """The table of class 1 to CLASSES, and how many low bits of a symbol are sent as they are."""
    if label <= TABLES:
        return label - 1, 0
    above = label - TABLES - 1
    return TABLES - OCTAVE + above % OCTAVE, 1 + above // OCTAVE


LOW_BITS = np.array([0, *(table_of(label)[1] for label in range(1, CLASSES + 1))], np.int32)
