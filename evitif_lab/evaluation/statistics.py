"""Spread over a few repetitions."""

from __future__ import annotations

import numpy as np

_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}   # of Student's t


def half_interval95(values: list[float]) -> float | None:
    """Half of the 95 % interval of the mean by Student's t; None for a single value, whose spread is unknown."""
    if len(values) < 2:
        return None
    quantile = _QUANTILES.get(len(values), 1.96 + 3 / len(values))
    return float(quantile * np.std(values, ddof=1) / len(values)**0.5)
