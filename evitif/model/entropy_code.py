"""Tokens as entropy-coded coefficients, each packet alone: equal steps in the tail's own metric, and differences from an earlier frame.

A code is fitted to one model and cut (`evitif train code`) and is the same on edge and bridge. As in `transform_code`, tokens less their
mean are turned into uncorrelated coefficients by a Karhunen-Loève transform in the metric of the tail's Fisher information, so one step for
all coefficients spends the bits where the answer needs them (reverse water-filling). What follows works on integers, so that both sides
agree bit for bit on any machine:

* *levels*, int16 [N, K]: coefficients in fixed point, finer than any step.
* a *mode* for each token: coded as it is, as a difference from what the other side has (one factor for each coefficient; several sets of
  factors, for tokens that moved little or much), or *unmoved*: nothing is sent, the other side keeps what it has.
* *symbols*: the difference in units of `step`, rounded to where bits and error together are least (rate-distortion optimised quantisation,
  Ramchandran and Vetterli 1994), decoded to the centre of its cell.
* a *class* for each symbol: the logarithm of its expected spread, which chooses the table of frequencies. It follows from mode, step and
  coefficient, and from the symbols of the same token that were decoded before: a token whose first coefficients are large has large ones
  further on (backward adaptation, as in the context models of image coders).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from evitif.model.entropy_tables import CENTRES, CLASSES, ESCAPE, LOW_BITS, REACH, STEPS, TABLES, Step, Tables, blocks, bucket_of, table_of
from evitif.model.errors import CodeError
from evitif.model.symbol_coder import PRECISION, SymbolDecoder, SymbolEncoder, SymbolModel
from evitif.model.transform_code import digest_of

LIMIT = 32767
SHAPING = 0.5               # of the error that patches have in common, what is made up for
_OF_TOKENS = ('modes', 'known', 'symbols', 'classes', 'levels', 'bits')
_FLOATS = ('mean', 'analysis', 'synthesis', 'kernel')
_TABLES = {'base': np.int8, 'factors': np.int16, 'frequencies': np.int32, 'centres': np.int8, 'expected': np.int32, 'shifts': np.int8}
THRIFT = 0.12               # squared error, in squared steps, that a bit less may cost


@dataclass(frozen=True, eq=False)
class State:
    """What a side has of an earlier frame."""

    levels: np.ndarray          # int16 [N, K]
    known: np.ndarray           # bool [N]

    def at(self, places: np.ndarray) -> State:
        """Of the tokens at `places` int [n] alone."""
        return State(self.levels[places], self.known[places])


@dataclass(frozen=True, eq=False)
class Plan:
    """How the tokens of a frame are to be sent, given a step and the other side's state."""

    step: int
    modes: np.ndarray           # uint8 [N]; UNMOVED where nothing but that is sent
    known: np.ndarray           # bool [N]: tokens that the other side has of the earlier frame
    symbols: np.ndarray         # int32 [N, columns]: without the coefficients that no token has at this step
    classes: np.ndarray         # uint8 [N, columns]; 0: not coded
    levels: np.ndarray          # int16 [N, K]: what the other side will have
    bits: np.ndarray            # float32 [N]: expected bits of each token


