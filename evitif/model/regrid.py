"""What was fitted to one grid of patches, for another grid of the same model.

Values of each place go with the position embedding, which timm resamples bicubically. What two places have in common goes with their
distance in patches: pictures look alike at every scale, so neighbours are as alike in a finer grid.
"""

from __future__ import annotations

import numpy as np
import torch

from evitif.model.timm_import import timm

Grid = tuple[int, int]      # (rows, columns) of patches


def places_resampled(values: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """Values [N, D] of prefix tokens and an `old` grid of patches, row by row, as float32 of the same prefix tokens and a `new` grid."""
    prefix = len(values) - old[0] * old[1]
    if prefix < 0:
        raise ValueError(f'{len(values)} places for a grid of {old[0]}x{old[1]} patches: expected at least so many')
    if old == new:
        return np.asarray(values, np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
    return timm.layers.resample_abs_pos_embed(tensor, list(new), list(old), prefix)[0].numpy()


def by_distance(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The place of each pair of patches in an array over their distances [2 * rows - 1, 2 * columns - 1]: two int arrays [P, P]."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    return np.subtract.outer(rows, rows) + grid[0] - 1, np.subtract.outer(columns, columns) + grid[1] - 1


def distances_resampled(kernel: np.ndarray, new: Grid) -> np.ndarray:
    """An array over the distances of patches [2 * rows - 1, 2 * columns - 1] for a `new` grid: cut off, or beyond what is known gone on
    with its outermost values."""
    index = [np.arange(1 - side, side).clip(-(length // 2), length // 2) + length // 2
             for side, length in zip(new, kernel.shape, strict=True)]
    return np.ascontiguousarray(kernel[np.ix_(*index)])


def covariance_resampled(covariance: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """The covariance [N, N] of prefix tokens and an `old` grid of patches, as float32 of a `new` grid.

    The variance of a place, and what it has in common with a prefix token, go with the position; the correlation of two patches is the mean
    one of patches as far apart. What is not positive semidefinite then is cut off.
    """
    prefix = len(covariance) - old[0] * old[1]
    spread = np.sqrt(np.maximum(np.diagonal(covariance)[prefix:], 1e-12)).astype(np.float64)
    across, mean = by_distance(old), np.zeros((2, 2 * old[0] - 1, 2 * old[1] - 1))
    np.add.at(mean[0], across, covariance[prefix:, prefix:] / np.outer(spread, spread))
    np.add.at(mean[1], across, 1)
    wider = places_resampled(np.concatenate((spread[:, None], covariance[prefix:, :prefix]), 1), old, new).astype(np.float64)
    apart = distances_resampled(mean[0] / mean[1], new)[by_distance(new)]
    between = wider[:, 1:]
    found = np.block([[covariance[:prefix, :prefix], between.T], [between, apart * np.outer(wider[:, 0], wider[:, 0])]])
    values, vectors = np.linalg.eigh(found)
    return ((vectors * np.maximum(values, 0)) @ vectors.T).astype(np.float32)
