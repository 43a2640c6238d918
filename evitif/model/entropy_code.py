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
from dataclasses import dataclass

import numpy as np

from evitif.model.entropy_tables import CENTRES, CLASSES, ESCAPE, OCTAVE, REACH, STEPS, TABLES, Tables, blocks, bucket_of, table_of
from evitif.model.errors import CodeError
from evitif.model.symbol_coder import PRECISION, SymbolDecoder, SymbolEncoder, SymbolModel
from evitif.model.transform_code import digest_of

LIMIT = 32767
_TABLES = {'base': np.int8, 'factors': np.int16, 'frequencies': np.int32, 'centres': np.int8, 'expected': np.int32, 'shifts': np.int8}
THRIFT = 0.12               # squared error, in squared steps, that a bit less may cost


@dataclass(frozen=True, eq=False)
class State:
    """What a side has of an earlier frame."""

    levels: np.ndarray          # int16 [N, K]
    known: np.ndarray           # bool [N]


@dataclass(frozen=True, eq=False)
class Plan:
    """How the tokens of a frame are to be sent, given a step and the other side's state."""

    step: int
    modes: np.ndarray           # uint8 [N]; UNMOVED where nothing but that is sent
    known: np.ndarray           # bool [N]: tokens that the other side has of the earlier frame
    symbols: np.ndarray         # int32 [N, K]
    classes: np.ndarray         # uint8 [N, K]; 0: not coded
    levels: np.ndarray          # int16 [N, K]: what the other side will have
    bits: np.ndarray            # float32 [N]: expected bits of each token