class EntropyCode:
    """Codes the tokens [N, D] of a model at a cut. Raises ValueError where the arrays do not fit together.

    :param mean: float32 [N, D]
    :param analysis: float32 [sorts, D, K], a token less its mean to levels; one sort for each prefix token, the last for the patches
    :param synthesis: float32 [sorts, K, D]
    :param kernel: float32 [2 * rows - 1, 2 * columns - 1]: how much the errors of two patches so far apart add up in the answer, 1 in the
        middle
    """

    def __init__(self, mean: np.ndarray, analysis: np.ndarray, synthesis: np.ndarray, kernel: np.ndarray, tables: Tables):
        modes, sorts, _, kept = tables.base.shape
        if mean.ndim != 2 or not 0 < sorts <= len(mean):
            raise ValueError(f'a code with means {mean.shape} and {sorts} sorts: expected [tokens, channels], and a sort for each prefix '
                             'token and one for the patches')
        if analysis.shape != (sorts, mean.shape[1], kept) or synthesis.shape != (sorts, kept, mean.shape[1]):
            raise ValueError(f'transforms of shapes {analysis.shape} and {synthesis.shape}: expected [{sorts}, {mean.shape[1]}, {kept}] '
                             f'and [{sorts}, {kept}, {mean.shape[1]}]')
        grid = tuple((side + 1) // 2 for side in kernel.shape)
        if kernel.ndim != 2 or grid[0] * grid[1] != len(mean) - sorts + 1 or kernel.shape != (2 * grid[0] - 1, 2 * grid[1] - 1):
            raise ValueError(f'a kernel of shape {list(kernel.shape)}: expected that of a grid of {len(mean) - sorts + 1} patches')
        self.mean, self.analysis, self.synthesis, self.kernel, self.tables = mean, analysis, synthesis, kernel, tables
        self.unmoved = modes        # the mode of a token of which nothing else is sent
        self.sorts = np.minimum(np.arange(len(mean)), sorts - 1)

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.mean.shape[0]

    @property
    def coefficients(self) -> int:
        """Levels of a token."""
        return self.analysis.shape[2]

    @functools.cached_property
    def digest(self) -> str:
        """Hex SHA-256 of all that encoding and decoding depend on."""
        return digest_of(self.arrays())

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` takes."""
        return {'mean': self.mean, 'analysis': self.analysis, 'synthesis': self.synthesis, 'kernel': self.kernel,
                **{name: getattr(self.tables, name) for name in _TABLES}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> EntropyCode:
        """Raises ValueError where an array is missing or does not fit."""
        if missing := {*_FLOATS, *_TABLES} - set(arrays):
            raise ValueError(f'the code has no array {min(missing)!r}')
        floats = (np.ascontiguousarray(arrays[name], np.float32) for name in _FLOATS)
        return cls(*floats, Tables(**{name: np.ascontiguousarray(arrays[name], kind) for name, kind in _TABLES.items()}))

    # -- between tokens and levels ---------------------------------------------------------------------------------------------

    def quantise(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens float32 [N, D] to levels int16 [N, K]. Raises ValueError for others, and for values that are not finite."""
        if tokens.shape != self.mean.shape:
            raise ValueError(f'expected tokens of shape {list(self.mean.shape)}, got {list(tokens.shape)}')
        if not np.isfinite(tokens).all():
            raise ValueError('tokens hold values that are not finite: they cannot be quantised')
        centred, prefix = np.asarray(tokens, np.float32) - self.mean, len(self.analysis) - 1
        values = np.empty((self.tokens, self.coefficients), np.float32)
        for sort in range(prefix):
            values[sort] = centred[sort] @ self.analysis[sort]
        values[prefix:] = centred[prefix:] @ self.analysis[prefix]
        return np.clip(np.rint(values), -LIMIT, LIMIT).astype(np.int16)

    def reconstruct(self, levels: np.ndarray) -> np.ndarray:
        """Levels int16 [N, K] to tokens float32 [N, D]."""
        values, prefix = levels.astype(np.float32), len(self.synthesis) - 1
        tokens = self.mean.copy()
        for sort in range(prefix):
            tokens[sort] += values[sort] @ self.synthesis[sort]
        tokens[prefix:] += values[prefix:] @ self.synthesis[prefix]
        return tokens

    # -- what is sent of a frame ------------------------------------------------------------------------------------------------

    def plan(self, levels: np.ndarray, step: int, state: State | None = None, thrift: float = THRIFT) -> Plan:
        """Choose mode and symbols of each token of a frame, levels int16 [N, K].

        Errors that patches have in common cost more than others, since attention averages. So every second patch is coded first, and the
        others are aimed a little to the other side of what their neighbours missed: noise shaping, as in error diffusion (Floyd and
        Steinberg 1976), weighted by what the tail notices.

        :param thrift: squared error, in squared steps, that a bit less may cost
        """
        first, second, coupling = self._halves
        if not len(second):
            return self.plan_tokens(levels, self.sorts, step, state, thrift)
        one = self.plan_tokens(levels[first], self.sorts[first], step, None if state is None else state.at(first), thrift)
        missed = one.levels[len(self.analysis) - 1:].astype(np.float32) - levels[first[len(self.analysis) - 1:]]
        aim = np.clip(np.rint(levels[second] - coupling @ missed), -LIMIT, LIMIT).astype(np.int16)
        two = self.plan_tokens(aim, self.sorts[second], step, None if state is None else state.at(second), thrift)

        def both(of_one: np.ndarray, of_two: np.ndarray) -> np.ndarray:
            whole = np.empty((self.tokens, *of_one.shape[1:]), of_one.dtype)
            whole[first], whole[second] = of_one, of_two
            return whole
        return Plan(step, *(both(getattr(one, name), getattr(two, name)) for name in _OF_TOKENS))

    @functools.cached_property
    def _halves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prefix tokens and every second patch, as on a chessboard; the others; and how what the former miss moves the latter."""
        prefix = len(self.analysis) - 1
        rows, columns = np.divmod(np.arange(self.tokens - prefix), (self.kernel.shape[1] + 1) // 2)
        black, white = np.flatnonzero((rows + columns) % 2 == 0), np.flatnonzero((rows + columns) % 2)
        across = (np.subtract.outer(rows[white], rows[black]) + self.kernel.shape[0] // 2,
                  np.subtract.outer(columns[white], columns[black]) + self.kernel.shape[1] // 2)
        coupling = SHAPING * self.kernel[across]
        return np.concatenate([np.arange(prefix), prefix + black]), prefix + white, coupling.astype(np.float32)

    def hold(self, plan: Plan, state: State, places: np.ndarray) -> Plan:
        """The plan with the tokens at `places` int [n], which are known, unmoved from `state`."""
        modes, levels, bits = plan.modes.copy(), plan.levels.copy(), plan.bits.copy()
        modes[places], levels[places], bits[places] = self.unmoved, state.levels[places], 1.5
        return replace(plan, modes=modes, levels=levels, bits=bits)

    def plan_tokens(self, levels: np.ndarray, sorts: np.ndarray, step: int, state: State | None = None,
                    thrift: float = THRIFT) -> Plan:
        """As `plan`, for any tokens, levels int16 [n, K], of the sorts int [n]."""
        known = np.zeros(len(levels), bool) if state is None else state.known
        reference = None if state is None else np.where(known[:, None], state.levels, 0).astype(np.int32)
        modes = self._modes(levels, sorts, step, known, reference, thrift)
        tables, at = self.tables, self.tables.at(step)
        sent = np.flatnonzero(modes < self.unmoved)
        row = modes[sent].astype(np.intp) * len(self.analysis) + sorts[sent]
        predicted = self.predicted(at, row, None if reference is None else reference[sent])
        rest = (levels[sent, :at.columns] - predicted[:, :at.columns]) * np.float32(1 / at.size)
        magnitude = np.abs(rest)
        first, rounding = self._thresholds(thrift)
        chosen, classes = np.zeros(rest.shape, np.int32), np.zeros(rest.shape, np.uint8)
        for label, part in self.adapted(at, row, chosen):
            classes[:, part] = label
            wanted = magnitude[:, part]
            near = np.maximum((wanted + rounding[label]).astype(np.int32), 1)
            chosen[:, part] = np.where(wanted < first[label], 0, near)
        np.minimum(chosen, _MOST[classes], out=chosen)
        bits = tables.bits(classes, chosen).sum(1)
        np.negative(chosen, out=chosen, where=rest < 0)
        result = np.zeros(levels.shape, np.int16) if reference is None else reference.astype(np.int16)
        result[sent] = self._levels(predicted, chosen, classes, at)
        return Plan(step, modes, known, _spread(chosen, sent, len(levels)), _spread(classes, sent, len(levels)), result,
                    _spread(bits, sent, len(levels)) + np.float32(1.5) * known)

    def _modes(self, levels: np.ndarray, sorts: np.ndarray, step: int, known: np.ndarray, reference: np.ndarray | None,
               thrift: float) -> np.ndarray:
        if reference is None or not known.any():
            return np.zeros(len(levels), np.uint8)
        # By the first coefficients, as if no class were adapted: the choice has to be quick, not exact.
        at, costs = self.tables.at(step), []
        kept = min(64, at.columns)
        values, before = levels[:, :kept] * np.float32(1 / at.size), reference[:, :kept] * np.float32(1 / at.size)
        for mode in range(self.unmoved):
            row = mode * len(self.analysis) + sorts
            label = np.maximum(at.base[row, :kept], 0)
            rest = np.abs(values - before * (at.factors[row, :kept] * np.float32(1 / 256)))
            near = (rest + np.float32(0.4)).astype(np.int32)
            near[label == 0] = 0
            bits = self.tables.bits(label, near)
            costs.append((np.square(rest - near) + np.float32(thrift) * bits).sum(1) + (0 if mode else thrift))
        costs.append(np.square(values - before).sum(1) - thrift)
        costs = np.stack(costs)
        costs[1:, ~known] = np.inf
        return costs.argmin(0).astype(np.uint8)

    def _thresholds(self, thrift: float) -> tuple[np.ndarray, np.ndarray]:
        """By class: from where on a symbol is not 0, and what is added before greater ones are rounded down. float32 [CLASSES + 1]."""
        if thrift not in self._rounding:
            label = np.arange(CLASSES + 1)
            centre = [m - self.tables.centres[:, m] / 64 * (m > 0) for m in range(3)]
            bits = [self.tables.bits(label, np.full(CLASSES + 1, m)) for m in range(3)]
            edge = [(centre[m]**2 - centre[m - 1]**2 + thrift * (bits[m] - bits[m - 1])) / (2 * (centre[m] - centre[m - 1]))
                    for m in (1, 2)]
            # A class with low bits is fine enough to be rounded to the nearest.
            coarse = (label > 0) & (label <= TABLES)
            first = np.where(coarse, edge[0], np.where(label > 0, 0.5, np.inf))
            self._rounding[thrift] = first.astype(np.float32), np.where(coarse, 2 - edge[1], 0.5).clip(0, 0.5).astype(np.float32)
        return self._rounding[thrift]

    @functools.cached_property
    def _rounding(self) -> dict[float, tuple[np.ndarray, np.ndarray]]:
        return {}

    # -- what encoder and decoder share: integers only -------------------------------------------------------------------------

    def predicted(self, at: Step, row: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
        """Levels int32 [n, K] of what is known before a token is decoded, of tokens of these rows of the tables and earlier levels."""
        if reference is None:
            return np.zeros((len(row), self.coefficients), np.int32)
        return (at.factors[row] * reference + 128) >> 8

    def adapted(self, at: Step, row: np.ndarray, symbols: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """Block by block the classes uint8 [n, k] and their columns, each after `symbols` was filled up to there."""
        base, floor, later = at.base[row], at.floor[row], (row >= len(self.analysis)).astype(np.intp)
        expected, seen = at.expected[row], np.zeros(len(row), np.int64)
        for index, part in enumerate(at.blocks):
            shift = self.tables.shifts[later, index, bucket_of(seen, expected[:, index])]
            label = base[:, part] + shift[:, None]
            yield np.minimum(np.maximum(label, floor[:, part]), CLASSES).astype(np.uint8), part
            seen += 64 * np.abs(symbols[:, part]).sum(1)

    def _levels(self, predicted: np.ndarray, symbols: np.ndarray, classes: np.ndarray, at: Step) -> np.ndarray:
        levels, magnitude = predicted.copy(), np.abs(symbols)
        which = np.flatnonzero(magnitude)
        size = magnitude.ravel()[which]
        centre = self.tables.centres[classes.ravel()[which], np.minimum(size, CENTRES - 1)].astype(np.int32)
        offset = ((64 * size - centre) * at.size + 32) >> 6
        rows, columns = np.divmod(which, symbols.shape[1])
        levels[rows, columns] += np.where(symbols.ravel()[which] < 0, -offset, offset)
        return np.minimum(np.maximum(levels, -LIMIT), LIMIT).astype(np.int16)

    # -- bytes --------------------------------------------------------------------------------------------------------------------

    def pack(self, plan: Plan, places: np.ndarray) -> bytes:
        """The tokens at `places` int [n], ascending, as bytes that can be decoded alone."""
        encoder, modes, at = SymbolEncoder(), plan.modes[places], self.tables.at(plan.step)
        if (known := plan.known[places]).any():
            share = _shares(np.bincount(modes[known], minlength=self.unmoved + 1))
            encoder.put(share, _UNIFORM[4])
            encoder.put(modes[known], _mode_model(tuple(share.tolist())))
        sent = places[modes < self.unmoved]
        # All symbols by block and class, those of a group in the order of tokens and coefficients.
        label, value = plan.classes[sent].ravel(), plan.symbols[sent].ravel()
        coded = np.flatnonzero(label)
        label, value = label[coded], value[coded]
        block = _block_of(at.columns)[coded % at.columns]
        order = np.argsort(block * np.uint16(64) + label, kind='stable')
        label, value, block = label[order], value[order], block[order]
        low = LOW_BITS[label]
        high = value >> low
        outer = np.abs(high) >= REACH
        clipped = np.minimum(np.maximum(high, -REACH), REACH) + np.int32(REACH)
        ends = np.searchsorted(block, np.arange(len(at.blocks) + 1)).tolist()
        for first, last in zip(ends, ends[1:]):
            counts = np.bincount(label[first:last], minlength=1)
            start = first
            for found in np.flatnonzero(counts).tolist():
                count = int(counts[found])
                encoder.put(clipped[start:start + count], self.tables.models[table_of(found)[0]])
                start += count
            start = first
            for found in np.flatnonzero(counts).tolist():
                count = int(counts[found])
                if found > TABLES:
                    bits = table_of(found)[1]
                    encoder.put(value[start:start + count] & ((1 << bits) - 1), _UNIFORM[bits])
                start += count
            if outer[first:last].any():
                encoder.put(np.abs(high[first:last][outer[first:last]]) - REACH, _UNIFORM[8])
        return encoder.bytes()

    def unpack(self, payload: bytes, places: np.ndarray, step: int, state: State | None = None) -> np.ndarray:
        """The levels int16 [n, K] of the tokens at `places`, which `pack` was given. Raises CodeError for bytes that it does not write."""
        if not 0 <= step < len(STEPS):
            raise CodeError(f'step {step} of coded tokens: expected 0 to {len(STEPS) - 1}')
        decoder, at = SymbolDecoder(payload), self.tables.at(step)
        known = np.zeros(len(places), bool) if state is None else state.known[places]
        modes = np.zeros(len(places), np.uint8)
        if known.any():
            share = decoder.take(self.unmoved + 1, _UNIFORM[4])
            modes[known] = decoder.take(int(known.sum()), _mode_model(tuple(share.tolist())))
        sent = np.flatnonzero(modes < self.unmoved)
        row = modes[sent].astype(np.intp) * len(self.analysis) + self.sorts[places][sent]
        reference = None if state is None else np.where(known[:, None], state.levels[places], 0).astype(np.int32)
        symbols = np.zeros((len(sent), at.columns), np.int32)
        classes = np.zeros(symbols.shape, np.uint8)
        for label, part in self.adapted(at, row, symbols):
            classes[:, part] = label
            symbols[:, part] = self._block(decoder, label)
        decoder.finish()
        levels = np.zeros((len(places), self.coefficients), np.int16) if reference is None else reference.astype(np.int16)
        levels[sent] = self._levels(self.predicted(at, row, None if reference is None else reference[sent]), symbols, classes, at)
        return levels

    def _block(self, decoder: SymbolDecoder, label: np.ndarray) -> np.ndarray:
        flat = label.ravel()
        order, counts = np.argsort(flat, kind='stable'), np.bincount(flat, minlength=1)
        value, start = np.zeros(len(flat), np.int32), int(counts[0])
        found = [(label, int(counts[label])) for label in np.flatnonzero(counts).tolist() if label]
        parts = [decoder.take(count, self.tables.models[table_of(label)[0]]) for label, count in found]
        if not parts:
            return value.reshape(label.shape)
        high = np.concatenate(parts) - np.int32(REACH)
        low = [decoder.take(count, _UNIFORM[table_of(label)[1]]) if label > TABLES else None for label, count in found]
        outer = np.flatnonzero(np.abs(high) >= REACH)
        if len(outer):
            extra = decoder.take(len(outer), _UNIFORM[8])
            high[outer] += np.where(high[outer] < 0, -extra, extra)
        at = 0
        for (label_, count), rest in zip(found, low, strict=True):
            if rest is not None:
                high[at:at + count] = (high[at:at + count] << table_of(label_)[1]) + rest
            at += count
        value[order[start:]] = high
        return value.reshape(label.shape)


_MOST = ((REACH + ESCAPE - 2 << LOW_BITS) - 1).astype(np.int32)


@functools.lru_cache(256)
def _block_of(columns: int) -> np.ndarray:
    return np.concatenate([np.full(part.stop - part.start, index, np.uint16) for index, part in enumerate(blocks(columns))])


def _spread(part: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    whole = np.zeros((count, *part.shape[1:]), part.dtype)
    whole[at] = part
    return whole


def _shares(counts: np.ndarray) -> np.ndarray:
    """A frequency for each mode as a logarithm, 0 to 15; 0: it does not occur."""
    return np.where(counts > 0, np.clip(np.rint(1 + 2 * np.log2(np.maximum(counts, 1) / counts.sum() * 128)), 1, 15), 0).astype(np.int32)


@functools.lru_cache(4096)
def _mode_model(shares: tuple[int, ...]) -> SymbolModel:
    weights = [_WEIGHTS[share] for share in shares]
    total = sum(weights) or 1
    counts = [1 + weight * ((1 << PRECISION) - len(weights)) // total for weight in weights]
    counts[int(np.argmax(counts))] += (1 << PRECISION) - sum(counts)
    return SymbolModel(np.array(counts))


_WEIGHTS = [0, *(round(16 * 2**(index / 2)) for index in range(15))]
_UNIFORM = {bits: SymbolModel.uniform(1 << bits) for bits in range(1, 9)}
