"""Masks as pictures. NumPy alone."""

from __future__ import annotations

import numpy as np

UNLABELLED = 255            # class of a place of which nothing is known (vision_msgs/LabelInfo)


def coloured(mask: np.ndarray) -> np.ndarray:
    """Classes uint8 [H, W] to RGB uint8 [H, W, 3], in PASCAL VOC's colours; UNLABELLED is black."""
    return _PALETTE[mask]


def overlaid(image: np.ndarray, mask: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The image uint8 [H, W, 3] under its mask, which shows the more, the surer it is."""
    weight = (0.55 * (mask != UNLABELLED) * (confidence / 255.0))[..., None].astype(np.float32)
    return (image * (1 - weight) + coloured(mask) * weight).astype(np.uint8)


def _palette() -> np.ndarray:
    """The colour map of PASCAL VOC: each bit of the class's number sets a bit of a colour."""
    ids = np.arange(1, 257)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> channel + 3 * bit & 1) << 7 - bit).astype(np.uint8) if 3 * bit + channel < 9 else 0
    palette[UNLABELLED] = 0
    return palette


_PALETTE = _palette()
