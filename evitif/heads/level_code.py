"""A map of numbers that change little from place to place (depth, confidence) to bytes and back without loss.

Each place is predicted by the mean of the nearest known ones (`lattice`); what it differs by is coded with counts that adapt, by how much
those differ among each other. The coder is that of the tokens (`evitif.model.symbol_coder`).
"""

from __future__ import annotations

import numpy as np

from evitif.heads.counts import Counts
from evitif.heads.lattice import NEAR, UNKNOWN, Group, first_places, groups, packed
from evitif.model.errors import CodeError
from evitif.model.symbol_coder import SymbolDecoder, SymbolModel

_ESCAPE = 24                # symbols 0 to 23: differences 0, -1, 1, -2, 2, …; a greater one comes as a byte
_SPREADS = np.array([0, 1, 2, 3, 5, 8, 13])      # of the places around: the classes of context
_SEEN = 32
_BYTE = SymbolModel.uniform(256)


def encode(values: np.ndarray) -> bytes:
    """Numbers uint8 [h, w] to bytes. Raises ValueError for another type or shape."""
    if values.dtype != np.uint8 or values.ndim != 2 or not values.size:
        raise ValueError(f'a map of numbers is {values.dtype} {list(values.shape)}: expected uint8 [h, w]')
    known = values.astype(np.int16)
    counts, coded = _first_counts(), [(known[first_places(*known.shape)].ravel(), _BYTE)]
    for group in groups(known):
        expected, contexts = _expected(group)
        truth = known[group.rows, group.columns]
        difference = truth - expected
        symbols = np.minimum(np.where(difference < 0, -2 * difference - 1, 2 * difference), _ESCAPE)
        for context in np.unique(contexts):
            coded.append((symbols[contexts == context], counts.model(context)))
        coded.append((truth[symbols == _ESCAPE], _BYTE))
        counts.add(contexts, symbols)
    return packed(coded)


def decode(content: bytes, height: int, width: int) -> np.ndarray:
    """What `encode` wrote of a map uint8 [height, width]. Raises CodeError for bytes that it does not write."""
    decoder, counts = SymbolDecoder(content), _first_counts()
    values = np.full((height, width), UNKNOWN, np.int16)
    first = values[first_places(height, width)]
    first[:] = decoder.take(first.size, _BYTE).reshape(first.shape)
    for group in groups(values):
        expected, contexts = _expected(group)
        symbols = np.empty(len(contexts), np.int64)
        for context in np.unique(contexts):
            where = contexts == context
            symbols[where] = decoder.take(int(where.sum()), counts.model(context))
        found = expected + np.where(symbols % 2, -(symbols + 1) // 2, symbols // 2)
        escaped = symbols == _ESCAPE
        found[escaped] = decoder.take(int(escaped.sum()), _BYTE)
        if found.size and not 0 <= found.min() <= found.max() <= 255:
            raise CodeError('a map of numbers with one that is no byte')
        values[group.rows, group.columns] = found
        counts.add(contexts, symbols)
    decoder.finish()
    return values.astype(np.uint8)


def _first_counts() -> Counts:
    spread = np.concatenate((_SPREADS + 1, [20]))[:, None]
    return Counts(np.maximum(1, 64 * spread // (spread + np.arange(_ESCAPE + 1)**2)), _SEEN)


def _expected(group: Group) -> tuple[np.ndarray, np.ndarray]:
    """The prediction of each place and its context, int [n]."""
    near = group.around[:, :NEAR].astype(np.int64)
    known = near != UNKNOWN
    count = np.maximum(known.sum(1), 1)
    expected = (2 * np.where(known, near, 0).sum(1) + count) // (2 * count)
    spread = np.where(known, near, -1).max(1) - np.where(known, near, 256).min(1)
    return expected, np.searchsorted(_SPREADS, spread)
