"""The light model's answer as a prior for the large one's: a product of experts (Hinton, Neural Computation 2002).

The robot multiplies it in, since it has its own probabilities; so it costs no byte on the wire.
"""

from __future__ import annotations

import numpy as np


def with_prior(scores: np.ndarray, prior: np.ndarray, weight: float) -> np.ndarray:
    """Probabilities of the large model [..., k] times those of the light one [..., k] to the power `weight`, with the same sum as before.

    The k classes are the large model's most likely ones; `prior` is the light model's probability of each.
    """
    scores = np.asarray(scores, np.float64)
    if not weight:
        return scores
    logs = np.log(np.clip(scores, 1e-12, None)) + weight * np.log(np.clip(np.asarray(prior, np.float64), 1e-12, None))
    product = np.exp(logs - logs.max(-1, keepdims=True))
    return product / product.sum(-1, keepdims=True) * scores.sum(-1, keepdims=True)
