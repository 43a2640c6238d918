"""The compiled inner loops of the entropy code and of what its sender chooses by (native/token_coder.c), where they are built: the colcon
package brings them.

They do the same as the Python ones, which stand in where there are none; a test compares the two.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evitif.model.entropy_tables import CENTRES, CLASSES, LIMIT, LOW_BITS, MARKS, REACH, SMOOTH, Step, Tables, table_of
from evitif.model.symbol_coder import PRECISION, SymbolModel, require_end, words_of

NAME, VERSION = 'libevitif_token_coder.so', 4
_GUESS_BITS = 10
_NUMBERS = ('columns', 'coefficients', 'sorts', 'kinds', 'modes', 'blocks', 'all_blocks', 'buckets', 'classes', 'centres', 'reach',
            'limit', 'smooth', 'marks')
_ARRAYS = ('block_edges', 'base', 'floor', 'expected', 'factors', 'sizes', 'shifts', 'mark', 'centre', 'low_bits', 'table', 'edges',
           'guess')


class _Tables(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int32) for name in _NUMBERS), *((name, ctypes.c_void_p) for name in _ARRAYS)]


class _Coder(ctypes.Structure):
    _fields_ = [('state', ctypes.c_uint64), ('words', ctypes.c_void_p), ('count', ctypes.c_int64)]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library of a sourced workspace, or None where there is none, or one of another version."""
    for prefix in filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        path = Path(prefix, 'lib', NAME)
        found = load(path) if path.is_file() else None
        if found is not None:
            return found
    return None


def load(path: Path) -> ctypes.CDLL | None:
    """The library at `path`; None if it is of another machine or version."""
    try:
        found = ctypes.CDLL(str(path))
    except OSError:
        return None
    if found.evitif_coder_version() != VERSION:
        return None
    tables, coder, array, number = ctypes.POINTER(_Tables), ctypes.POINTER(_Coder), ctypes.c_void_p, ctypes.c_int64
    for name, *arguments in (('plan', tables, number, *[array] * 11, ctypes.c_float, *[array] * 5),
                             ('push_tokens', tables, coder, number, *[array] * 4),
                             ('take_tokens', tables, coder, number, *[array] * 9),
                             ('by_price', *[number] * 7, *[array] * 13),
                             ('push', coder, number, array, array), ('take', coder, number, array, array)):
        function = getattr(found, f'evitif_{name}')
        function.argtypes, function.restype = arguments, None
    return found


class NativeTables:
    """The tables of one step, as the library takes them."""

    def __init__(self, tables: Tables, step: Step):
        starts = np.stack([model.starts for model in tables.models])
        guess = [np.searchsorted(row[1:], np.arange(1 << _GUESS_BITS) << PRECISION - _GUESS_BITS, side='right') for row in starts]
        self._kept = {
            'block_edges': np.array([0, *(part.stop for part in step.blocks)], np.int32), 'base': step.base, 'floor': step.floor,
            'expected': step.expected, 'factors': step.factors, 'sizes': step.sizes, 'shifts': tables.shifts, 'mark': MARKS,
            'centre': step.centres, 'low_bits': LOW_BITS,
            'table': np.array([0, *(table_of(label)[0] for label in range(1, CLASSES + 1))], np.int32),
            'edges': starts, 'guess': np.array(guess, np.uint8)}
        assert all(array.flags.c_contiguous for array in self._kept.values())
        self.step = step
        numbers = (step.columns, step.factors.shape[1], step.sorts, step.kinds, len(step.sizes), len(step.blocks), tables.shifts.shape[1],
                   tables.shifts.shape[2], CLASSES, CENTRES, REACH, LIMIT, SMOOTH, len(MARKS))
        self.pointer = ctypes.pointer(_Tables(*numbers, *(self._kept[name].ctypes.data for name in _ARRAYS)))

    def plan(self, frame: Frame, places: np.ndarray, levels: np.ndarray, first: np.ndarray, rounding: np.ndarray, cost: np.ndarray,
             most: np.ndarray, thrift: float) -> None:
        """Plan the tokens of a frame at `places` int64 [n], by the thresholds of each class: levels int16 [N, K], contiguous."""
        _library().evitif_plan(self.pointer, len(places), *(None if array is None else array.ctypes.data for array in (
            places, levels, frame.sorts, frame.known, frame.reference, frame.finenesses, first, rounding, cost, most, self.step.inverses)),
            thrift, *(array.ctypes.data for array in (frame.modes, frame.symbols, frame.classes, frame.levels, frame.bits)))


