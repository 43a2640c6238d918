"""What a quantisation costs, and what lost patches cost, by measured figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evitif.model.errors import ArtifactError
from evitif.typed_json import typed

FIGURES = 'accuracy_cost'       # what the table is called among the figures of a transform code


@dataclass(frozen=True)
class RateTable:
    """What was measured with the recovery that is used (`evitif_lab.training.rate_measurement`). Costs are in top-1, 0 to 1."""

    coding: dict[str, float]               # by quantisation, nothing lost
    lost: tuple[tuple[float, float], ...]  # share of the patches lost, 0 to 1 ascending, and what that costs exact tokens

    @classmethod
    def of(cls, description: dict) -> RateTable | None:
        """The table of a code's description; None where it has none. Raises ArtifactError where it has something else there."""
        figures = description.get('figures', {})
        if not isinstance(figures, dict) or FIGURES not in figures:
            return None
        try:
            table = typed(cls, figures[FIGURES], FIGURES)
        except ValueError as error:
            raise ArtifactError(f'the figures of a transform code are not as `evitif train code` writes them: expected {FIGURES} with '
                                f'a number for each rate as coding and pairs of numbers as lost: {error}') from None
        return table if table.coding and table.lost else None


def patches_missing(copies: int, packets: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of patches of which no copy arrives when k of `packets` do, float64 [packets + 1]: for any k packets, and for k in a row.

    A patch's copies are packets / copies datagrams apart.
    """
    copies = min(copies, packets)
    k = np.arange(packets + 1)
    scattered = np.ones(packets + 1)
    for other in range(copies):
        scattered *= np.maximum(packets - k - other, 0) / (packets - other)
    return scattered, np.maximum(1 - k * copies / packets, 0.0)
