"""Tokens as a few bits a channel: a Karhunen-Loève transform, weighted by what the tail notices.

int8 and int4 know nothing of the model. A transform code is fitted to one model and cut (`evitif train code`), lies beside the model, and
is the same on edge and bridge. For each prefix token and for the patches it has

* `mean`, the average of training images at each place;
* `analysis` [D, K], which turns a token less the mean into K uncorrelated coefficients of variance 1, and `synthesis` [K, D], which turns
  them back. The basis is the Karhunen-Loève transform (Goyal, "Theoretical foundations of transform coding", IEEE Signal Processing
  Magazine 2001) of the tokens weighted by the square root of the tail's Fisher information, which minimises the error of the answer, not
  that of the token;
* `order`: which coefficient gets the next bit, most useful first (reverse water-filling by greedy choice). Its first B entries are the
  allocation for rows of B bits, so one fit serves every rate.

A coefficient with b bits is quantised to 2^b levels that Lloyd's method chose on training tokens (Lloyd, IEEE Transactions on Information
Theory 1982). A row is the coefficients' codes, bit by bit; any bytes decode to finite values.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from evitif.model.regrid import Grid, places_resampled
from evitif.vocabulary import Quantisation

# By name, the bits of a row for each channel of a token.
RATES = {kind: float(kind.removeprefix('klt')) for kind in Quantisation.values() if kind.startswith('klt')}
MAX_DEPTH = 6           # bits of one coefficient


def code_row_bytes(kind: str, channels: int) -> int:
    """Bytes of a row of a token of so many channels."""
    return max(1, int(-(-RATES[kind] * channels // 8)))


def digest_of(arrays: dict[str, np.ndarray]) -> str:
    """Hex SHA-256 of named arrays, their types and shapes."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f'{name} {array.dtype} {array.shape}'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Basis:
    """The transform of the tokens of one sort."""

    analysis: np.ndarray        # float32 [D, K]
    synthesis: np.ndarray       # float32 [K, D]
    order: np.ndarray           # int16 [bits]: the coefficient that each next bit of a row goes to

    def __post_init__(self):
        channels, kept = self.analysis.shape
        if self.synthesis.shape != (kept, channels) or self.order.ndim != 1 or not len(self.order):
            raise ValueError(f'a basis of shapes {self.analysis.shape}, {self.synthesis.shape} and {self.order.shape}: '
                             'expected [D, K], [K, D] and [bits]')
        if self.order.min() < 0 or self.order.max() >= kept or np.bincount(self.order).max() > MAX_DEPTH:
            raise ValueError(f'an order of bits names coefficients {self.order.min()} to {self.order.max()} of {kept}, at '
                             f'most {MAX_DEPTH} bits each were expected')

    def layout(self, row_bytes: int) -> list[tuple[int, np.ndarray, slice]]:
        """For a row of so many bytes, by ascending depth: the depth, the coefficients that have it, their place in the row."""
        depths = np.bincount(self.order[:8 * row_bytes], minlength=self.analysis.shape[1])
        at, groups = 0, []
        for depth in range(1, MAX_DEPTH + 1):
            chosen = np.flatnonzero(depths == depth)
            if len(chosen):
                groups.append((depth, chosen, slice(at, at + depth * len(chosen))))
                at += depth * len(chosen)
        return groups