class EntropyCode:
    """Codes the tokens [N, D] of a model at a cut. Raises ValueError where the arrays do not fit together.

    :param mean: float32 [N, D]
    :param analysis: float32 [sorts, D, K], a token less its mean to levels; one sort for each prefix token, the last for the patches
    :param synthesis: float32 [sorts, K, D]
    """

    def __init__(self, mean: np.ndarray, analysis: np.ndarray, synthesis: np.ndarray, tables: Tables):
        modes, sorts, _, kept = tables.base.shape
        if mean.ndim != 2 or not 0 < sorts <= len(mean):
            raise ValueError(f'a code with means {mean.shape} and {sorts} sorts: expected [tokens, channels], and a sort for each prefix '
                             'token and one for the patches')
        if analysis.shape != (sorts, mean.shape[1], kept) or synthesis.shape != (sorts, kept, mean.shape[1]):
            raise ValueError(f'transforms of shapes {analysis.shape} and {synthesis.shape}: expected [{sorts}, {mean.shape[1]}, {kept}] '
                             f'and [{sorts}, {kept}, {mean.shape[1]}]')
        self.mean, self.analysis, self.synthesis, self.tables = mean, analysis, synthesis, tables
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
        return {'mean': self.mean, 'analysis': self.analysis, 'synthesis': self.synthesis,
                **{name: getattr(self.tables, name) for name in _TABLES}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> EntropyCode:
        """Raises ValueError where an array is missing or does not fit."""
        if missing := {'mean', 'analysis', 'synthesis', *_TABLES} - set(arrays):
            raise ValueError(f'the code has no array {min(missing)!r}')
        floats = (np.ascontiguousarray(arrays[name], np.float32) for name in ('mean', 'analysis', 'synthesis'))
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

        :param thrift: squared error, in squared steps, that a bit less may cost
        """
        return self.plan_tokens(levels, self.sorts, step, state, thrift)

    def plan_tokens(self, levels: np.ndarray, sorts: np.ndarray, step: int, state: State | None = None,
                    thrift: float = THRIFT) -> Plan:
        """As `plan`, for any tokens, levels int16 [n, K], of the sorts int [n]."""
        known = np.zeros(len(levels), bool) if state is None else state.known
        reference = None if state is None else np.where(known[:, None], state.levels, 0).astype(np.int32)
        modes = self._modes(levels, sorts, step, known, reference, thrift)
        return self.plan_modes(levels, sorts, step, modes, known, reference, thrift)

    def _modes(self, levels: np.ndarray, sorts: np.ndarray, step: int, known: np.ndarray, reference: np.ndarray | None,
               thrift: float) -> np.ndarray:
        if reference is None or not known.any():
            return np.zeros(len(levels), np.uint8)
        # By the first coefficients, as if no class were adapted: the choice has to be quick, not exact.
        kept, size, tables = min(64, self.coefficients), np.float32(STEPS[step]), self.tables
        values, before, costs = levels[:, :kept].astype(np.float32), reference[:, :kept].astype(np.float32), []
        for mode in range(self.unmoved):
            label = np.clip(tables.base[mode, sorts, step, :kept], 0, CLASSES)
            rest = np.abs(values - before * (tables.factors[mode, sorts, :kept].astype(np.float32) / 256)) / size
            near = np.where(label > 0, np.floor(rest + np.float32(0.4)), 0).astype(np.int32)
            bits = tables.bits(label, near)
            costs.append((np.square(rest - near) + thrift * bits).sum(1) + (0 if mode else thrift))
        costs.append(np.square((values - before) / size).sum(1) - thrift)
        costs = np.stack(costs)
        costs[1:, ~known] = np.inf
        return costs.argmin(0).astype(np.uint8)

    def plan_modes(self, levels: np.ndarray, sorts: np.ndarray, step: int, modes: np.ndarray, known: np.ndarray,
                   reference: np.ndarray | None, thrift: float) -> Plan:
        """As `plan_tokens`, with the modes chosen."""
        tables, size = self.tables, int(STEPS[step])
        sent = np.flatnonzero(modes < self.unmoved)
        mode, sort = modes[sent], sorts[sent]
        predicted = self.predicted(mode, sort, None if reference is None else reference[sent])
        rest = (levels[sent] - predicted) * np.float32(1 / size)
        magnitude, base = np.abs(rest), tables.base[mode, sort, step]
        chosen, classes = np.zeros(rest.shape, np.int32), np.zeros(rest.shape, np.uint8)
        bits = np.zeros(len(sent), np.float32)
        for label, _, at in self._adapted(base, mode, chosen):
            classes[:, at] = label
            near = np.minimum(np.floor(magnitude[:, at] + np.float32(0.5)), _most(label)).astype(np.int32)
            best = near
            least = self._price(label, near, magnitude[:, at], thrift)
            for less in (np.maximum(near - 1, 0), np.zeros_like(near)):
                price = self._price(label, less, magnitude[:, at], thrift)
                best, least = np.where(price < least, less, best), np.minimum(price, least)
            chosen[:, at] = np.where(rest[:, at] < 0, -best, best)
            bits += tables.bits(label, best).sum(1)
        result = np.zeros(levels.shape, np.int16) if reference is None else np.clip(reference, -LIMIT, LIMIT).astype(np.int16)
        result[sent] = self._levels(predicted, chosen, classes, size)
        return Plan(step, modes, known, _spread(chosen, sent, len(levels)), _spread(classes, sent, len(levels)), result,
                    _spread(bits, sent, len(levels)) + 1.5 * known)

    def _price(self, label: np.ndarray, magnitude: np.ndarray, wanted: np.ndarray, thrift: float) -> np.ndarray:
        centre = magnitude - self.tables.centres[label, np.minimum(magnitude, CENTRES - 1)] * np.float32(1 / 64)
        return np.square(wanted - centre) + np.float32(thrift) * self.tables.bits(label, magnitude)

    # -- what encoder and decoder share: integers only -------------------------------------------------------------------------

    def predicted(self, modes: np.ndarray, sorts: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
        """Levels int32 [n, K] of what is known before a token is decoded, of tokens of these modes, sorts and earlier levels."""
        if reference is None:
            return np.zeros((len(modes), self.coefficients), np.int32)
        return (self.tables.factors[modes, sorts].astype(np.int32) * reference + 128) >> 8

    def _adapted(self, base: np.ndarray, modes: np.ndarray, symbols: np.ndarray):
        """Yield block by block the classes uint8 [n, k] and their columns, each after `symbols` was filled up to there."""
        seen = np.zeros(len(base), np.int64)
        expected = np.zeros(len(base), np.int64)
        later = (modes > 0).astype(np.intp)
        for index, at in enumerate(blocks(self.coefficients)):
            part = base[:, at].astype(np.int64)
            shift = self.tables.shifts[later, index, bucket_of(seen, expected)]
            label = np.clip(part + shift[:, None], 0, CLASSES).astype(np.uint8)
            yield label, index, at
            seen += 64 * np.abs(symbols[:, at]).sum(1)
            expected += self.tables.expected[np.clip(part, 0, CLASSES)].sum(1)

    def _levels(self, predicted: np.ndarray, symbols: np.ndarray, classes: np.ndarray, size: int) -> np.ndarray:
        magnitude = np.abs(symbols)
        centre = self.tables.centres[classes, np.minimum(magnitude, CENTRES - 1)].astype(np.int32)
        offset = (64 * magnitude - centre * (magnitude > 0)) * size + 32 >> 6
        return np.clip(predicted + np.where(symbols < 0, -offset, offset), -LIMIT, LIMIT).astype(np.int16)

    # -- bytes --------------------------------------------------------------------------------------------------------------------

    def pack(self, plan: Plan, places: np.ndarray) -> bytes:
        """The tokens at `places` int [n], ascending, as bytes that can be decoded alone."""
        encoder, modes = SymbolEncoder(), plan.modes[places]
        if (known := plan.known[places]).any():
            self._put_modes(encoder, modes[known])
        sent = places[modes < self.unmoved]
        symbols, classes = plan.symbols[sent], plan.classes[sent]
        for at in blocks(self.coefficients):
            label, value = classes[:, at].ravel(), symbols[:, at].ravel()
            for low, model, which in _groups(label, self.tables):
                part = value[which]
                high = part >> low
                encoder.put(np.clip(high, -REACH, REACH) + REACH, model)
                if low:
                    encoder.put(part & (1 << low) - 1, _UNIFORM[low])
                outer = np.abs(high) >= REACH
                if outer.any():
                    encoder.put(np.abs(high[outer]) - REACH, _UNIFORM[8])
        return encoder.bytes()

    def unpack(self, payload: bytes, places: np.ndarray, step: int, state: State | None = None) -> np.ndarray:
        """The levels int16 [n, K] of the tokens at `places`, which `pack` was given. Raises CodeError for bytes that it does not write."""
        if not 0 <= step < len(STEPS):
            raise CodeError(f'step {step} of coded tokens: expected 0 to {len(STEPS) - 1}')
        decoder, sorts = SymbolDecoder(payload), self.sorts[places]
        known = np.zeros(len(places), bool) if state is None else state.known[places]
        modes = np.zeros(len(places), np.uint8)
        if known.any():
            modes[known] = self._take_modes(decoder, int(known.sum()))
        sent = np.flatnonzero(modes < self.unmoved)
        mode, sort = modes[sent], sorts[sent]
        reference = None if state is None else np.where(known[:, None], state.levels[places], 0).astype(np.int32)
        symbols = np.zeros((len(sent), self.coefficients), np.int32)
        classes = np.zeros(symbols.shape, np.uint8)
        for label, _, at in self._adapted(self.tables.base[mode, sort, step], mode, symbols):
            classes[:, at] = label
            value, flat = np.zeros(label.size, np.int32), label.ravel()
            for low, model, which in _groups(flat, self.tables):
                high = decoder.take(len(which), model) - REACH
                rest = decoder.take(len(which), _UNIFORM[low]) if low else 0
                outer = np.flatnonzero(np.abs(high) >= REACH)
                if len(outer):
                    extra = decoder.take(len(outer), _UNIFORM[8])
                    high[outer] += np.where(high[outer] < 0, -extra, extra)
                value[which] = (high << low) + rest
            symbols[:, at] = value.reshape(label.shape)
        decoder.finish()
        levels = np.zeros((len(places), self.coefficients), np.int16) if reference is None else reference.astype(np.int16)
        predicted = self.predicted(mode, sort, None if reference is None else reference[sent])
        levels[sent] = self._levels(predicted, symbols, classes, int(STEPS[step]))
        return levels

    def _put_modes(self, encoder: SymbolEncoder, modes: np.ndarray) -> None:
        share = _shares(np.bincount(modes, minlength=self.unmoved + 1))
        encoder.put(share, _UNIFORM[4])
        encoder.put(modes, _mode_model(tuple(share.tolist())))

    def _take_modes(self, decoder: SymbolDecoder, count: int) -> np.ndarray:
        share = decoder.take(self.unmoved + 1, _UNIFORM[4])
        return decoder.take(count, _mode_model(tuple(share.tolist()))).astype(np.uint8)


def _most(label: np.ndarray) -> np.ndarray:
    return (REACH + ESCAPE - 2 << np.maximum(label.astype(np.int32) - TABLES + OCTAVE - 1, 0) // OCTAVE) - 1


def _spread(part: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    whole = np.zeros((count, *part.shape[1:]), part.dtype)
    whole[at] = part
    return whole


def _groups(label: np.ndarray, tables: Tables):
    """For each class in `label` uint8 [n], ascending: its low bits, its model, and where it is."""
    order = np.argsort(label, kind='stable')
    counts = np.bincount(label, minlength=1)
    ends = np.cumsum(counts)
    for found in np.flatnonzero(counts).tolist():
        if found:
            table, low = table_of(found)
            yield low, tables.models[table], order[ends[found] - counts[found]:ends[found]]


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
