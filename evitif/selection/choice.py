"""Which patches are sent: those with the highest scores, most important first, and never none."""

from __future__ import annotations

import numpy as np


def require_delta(delta: float) -> None:
    """Raise ValueError unless 0 <= δ <= 1."""
    if not 0 <= delta <= 1:
        raise ValueError(f'delta is {delta:g}: expected a share of the scores from 0 to 1')


def select(scores: np.ndarray, delta: float) -> np.ndarray:
    """Scores [patches] to the indices int64 of the fewest patches whose scores sum up to the share δ of all, highest first.

    At least one, all where δ is 1. Im et al. (arXiv 2404.07217) stop one patch earlier. Raises ValueError for a δ out of range.
    """
    require_delta(delta)
    order = _ranked(scores)
    if delta == 1:
        return order
    reached = np.cumsum(np.asarray(scores, np.float64)[order])
    return order[:1 + int(np.searchsorted(reached, delta * reached[-1] * (1 - 1e-9)))]


def select_within(scores: np.ndarray, budget_patches: int) -> np.ndarray:
    """The indices int64 of the `budget_patches` best patches, highest first, and at least one."""
    return _ranked(scores)[:max(1, budget_patches)]


def _ranked(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f'scores are {list(scores.shape)}: expected one finite number for each patch')
    return np.argsort(-scores, kind='stable')
