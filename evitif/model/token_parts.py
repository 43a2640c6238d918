"""Planned tokens to the bytes of parts and back: each part decodes alone, and all parts of a frame are handled at once.

A part's symbols are ordered by block, by class within a block, then by token and coefficient. So one sort over all parts of a frame gives
the order of each, and the coder is called once for each class of a block, not for each symbol. What follows is integers only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evitif.model import native
from evitif.model.entropy_tables import CLASSES, FINENESSES, LOW_BITS, PLAIN, REACH, STEPS, TABLES, Tables, blocks, table_of
from evitif.model.errors import CodeError
from evitif.model.native import NativeDecoder, NativeEncoder, NativeTables
from evitif.model.symbol_coder import PRECISION, SymbolDecoder, SymbolEncoder, SymbolModel

_LABELS = CLASSES + 1
_AT_ONCE = 128              # parts that are sorted at once: so many times blocks times classes fit into the u16 that numpy sorts by digits


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
    modes: np.ndarray           # uint8 [N], fineness * kinds + kind as in `Step`; UNMOVED where nothing but that is sent
    known: np.ndarray           # bool [N]: tokens that the other side has of the earlier frame
    symbols: np.ndarray         # int32 [N, columns]: without the coefficients that no token has at this step
    classes: np.ndarray         # uint8 [N, columns]; 0: not coded
    levels: np.ndarray          # int16 [N, K]: what the other side will have
    bits: np.ndarray            # float32 [N]: expected bits of each token
    common: Plan | None = None  # of one token: by what the patches moved of which nothing else is sent

    def kinds(self, count: int) -> np.ndarray:
        """How each token refers to what is known, int [N], of `count` kinds as in `Step`; `count` where it is unmoved."""
        return np.where(self.modes < FINENESSES * count, self.modes % count, count)


class PartCoder:
    """Writes and reads parts by `tables`; `sorts` int [N] says which rows of them a token has."""

    def __init__(self, tables: Tables, sorts: np.ndarray):
        self._tables, self._sorts, self._places = tables, sorts, np.arange(len(sorts), dtype=np.int64)
        self._kinds = len(tables.base)
        self._unmoved = FINENESSES * self._kinds        # the mode of a token of which nothing else is sent
        self._patch = self._sorts == self._sorts.max(initial=0)     # others have the fineness of the frame
        self._native: dict[int, NativeTables] = {}

    def native_tables(self, step: int) -> NativeTables | None:
        """The tables of a step for the compiled loops, where there are some."""
        if native.library() is None:
            return None
        if step not in self._native:
            self._native[step] = NativeTables(self._tables, self._tables.at(step))
        return self._native[step]

    def pack(self, plan: Plan, parts: Sequence[np.ndarray]) -> list[bytes]:
        """The tokens of each part, places int [n] ascending, as bytes; parts of the same tokens are coded once."""
        keys = [places.tobytes() for places in parts]
        alone = list(dict(zip(keys, parts, strict=True)).items())
        coded: dict[bytes, bytes] = {}
        for first in range(0, len(alone), _AT_ONCE):
            some = alone[first:first + _AT_ONCE]
            coded.update(zip((key for key, _ in some), self._pack(plan, [places for _, places in some]), strict=True))
        return [coded[key] for key in keys]

    def _pack(self, plan: Plan, parts: list[np.ndarray]) -> list[bytes]:
        tables = self.native_tables(plan.step)
        encoders = self._encoded(plan, parts) if tables is None else [self._natively(tables, plan, places) for places in parts]
        for encoder, places in zip(encoders, parts, strict=True):
            fineness, kind = np.divmod(plan.modes[places].astype(np.int32), np.int32(self._kinds))
            finenesses = fineness[self._patch[places] & (fineness < FINENESSES)]
            if len(finenesses):
                unlike = (finenesses != PLAIN).any()
                if unlike:
                    _push_counted(encoder, finenesses, FINENESSES)
                encoder.push(np.array([unlike], np.int32), _UNIFORM[1])
            if (known := plan.known[places]).any():
                _push_counted(encoder, np.where(fineness < FINENESSES, kind, np.int32(self._kinds))[known], self._kinds + 1)
        return [encoder.bytes() for encoder in encoders]

    def _natively(self, tables: NativeTables, plan: Plan, places: np.ndarray) -> NativeEncoder:
        sent = self._places[places][plan.modes[places] < self._unmoved]       # int64, none of them negative
        encoder = NativeEncoder(3 * (len(sent) * plan.symbols.shape[1] + len(places) + self._unmoved) + 8)
        encoder.push_tokens(tables, sent, plan.symbols, plan.classes)
        return encoder

    def _encoded(self, plan: Plan, parts: list[np.ndarray]) -> list[SymbolEncoder]:
        rows, owner = _joined(parts)
        moved = plan.modes[rows] < self._unmoved
        sent, owner = rows[moved], owner[moved]
        columns, count = plan.classes.shape[1], len(blocks(plan.classes.shape[1]))
        label, value = plan.classes[sent], plan.symbols[sent].ravel()
        coded = label.ravel().nonzero()[0]
        key = label + ((owner * (count * _LABELS)).astype(np.uint16)[:, None] + _block_of(columns))
        key = key.ravel().take(coded)
        order = np.argsort(key, kind='stable')
        counts = np.bincount(key)
        value = value.take(coded.take(order))
        runs = np.flatnonzero(counts)
        ends = np.cumsum(counts[runs])
        group, label = np.divmod(runs, _LABELS)         # by part and block
        low = LOW_BITS[label]
        high = value >> np.repeat(low, counts[runs]) if low.any() else value
        magnitude = np.abs(high)
        beyond = np.flatnonzero(magnitude >= REACH)
        clipped = np.clip(high, -REACH, REACH) + np.int32(REACH)
        # What follows a group's symbols without their low bits: these, for each run; then how far the outer ones are out.
        after: dict[int, list[tuple[np.ndarray, SymbolModel]]] = {}
        for run in np.flatnonzero(low).tolist():
            begin, end, bits = int(ends[run] - counts[runs[run]]), int(ends[run]), int(low[run])
            after.setdefault(int(group[run]), []).append((value[begin:end] & ((1 << bits) - 1), _UNIFORM[bits]))
        if len(beyond):
            owners = group[np.searchsorted(ends, beyond, side='right')]
            for at in np.unique(owners).tolist():
                after.setdefault(at, []).append((magnitude[beyond[owners == at]] - np.int32(REACH), _UNIFORM[8]))
        # A coder is a stack, so from the end on.
        encoders, models, begins, former = [SymbolEncoder() for _ in parts], self._models, [0, *ends.tolist()], -1
        for run, (at, kind) in reversed([*enumerate(zip(group.tolist(), label.tolist(), strict=True))]):
            encoder = encoders[at // count]
            if at != former:
                former = at
                for rest in reversed(after.get(at, ())):
                    encoder.push(*rest)
            encoder.push(clipped[begins[run]:begins[run + 1]], models[kind])
        return encoders

    def unpack(self, payloads: Sequence[bytes], parts: Sequence[np.ndarray], step: int,
               state: State | None) -> list[np.ndarray | CodeError]:
        """The levels int16 [n, K] of each part, or why it cannot be read."""
        if not 0 <= step < len(STEPS):
            return [CodeError(f'step {step} of coded tokens: expected 0 to {len(STEPS) - 1}') for _ in parts]
        found: list[np.ndarray | CodeError | None] = []
        tables = self.native_tables(step)
        decoders: list[Any] = []
        for payload in payloads:
            try:
                decoders.append(SymbolDecoder(payload) if tables is None else NativeDecoder(payload))
                found.append(None)
            except CodeError as error:
                found.append(error)
        readable = [index for index, error in enumerate(found) if error is None]
        if readable:
            levels, ends = self._unpack(decoders, [parts[index] for index in readable], step, state)
            for index, decoder, some in zip(readable, decoders, np.split(levels, ends), strict=True):
                try:
                    decoder.finish()
                    found[index] = some
                except CodeError as error:
                    found[index] = error
        return found

    def _unpack(self, decoders: list[Any], parts: list[np.ndarray], step: int,
                state: State | None) -> tuple[np.ndarray, np.ndarray]:
        """The levels of all parts' tokens, int16 [n, K], and where each part ends but the last."""
        at, (rows, owner) = self._tables.at(step), _joined(parts)
        ends = np.cumsum([len(places) for places in parts])[:-1]
        modes, known = np.zeros(len(rows), np.uint8), np.zeros(len(rows), bool) if state is None else state.known[rows]
        patch = self._patch[rows]
        for decoder, begin, end in zip(decoders, [0, *ends.tolist()], [*ends.tolist(), len(rows)], strict=False):
            kinds, fineness = np.zeros(end - begin, np.int32), np.full(end - begin, PLAIN, np.int32)
            if (some := known[begin:end]).any():
                kinds[some] = _take_counted(decoder, int(some.sum()), self._kinds + 1)
            sent = kinds < self._kinds
            some = patch[begin:end] & sent
            if some.any() and decoder.take(1, _UNIFORM[1])[0]:
                fineness[some] = _take_counted(decoder, int(some.sum()), FINENESSES)
            modes[begin:end] = np.where(sent, fineness * self._kinds + kinds, self._unmoved)
        reference = None if state is None else np.where(known[:, None], state.levels[rows], np.int16(0))
        if (tables := self.native_tables(step)) is not None:
            sorts, begins = self._sorts[rows], [0, *ends.tolist(), len(rows)]
            return np.concatenate([decoder.take_tokens(
                tables, sorts[begin:end], modes[begin:end], None if reference is None else reference[begin:end])
                for decoder, begin, end in zip(decoders, begins, begins[1:], strict=False)]), ends
        sent = np.flatnonzero(modes < self._unmoved)
        owner, row = owner[sent], modes[sent].astype(np.intp) * at.sorts + self._sorts[rows[sent]]
        symbols = np.zeros((len(sent), at.columns), np.int32)
        classes = np.zeros(symbols.shape, np.uint8)
        for label, part in at.adapted(row, symbols):
            classes[:, part] = label
            symbols[:, part] = self._block(decoders, owner, label)
        levels = np.zeros((len(rows), at.factors.shape[1]), np.int16) if reference is None else reference
        levels[sent] = at.levels(row, at.predicted(row, None if reference is None else reference[sent].astype(np.int32)), symbols, classes)
        return levels, ends

    def _block(self, decoders: list[SymbolDecoder], owner: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The symbols int32 [n, k] of a block of tokens of the parts `owner` int [n], by their classes int16 [n, k]."""
        coded = label.ravel().nonzero()[0]
        value = np.zeros(label.size, np.int32)
        if not len(coded):
            return value.reshape(label.shape)
        key = (label + owner.astype(np.uint16)[:, None] * np.uint16(_LABELS)).ravel().take(coded)
        counts = np.bincount(key)
        runs = np.flatnonzero(counts)
        lengths = counts[runs]
        group, kinds = np.divmod(runs, _LABELS)
        ends, models = np.cumsum(lengths), self._models
        high = np.concatenate([decoders[at].take(length, models[kind]) for at, length, kind in zip(
            group.tolist(), lengths.tolist(), kinds.tolist(), strict=True)]) - np.int32(REACH)
        shifted = [(decoders[group[run]], int(ends[run] - lengths[run]), int(ends[run]), int(LOW_BITS[kinds[run]]))
                   for run in np.flatnonzero(kinds > TABLES).tolist()]
        low = [decoder.take(end - begin, _UNIFORM[bits]) for decoder, begin, end, bits in shifted]
        beyond = np.flatnonzero(np.abs(high) >= REACH)
        if len(beyond):
            owners, numbers = np.unique(group[np.searchsorted(ends, beyond, side='right')], return_counts=True)
            more = np.concatenate([decoders[at].take(number, _UNIFORM[8]) for at, number in zip(
                owners.tolist(), numbers.tolist(), strict=True)])
            high[beyond] += np.where(high[beyond] < 0, -more, more)
        for (_, begin, end, bits), rest in zip(shifted, low, strict=True):
            high[begin:end] = (high[begin:end] << bits) + rest
        value[coded.take(np.argsort(key, kind='stable'))] = high
        return value.reshape(label.shape)

    @functools.cached_property
    def _models(self) -> list[SymbolModel]:
        """By class; the one of class 0 is never used."""
        return [self._tables.models[0], *(self._tables.models[table_of(label)[0]] for label in range(1, _LABELS))]


def _joined(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The places of all parts, and the part that each is of."""
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(places) for places in parts])


