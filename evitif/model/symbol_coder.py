"""Integers to bytes and back by asymmetric numeral systems, with tables of frequencies as models.

The coder is rANS (Duda, "Asymmetric numeral systems", arXiv 1311.2540) with a state of 64 bits, words of 32 and frequencies out of 2^24,
as `constriction` has it (Bamler, "Understanding entropy coding with asymmetric numeral systems", arXiv 2201.01741). Where that package is
not installed, which has no wheels for Linux on aarch64, the same bytes are written and read in Python, many times slower. Where `native` is
there, that does it.

Models are integers, so encoder and decoder have the same ones on any machine. A coder is a stack: what is decoded first is encoded last.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import numpy as np

try:
    import constriction
except ImportError:         # no wheel for this machine
    constriction = None

from evitif.model.errors import CodeError

PRECISION = 24              # bits of a frequency; constriction's own


class SymbolModel:
    """Frequencies of the symbols 0, 1, …: integers of at least 1 that sum to 2^24. Raises ValueError for others."""

    def __init__(self, frequencies: np.ndarray):
        counts = [int(count) for count in frequencies]
        if len(counts) < 2 or min(counts) < 1 or sum(counts) != 1 << PRECISION:
            raise ValueError(f'{len(counts)} frequencies from {min(counts, default=0)} that sum to {sum(counts)}: expected two or more, '
                             f'each at least 1, that sum to {1 << PRECISION}')
        self.edges = [0, *accumulate(counts)]
        self.starts = np.array(self.edges, np.uint32)       # the same for the library
        # constriction gives each symbol 1 and shares out the rest by these weights, whose sum is that rest: all of it is exact.
        self.native = None if constriction is None else constriction.stream.model.Categorical(
            np.array(counts, np.float64) - 1, perfect=False)

    @classmethod
    def uniform(cls, symbols: int) -> SymbolModel:
        """So many symbols of the same frequency; a power of two."""
        return cls(np.full(symbols, (1 << PRECISION) // symbols))


class SymbolEncoder:
    """A stack of symbols: what is put on it last is decoded first."""

    def __init__(self):
        self._native = None if constriction is None else constriction.stream.stack.AnsCoder()
        self._state = 0
        self._words: list[int] = []

    def push(self, symbols: np.ndarray, model: SymbolModel) -> None:
        """Symbols int32 [n] of one model, contiguous, in the order in which they are to be decoded, before all that were pushed earlier."""
        if self._native is not None:
            self._native.encode_reverse(symbols, model.native)
            return
        edges, state, words = model.edges, self._state, self._words
        for symbol in symbols[::-1].tolist():
            low = edges[symbol]
            frequency = edges[symbol + 1] - low
            if state >> 64 - PRECISION >= frequency:
                words.append(state & 0xFFFFFFFF)
                state >>= 32
            whole, rest = divmod(state, frequency)
            state = whole << PRECISION | low + rest
        self._state = state

    def bytes(self) -> bytes:
        """Everything that was put in."""
        if self._native is not None:
            words = self._native.get_compressed()
        else:
            words = np.array([*self._words, self._state & 0xFFFFFFFF, self._state >> 32], np.uint32)
        return words.astype('<u4').tobytes().rstrip(b'\0')


class SymbolDecoder:
    """Takes symbols from bytes. Any bytes give some; `finish` tells whether they were all that was put in."""

    def __init__(self, payload: bytes):
        words = words_of(payload)
        self._native = None if constriction is None else constriction.stream.stack.AnsCoder(words)
        self._words = words.tolist()
        self._state = 0
        for _ in range(min(2, len(self._words))):
            self._state = self._state << 32 | self._words.pop()

    def take(self, count: int, model: SymbolModel) -> np.ndarray:
        """The next symbols, int32 [count]."""
        if not count:
            return np.empty(0, np.int32)
        if self._native is not None:
            return self._native.decode(model.native, count)
        edges, words, state, found = model.edges, self._words, self._state, []
        for _ in range(count):
            part = state & (1 << PRECISION) - 1
            symbol = bisect_right(edges, part) - 1
            low = edges[symbol]
            state = (state >> PRECISION) * (edges[symbol + 1] - low) + part - low
            if state < 1 << 32 and words:
                state = state << 32 | words.pop()
            found.append(symbol)
        self._state = state
        return np.array(found, np.int32)

    def finish(self) -> None:
        """Raises CodeError unless exactly these bytes were what was put in."""
        require_end(self._native.is_empty() if self._native is not None else not self._words and not self._state)


def words_of(payload: bytes) -> np.ndarray:
    """The words of a coder, uint32 [n]. Raises CodeError for bytes that no encoder writes."""
    if len(payload) and not payload[-1]:
        raise CodeError(f'{len(payload)} bytes of coded tokens end in a zero, which no encoder writes')
    return np.frombuffer(payload + bytes(-len(payload) % 4), '<u4').astype(np.uint32)


def require_end(ended: bool) -> None:
    """Raises CodeError unless a decoder has taken all that was put in."""
    if not ended:
        raise CodeError('the bytes of coded tokens do not end where their tokens do: they were damaged, or coded by another code')
