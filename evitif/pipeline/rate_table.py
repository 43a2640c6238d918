"""What a quantisation costs, and what lost patches cost, by measured figures; and how many packets of a frame are likely to arrive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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


def burst_memory(packet_error_rate: float, mean_burst: float) -> float:
    """m of Gilbert's channel (BSTJ 1960), for which a datagram that follows a lost one at a distance d is lost with probability
    p + (1 - p) m^d: 1 - 1 / (b (1 - p)) for bursts of mean length b, 0 for independent losses and for NaN."""
    return max(0.0, 1 - 1 / (mean_burst * max(1 - packet_error_rate, 1e-9))) if mean_burst >= 1 else 0.0


def arrivals(packet_error_rate: float, mean_burst: float, most: int) -> np.ndarray:
    """How likely it is that k of n packets in a row arrive: float64 [most + 1, most + 1], row n, column k.

    Gilbert's channel (BSTJ 1960), which loses everything in its bad state, for bursts of mean length `mean_burst`. Independent
    losses come in runs of 1 / (1 - p); a shorter burst than that, or NaN, is taken for these.
    """
    burst = mean_burst if mean_burst >= 1 else 1.0
    return _arrivals(round(512 * min(max(packet_error_rate, 0.0), 1.0)) / 512, round(burst, 1 if burst < 20 else 0), most)


@lru_cache(maxsize=64)
def _arrivals(p: float, mean_burst: float, most: int) -> np.ndarray:
    table = np.zeros((most + 1, most + 1))
    if p >= 1.0:
        table[:, 0] = 1.0
        return table
    leaves_bad = 1 / max(mean_burst, 1 / (1 - p))
    leaves_good = p * leaves_bad / (1 - p)
    good, bad = np.zeros(most + 1), np.zeros(most + 1)      # by how many arrived so far, in the state that the next packet meets
    good[0], bad[0] = 1 - p, p
    table[0] = good + bad
    for n in range(1, most + 1):
        arrived = np.concatenate(([0.0], good[:-1]))
        good, bad = arrived * (1 - leaves_good) + bad * leaves_bad, arrived * leaves_good + bad * (1 - leaves_bad)
        table[n] = good + bad
    table.setflags(write=False)
    return table


def patches_missing(copies: int, packets: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of the patches of which no copy is among the packets that arrived, where k of `packets` did, each float64
    [packets + 1]: where any k are as likely, and where k in a row arrive. A patch's copies are packets / copies datagrams apart."""
    copies = min(copies, packets)
    k = np.arange(packets + 1)
    scattered = np.ones(packets + 1)
    for other in range(copies):
        scattered *= np.maximum(packets - k - other, 0) / (packets - other)
    return scattered, np.maximum(1 - k * copies / packets, 0.0)
