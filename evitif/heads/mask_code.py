"""A mask, the class of each place, to bytes and back without loss.

A place mostly has a class of the places around it (`lattice`). So what is coded is which of them: the one with most votes, the second, and
so on, or another class. How likely that is follows from the votes of the first and the second, and from what was seen in the groups
before: nothing is fitted, and any set of classes will do. The coder is that of the tokens (`evitif.model.symbol_coder`).

On CamVid's masks at a quarter of the resolution (88 x 120) it takes 310 bytes, where WebP takes 485 and zlib 570 (docs/heads.md).
"""

from __future__ import annotations

import numpy as np

from evitif.heads.counts import Counts
from evitif.heads.lattice import FAR, NEAR, UNKNOWN, first_places, groups, packed
from evitif.model.errors import CodeError
from evitif.model.symbol_coder import SymbolDecoder, SymbolModel

MOST_CLASSES = 255          # class 255 is no class: unlabelled
_CANDIDATES = 4             # of the places around; symbol 4 is another class
_WEIGHTS = np.array([4] * NEAR + [1] * FAR)
_FIRST = (32, 53, 89, 149, 249, 417, 697, 1164, 1946, 3251, 5433, 9080, 15173)     # 32 * 2 ** (margin / 1.35): prior counts, in 1/16
_OTHERS = (32, 5, 3, 3)
_SEEN = 16                  # what one symbol adds to a count
_CONTEXTS = 2 * 13 * 8


def encode(mask: np.ndarray) -> bytes:
    """Classes uint8 [h, w] to bytes. Raises ValueError for another type or shape."""
    if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise ValueError(f'a mask is {mask.dtype} {list(mask.shape)}: expected uint8 [h, w]')
    classes, ranks = np.unique(mask, return_inverse=True)
    values = ranks.reshape(mask.shape).astype(np.int16)
    header = bytes([len(classes) - 1]) + classes.tobytes()
    if len(classes) == 1:
        return header
    counts, any_class = _first_counts(), _uniform(len(classes))
    coded = [(values[first_places(*mask.shape)].ravel(), any_class)]
    for group in groups(values):
        candidates, contexts = _candidates(group.around, group.kind)
        truth = values[group.rows, group.columns]
        found = candidates == truth[:, None]
        symbols = np.where(found.any(1), found.argmax(1), _CANDIDATES)
        for context in np.unique(contexts):
            coded.append((symbols[contexts == context], counts.model(context)))
        coded.append((truth[symbols == _CANDIDATES], any_class))
        counts.add(contexts, symbols)
    return header + packed(coded)


def decode(content: bytes, height: int, width: int) -> np.ndarray:
    """What `encode` wrote of a mask uint8 [height, width]. Raises CodeError for bytes that it does not write."""
    count = content[0] + 1 if content else 0
    classes = np.frombuffer(content[1:1 + count], np.uint8)
    if not count or len(classes) < count or (np.diff(classes.astype(int)) <= 0).any():
        raise CodeError(f'{len(content)} bytes of a mask that do not begin with its classes in ascending order')
    if count == 1:
        if len(content) > 2:
            raise CodeError(f'{len(content)} bytes of a mask of one class: expected 2')
        return np.full((height, width), classes[0], np.uint8)
    decoder, counts, any_class = SymbolDecoder(content[1 + count:]), _first_counts(), _uniform(count)
    values = np.full((height, width), UNKNOWN, np.int16)
    first = values[first_places(height, width)]
    first[:] = _classes(decoder.take(first.size, any_class), count).reshape(first.shape)
    for group in groups(values):
        candidates, contexts = _candidates(group.around, group.kind)
        symbols = np.empty(len(contexts), np.int64)
        for context in np.unique(contexts):
            where = contexts == context
            symbols[where] = decoder.take(int(where.sum()), counts.model(context))
        chosen = np.where(symbols < _CANDIDATES, candidates[np.arange(len(symbols)), np.minimum(symbols, _CANDIDATES - 1)], UNKNOWN)
        others = symbols == _CANDIDATES
        chosen[others] = decoder.take(int(others.sum()), any_class)
        values[group.rows, group.columns] = _classes(chosen, count)
        counts.add(contexts, symbols)
    decoder.finish()
    return classes[values]


def _first_counts() -> Counts:
    margins = np.maximum(np.arange(13)[:, None] - np.arange(8), 0)
    counts = np.empty((2, 13, 8, _CANDIDATES + 1), np.int64)
    counts[..., 0], counts[..., 1:] = np.array(_FIRST)[margins], _OTHERS
    return Counts(counts.reshape(_CONTEXTS, -1), _SEEN)


def _candidates(around: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes around places, int [n, 4], most votes first, among equals the lower class first (UNKNOWN where there are fewer), and the
    context of each, int [n]."""
    known = around != UNKNOWN
    votes = ((around[:, :, None] == around[:, None, :]) * _WEIGHTS[:, None]).sum(1)
    keys = np.where(known, votes * 256 - around, -1)
    candidates, scores = [], []
    for _ in range(_CANDIDATES):
        best = keys.argmax(1)[:, None]
        there = np.take_along_axis(keys, best, 1)[:, 0] >= 0
        chosen = np.where(there, np.take_along_axis(around, best, 1)[:, 0], UNKNOWN)
        candidates.append(chosen)
        scores.append(np.where(there, np.take_along_axis(votes, best, 1)[:, 0], 0))
        keys = np.where(around == chosen[:, None], -1, keys)
    context = (kind * 13 + np.minimum(scores[0], 24) // 2) * 8 + np.minimum(scores[1], 15) // 2
    return np.stack(candidates, 1), context


def _uniform(count: int) -> SymbolModel:
    return SymbolModel.uniform(1 << max(1, (count - 1).bit_length()))


def _classes(ranks: np.ndarray, count: int) -> np.ndarray:
    if ranks.size and not 0 <= ranks.min() <= ranks.max() < count:
        raise CodeError(f'a mask of {count} classes with a place of another')
    return ranks
