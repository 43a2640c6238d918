"""Which quantisation a frame travels in: the one whose answer is likely to be nearest to the exact one, by measured figures.

All of them take about the same bytes, since what a coarser one saves goes into copies of each patch (`patch_copies_of`).
So the choice is between few exact tokens and nearly all tokens, coarse; which is better depends on the loss alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evitif.model.errors import ArtifactError

HYSTERESIS = 0.8        # a new choice has to cost less than this share of what the present one does


@dataclass(frozen=True)
class RateTable:
    """What was measured when the transform code was fitted (`evitif.training.transform_code`).

    Divergences are of the answer from that to the exact tokens, in nats.
    """

    coding: dict[str, float]               # by quantisation, nothing lost
    lost: tuple[tuple[float, float], ...]  # share of the patches lost, 0 to 1 ascending, and the divergence of leaving them out

    @classmethod
    def of(cls, description: dict) -> RateTable | None:
        """The table of a code's description; None where it has none. Raises ArtifactError where it has something else there."""
        figures = description.get('figures', {})
        if not isinstance(figures, dict) or 'omission_divergence' not in figures:
            return None
        try:
            coding = {kind: float(cell['training_divergence']) for kind, cell in figures.items()
                      if isinstance(cell, dict) and 'training_divergence' in cell}
            lost = tuple((float(share), float(value)) for share, value in figures['omission_divergence'])
        except (TypeError, ValueError):
            raise ArtifactError('the figures of a transform code are not as `evitif train code` writes them: expected a '
                                'training_divergence for each rate and pairs of numbers as omission_divergence') from None
        return cls(coding, lost) if coding and lost else None

    def cost(self, quantisation: str, share_lost: float) -> float:
        """The divergence to expect where so many patches are lost."""
        shares, values = zip(*self.lost, strict=True)
        return self.coding[quantisation] + float(np.interp(share_lost, shares, values))

    def choose(self, copies: dict[str, int], packets: dict[str, int], packet_error_rate: float, mean_burst: float = math.nan,
               present: str | None = None) -> str:
        """The quantisation that costs least.

        :param copies: by quantisation, datagrams that each patch travels in
        :param packets: by quantisation, datagrams of a frame
        :param packet_error_rate: 0 to 1, as measured
        :param mean_burst: datagrams lost in a row on average; NaN where it is unknown: independent losses
        :param present: kept while it costs little more than the best
        """
        costs = {kind: self.cost(kind, patches_lost(packet_error_rate, mean_burst, copies[kind], packets[kind]))
                 for kind in self.coding if kind in copies}
        best = min(costs, key=costs.get)
        return present if present in costs and costs[best] > HYSTERESIS * costs[present] else best


def patches_lost(packet_error_rate: float, mean_burst: float, copies: int, packets: int) -> float:
    """The share of the patches of which no copy arrives.

    The copies of a patch are packets / copies datagrams apart. On a Gilbert channel a datagram that follows a lost one at a
    distance d is lost with probability p + (1 - p) m^d, m = 1 - 1 / (b (1 - p)) for bursts of mean length b (Gilbert, BSTJ
    1960); for independent losses m is 0.
    """
    p = packet_error_rate
    if not 0 < p < 1:
        return float(p == 1)
    memory = max(0.0, 1 - 1 / (mean_burst * (1 - p))) if mean_burst >= 1 else 0.0
    return p * (p + (1 - p) * memory ** (packets / copies)) ** (copies - 1)