class TransformCode:
    """Codes the tokens [N, D] of a model at a cut. Raises ValueError where the arrays do not fit together.

    :param mean: float32 [N, D]
    :param bases: one for each prefix token, then one for all patches
    :param levels: for 1 to 6 bits, float32 [2^bits] ascending, the values that a coefficient is quantised to
    """

    def __init__(self, mean: np.ndarray, bases: list[Basis], levels: list[np.ndarray]):
        if mean.ndim != 2 or not bases or len(bases) > len(mean):
            raise ValueError(f'a code with means {mean.shape} and {len(bases)} bases: expected [tokens, channels], and a '
                             'basis for each prefix token and one for the patches')
        for basis in bases:
            if basis.analysis.shape[0] != mean.shape[1]:
                raise ValueError(f'a basis for {basis.analysis.shape[0]} channels, means of {mean.shape[1]}')
        if [len(values) for values in levels] != [2**depth for depth in range(1, MAX_DEPTH + 1)]:
            raise ValueError(f'levels {[len(values) for values in levels]}: expected 2, 4, … {2**MAX_DEPTH} of them')
        self.mean, self.bases, self.levels = mean, tuple(bases), tuple(levels)
        self._boundaries = [(values[1:] + values[:-1]) / 2 for values in levels]
        self._layout = functools.cache(lambda sort, row_bytes: self.bases[sort].layout(row_bytes))

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.mean.shape[0]

    @property
    def channels(self) -> int:
        """Values of a token."""
        return self.mean.shape[1]

    @functools.cached_property
    def digest(self) -> str:
        """Hex SHA-256 of all that encoding and decoding depend on."""
        return digest_of(self.arrays())

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` takes."""
        found = {'mean': self.mean}
        for index, basis in enumerate(self.bases):
            for name in ('analysis', 'synthesis', 'order'):
                found[f'{name}.{index}'] = getattr(basis, name)
        return {**found, **{f'levels.{depth}': values for depth, values in enumerate(self.levels, 1)}}

    def regridded(self, old: Grid, new: Grid) -> TransformCode:
        """The code for the same model with another grid of patches: the means go with the positions, the rest knows no place. It has the
        digest of this one, since both sides do it alike but for the last bit of a mean."""
        if old == new:
            return self
        found = TransformCode(places_resampled(self.mean, old, new), list(self.bases), list(self.levels))
        found.__dict__['digest'] = self.digest
        return found

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> TransformCode:
        """Raises ValueError where an array is missing or does not fit."""
        def take(name: str, kind: type = np.float32) -> np.ndarray:
            if name not in arrays:
                raise ValueError(f'the code has no array {name!r}')
            return np.ascontiguousarray(arrays[name], kind)
        count = sum(name.startswith('order.') for name in arrays)
        return cls(take('mean'), [Basis(take(f'analysis.{k}'), take(f'synthesis.{k}'), take(f'order.{k}', np.int16))
                                  for k in range(count)],
                   [take(f'levels.{depth}') for depth in range(1, MAX_DEPTH + 1)])

    def encode(self, tokens: np.ndarray, row_bytes: int) -> np.ndarray:
        """Whole frames of tokens, float [frames * N, D], to uint8 [frames * N, row_bytes]. Raises ValueError for others."""
        if len(tokens) % self.tokens or tokens.shape[1:] != (self.channels,):
            raise ValueError(f'expected tokens of shape [frames * {self.tokens}, {self.channels}], got {list(tokens.shape)}')
        if not np.isfinite(tokens).all():
            raise ValueError('tokens hold values that are not finite: they cannot be quantised')
        centred = np.asarray(tokens, np.float32).reshape(-1, self.tokens, self.channels) - self.mean
        rows = np.empty((len(centred), self.tokens, row_bytes), np.uint8)
        for sort, places in self._sorts():
            basis, part = self.bases[sort], centred[:, places]
            bits = np.zeros((*part.shape[:2], 8 * row_bytes), np.uint8)
            for depth, chosen, at in self._layout(sort, row_bytes):
                coefficients = part @ basis.analysis[:, chosen]
                codes = np.searchsorted(self._boundaries[depth - 1], coefficients)
                bits[:, :, at] = (codes[..., None] >> np.arange(depth) & 1).reshape(*part.shape[:2], -1)
            rows[:, places] = np.packbits(bits, axis=2)
        return rows.reshape(-1, row_bytes)

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [frames * N, row_bytes] to float32 [frames * N, D]."""
        frames = rows.reshape(-1, self.tokens, rows.shape[1])
        tokens = np.broadcast_to(self.mean, (len(frames), *self.mean.shape)).copy()
        for sort, places in self._sorts():
            basis, bits = self.bases[sort], np.unpackbits(frames[:, places], axis=2)
            for depth, chosen, at in self._layout(sort, rows.shape[1]):
                codes = bits[:, :, at].reshape(*bits.shape[:2], len(chosen), depth) @ (1 << np.arange(depth))
                tokens[:, places] += self.levels[depth - 1][codes] @ basis.synthesis[chosen]
        return tokens.reshape(-1, self.channels)

    def _sorts(self) -> list[tuple[int, slice]]:
        """The index of each basis and the places that it is for."""
        prefix = len(self.bases) - 1
        return [(index, slice(index, index + 1)) for index in range(prefix)] + [(prefix, slice(prefix, self.tokens))]
