"""What a quantisation costs, and what lost patches cost, by measured figures; and how many patches are likely to be lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evitif.model.errors import ArtifactError


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


def burst_memory(packet_error_rate, mean_burst: float):
    """m of Gilbert's channel (BSTJ 1960), for which a datagram that follows a lost one at a distance d is lost with probability
    p + (1 - p) m^d: 1 - 1 / (b (1 - p)) for bursts of mean length b, 0 for independent losses. p may be an array."""
    return np.maximum(0.0, 1 - 1 / (mean_burst * np.maximum(1 - packet_error_rate, 1e-9))) if mean_burst >= 1 else 0.0


def spread_of_bursts(packet_error_rate: float, mean_burst: float) -> float:
    """By how much bursts enlarge the variance of the share of many packets that is lost: (1 + m) / (1 - m)."""
    memory = float(burst_memory(packet_error_rate, mean_burst))
    return (1 + memory) / max(1 - memory, 1e-9)


def patches_lost(packet_error_rate, mean_burst: float, copies, packets):
    """The share of the patches of which no copy arrives. Rate, copies and packets may be arrays.

    The copies of a patch are packets / copies datagrams apart (`burst_memory`).
    """
    p = np.asarray(packet_error_rate, float)
    memory = burst_memory(p, mean_burst)
    return p * (p + (1 - p) * memory ** (packets / np.asarray(copies))) ** (np.asarray(copies) - 1)
