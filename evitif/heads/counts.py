"""Adaptive frequencies of a map's symbols, by context: what edge and bridge count alike."""

from __future__ import annotations

import numpy as np

from evitif.model.symbol_coder import PRECISION, SymbolModel


class Counts:
    """How often each symbol came.

    :param first: int [contexts, symbols], as if so many had come
    :param seen: how much a symbol that comes adds
    """

    def __init__(self, first: np.ndarray, seen: int):
        self._counts, self._seen = first, seen

    def model(self, context: int) -> SymbolModel:
        """The model of a context as it stands."""
        counts = self._counts[context]
        shares = 1 + counts * ((1 << PRECISION) - len(counts)) // counts.sum()
        shares[0] += (1 << PRECISION) - shares.sum()
        return SymbolModel(shares)

    def add(self, contexts: np.ndarray, symbols: np.ndarray) -> None:
        """Symbols int [n] came in these contexts."""
        np.add.at(self._counts, (contexts, symbols), self._seen)