@functools.lru_cache(256)
def _block_of(columns: int) -> np.ndarray:
    """Where the classes of each column's block begin, uint16 [columns]."""
    return np.concatenate([np.full(part.stop - part.start, index * _LABELS, np.uint16) for index, part in enumerate(blocks(columns))])


def _shares(counts: list[int]) -> tuple[int, ...]:
    """A frequency for each mode as a logarithm, 0 to 15; 0: it does not occur."""
    total = sum(counts)
    return tuple(min(max(round(1 + 2 * math.log2(count / total * 128)), 1), 15) if count else 0 for count in counts)


def _push_counted(encoder: SymbolEncoder | NativeEncoder, symbols: np.ndarray, kinds: int) -> None:
    """Symbols int32 [n] of so many kinds, and before them how often each occurs."""
    shares = _shares(np.bincount(symbols, minlength=kinds).tolist())
    encoder.push(symbols, _mode_model(shares))
    encoder.push(np.array(shares, np.int32), _UNIFORM[4])


def _take_counted(decoder: SymbolDecoder | NativeDecoder, count: int, kinds: int) -> np.ndarray:
    """So many symbols that `_push_counted` wrote."""
    return decoder.take(count, _mode_model(tuple(decoder.take(kinds, _UNIFORM[4]).tolist())))


@functools.lru_cache(4096)
def _mode_model(shares: tuple[int, ...]) -> SymbolModel:
    weights = [_WEIGHTS[share] for share in shares]
    total = sum(weights) or 1
    counts = [1 + weight * ((1 << PRECISION) - len(weights)) // total for weight in weights]
    counts[int(np.argmax(counts))] += (1 << PRECISION) - sum(counts)
    return SymbolModel(np.array(counts))


_WEIGHTS = [0, *(round(16 * 2**(index / 2)) for index in range(15))]
_UNIFORM = {bits: SymbolModel.uniform(1 << bits) for bits in range(1, 9)}
