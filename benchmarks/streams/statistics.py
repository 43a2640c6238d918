"""Means over the frames of a video, with intervals: neighbouring frames are alike, so that whole blocks of them are drawn again."""

from __future__ import annotations

import numpy as np

BLOCK = 10              # frames
DRAWS = 1000


def interval95(values: np.ndarray, block: int = BLOCK, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the mean of `values` float [seeds, n] over seeds and frames, by the circular block bootstrap.

    Blocks of frames and seeds are drawn (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992).
    """
    random = np.random.default_rng(0)
    seeds, frames = values.shape
    block = min(block, frames)
    starts = random.integers(0, frames, (draws, -(-frames // block)))
    places = ((starts[:, :, None] + np.arange(block)) % frames).reshape(draws, -1)[:, :frames]
    weights = np.stack([np.bincount(drawn, minlength=seeds) for drawn in random.integers(0, seeds, (draws, seeds))]) / seeds
    means = np.array([(weight @ values)[place].mean() for weight, place in zip(weights, places, strict=True)])
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def bytes_at(points: list[tuple[float, float]], cost: float) -> float | None:
    """The bytes at which a curve of (bytes, cost) first comes down to `cost`, between two points by the logarithm of the bytes.

    :return: None where it never does
    """
    ordered = sorted(points)
    for index, (size, reached) in enumerate(ordered):
        if reached <= cost:
            if index == 0:
                return size
            before, above = ordered[index - 1]
            share = (above - cost) / (above - reached)
            return float(before * (size / before) ** share)
    return None
