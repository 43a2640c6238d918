"""How much the tail's answer depends on each patch of a frame, foretold from the patch itself.

Half of the patches have some 85 % of the tail's Fisher information, and which these are shows in their first coefficients and in their
place. The sender alone uses it: for what the answer hardly depends on it spends fewer bits and copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST, MOST = 0.1, 6.0      # weights, so that no patch is forgotten or takes all


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """
    :ivar places: float32 [patches], logarithm of the weight that a place has on average
    :ivar slopes: float32 [k + 1], of the logarithm by each of the first k levels, and by the logarithm of the sum of all squared levels
    :raises ValueError: the arrays are no vectors
    """

    places: np.ndarray
    slopes: np.ndarray

    def __post_init__(self):
        if self.places.ndim != 1 or self.slopes.ndim != 1 or not len(self.slopes):
            raise ValueError(f'a sensitivity of shapes {list(self.places.shape)} and {list(self.slopes.shape)}: expected vectors')

    def weights(self, levels: np.ndarray) -> np.ndarray:
        """Of a frame's patches, levels int16 [patches, K]: float32 [patches], 1 on average before they are limited."""
        logs = features(levels, len(self.slopes) - 1) @ self.slopes + self.places
        found = np.exp(np.clip(logs - logs.max(), -20, 0))
        return np.clip(found / found.mean(), LEAST, MOST)


def features(levels: np.ndarray, first: int) -> np.ndarray:
    """What the logarithm of the weight is linear in, float32 [..., first + 1], of levels [..., K]."""
    values = levels.astype(np.float32)
    return np.concatenate((values[..., :first], np.log(np.square(values).sum(-1, keepdims=True) + 1)), -1)
