"""Whether the robot is sure enough of its own answer to send nothing.

All rules measure uncertainty in calibrated probabilities: 0 is certain; below the threshold η the robot answers alone. Im et al.
(arXiv 2404.07217) found min-entropy to do better than Shannon's.
"""

from __future__ import annotations

import math

import numpy as np

RULES = ('min-entropy', 'entropy', 'margin')


def uncertainty(probabilities: np.ndarray, rule: str = 'min-entropy') -> np.ndarray:
    """Probabilities [..., classes] to uncertainties [...]: −log2 of the greatest probability (bits), Shannon entropy (bits),
    or 1 less the margin between the two greatest. Raises ValueError for an unknown rule."""
    probabilities = np.asarray(probabilities, np.float64)
    if rule == 'min-entropy':
        return -np.log2(np.clip(probabilities.max(-1), 1e-12, 1.0))
    if rule == 'entropy':
        return -(probabilities * np.log2(np.clip(probabilities, 1e-12, 1.0))).sum(-1)
    if rule == 'margin':
        top = -np.partition(-probabilities, 1, axis=-1)
        return 1 - (top[..., 0] - top[..., 1])
    raise ValueError(f'gate rule {rule!r} is unknown (expected {", ".join(RULES)})')


def highest_eta(classes: int, rule: str = 'min-entropy') -> float:
    """The uncertainty when all classes are equally likely; a higher η makes no difference."""
    return 1.0 if rule == 'margin' else math.log2(classes)


def require_eta(eta: float, classes: int, rule: str = 'min-entropy') -> None:
    """Raise ValueError unless the rule is known and 0 <= η <= its highest value; at 0 the robot never answers alone."""
    if rule not in RULES:
        raise ValueError(f'gate rule {rule!r} is unknown (expected {", ".join(RULES)})')
    highest = highest_eta(classes, rule)
    if not 0 <= eta <= highest + 1e-9:
        raise ValueError(f'eta is {eta:g}: expected 0 to {highest:.4g}, the highest {rule} of {classes} classes')


def sure(probabilities: np.ndarray, eta: float, rule: str = 'min-entropy') -> bool:
    """Whether an answer with these probabilities [classes] is given without asking the large model."""
    return bool(uncertainty(probabilities, rule) < eta)