@dataclass(frozen=True, eq=False)
class Frame:
    """What is known of a frame's tokens, and, as in `Plan`, what is planned; all contiguous."""

    sorts: np.ndarray                   # int64 [N]
    known: np.ndarray                   # bool [N]
    reference: np.ndarray | None        # int16 [N, K], read where known
    finenesses: np.ndarray              # uint8 [N]
    modes: np.ndarray
    symbols: np.ndarray
    classes: np.ndarray
    levels: np.ndarray
    bits: np.ndarray


def by_price(bits: np.ndarray, missed: np.ndarray, left: np.ndarray, unknown: int, scale: np.ndarray, sizes: np.ndarray, planned: float,
             prices: np.ndarray, gains: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `CodedChoice._by_price` counts it (evitif/pipeline/coded_choice.py), for patches [n] of which so many are unknown.

    :param scale: of the bits at each step [steps], whose `sizes` in levels these are, to those at the size `planned`
    :param gains: [rows, copies]; `missing` [rows, copies + 1, outcomes]
    """
    squares = np.square(sizes.astype(np.float64))
    shape, outcomes = (len(sizes), len(gains), len(prices)), missing.shape[2]
    values = [np.ascontiguousarray(each, np.float64) for each in (bits, missed, left, scale, squares / planned**2, squares, prices, gains,
                                                                  missing)]
    room, again = np.empty((len(bits) + 1, 6)), np.empty(shape, bool)
    found, errors = np.empty(shape), np.empty((*shape, outcomes))
    _library().evitif_by_price(len(sizes), len(bits), len(gains), len(prices), gains.shape[1], outcomes, unknown, *(
        each.ctypes.data for each in (*values, room, found, errors, again)))
    return found, errors, again


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None, 'asked for `library` first'
    return found


class NativeEncoder:
    """As `SymbolEncoder`, with room for so many words."""

    def __init__(self, words: int):
        self._words = np.empty(words, np.uint32)
        self._coder = _Coder(0, self._words.ctypes.data, 0)

    def push(self, symbols: np.ndarray, model: SymbolModel) -> None:
        """As `SymbolEncoder.push`."""
        _library().evitif_push(self._coder, len(symbols), symbols.ctypes.data, model.starts.ctypes.data)

    def push_tokens(self, tables: NativeTables, places: np.ndarray, symbols: np.ndarray, classes: np.ndarray) -> None:
        """The symbols of the tokens at `places` int64 [n], of `Plan.symbols` and `Plan.classes`."""
        room = np.empty(len(places) * tables.step.columns, np.int32)
        symbols, classes = np.ascontiguousarray(symbols, np.int32), np.ascontiguousarray(classes, np.uint8)
        _library().evitif_push_tokens(tables.pointer, self._coder, len(places), places.ctypes.data, symbols.ctypes.data,
                                      classes.ctypes.data, room.ctypes.data)

    def bytes(self) -> bytes:
        """As `SymbolEncoder.bytes`."""
        state, count = self._coder.state, self._coder.count
        words = np.concatenate([self._words[:count], np.array([state & 0xFFFFFFFF, state >> 32], np.uint32)])
        return words.astype('<u4').tobytes().rstrip(b'\0')


class NativeDecoder:
    """As `SymbolDecoder`."""

    def __init__(self, payload: bytes):
        self._words = words_of(payload)
        count, state = len(self._words), 0
        for word in self._words[::-1][:2].tolist():
            state, count = state << 32 | word, count - 1
        self._coder = _Coder(state, self._words.ctypes.data, count)

    def take(self, count: int, model: SymbolModel) -> np.ndarray:
        """As `SymbolDecoder.take`."""
        found = np.empty(count, np.int32)
        _library().evitif_take(self._coder, count, found.ctypes.data, model.starts.ctypes.data)
        return found

    def take_tokens(self, tables: NativeTables, sorts: np.ndarray, modes: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
        """The levels int16 [n, K] of tokens of the sorts int64 [n] and modes uint8 [n], with earlier levels int16 [n, K]."""
        step, count = tables.step, len(modes)
        reference = None if reference is None else np.ascontiguousarray(reference, np.int16)
        symbols, classes = np.empty((3, count, step.columns), np.int32), np.empty((count, step.columns), np.uint8)
        seen, levels = np.empty(count, np.int64), np.empty((count, step.factors.shape[1]), np.int16)
        _library().evitif_take_tokens(tables.pointer, self._coder, count, sorts.ctypes.data, modes.ctypes.data,
                                      None if reference is None else reference.ctypes.data, *(array.ctypes.data for array in (
                                          symbols[0], classes, seen, symbols[1], symbols[2], levels)))
        return levels

    def finish(self) -> None:
        """As `SymbolDecoder.finish`."""
        require_end(not self._coder.state and not self._coder.count)
