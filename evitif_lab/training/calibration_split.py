"""Training images that a training leaves out, so that what is calibrated later has not seen them."""

from __future__ import annotations

import numpy as np


def training_split(images: int, held_out: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices int64 of the images to train on and of those to calibrate on, both ascending; the same on every machine.

    Raises ValueError unless 0 < held_out < 1 leaves at least one image on each side.
    """
    count = round(images * held_out)
    if not 0 < held_out < 1 or not 0 < count < images:
        raise ValueError(f'held_out is {held_out:g} of {images} images: expected a share that leaves images on both sides')
    order = np.random.default_rng(0).permutation(images)
    return np.sort(order[count:]), np.sort(order[:count])
