"""The classes divided among the devices (ED-ViT, arXiv 2410.11650; EC-SNN: sizes that differ by at most one)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RESTARTS = 8


def random_subsets(classes: int, devices: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """`classes` class ids divided among `devices` at random. Raises ValueError unless 1 <= devices <= classes."""
    _require_divisible(classes, devices)
    parts = np.array_split(np.random.default_rng(seed).permutation(classes), devices)
    return tuple(tuple(sorted(int(index) for index in part)) for part in parts)


def similar_subsets(confusions: np.ndarray, devices: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """Classes divided so that those which the model takes for one another are on one device.

    Balanced clustering: from random divisions, two classes of different devices change places as long as that adds to the
    confusions within devices; the best of a few starts is kept.

    :param confusions: float [classes, classes], row c the mean output of the model on images of class c
    :raises ValueError: not a square matrix of finite numbers, or not 1 <= devices <= classes
    """
    confusions = np.asarray(confusions, np.float64)
    if confusions.ndim != 2 or confusions.shape[0] != confusions.shape[1]:
        raise ValueError(f'confusions have the shape {list(confusions.shape)}: expected [classes, classes]')
    if not np.isfinite(confusions).all():
        raise ValueError('confusions are not finite: expected the mean outputs of a model whose answers are numbers')
    similarity = confusions + confusions.T
    np.fill_diagonal(similarity, 0.0)
    best: tuple[float, tuple[tuple[int, ...], ...]] | None = None
    for restart in range(_RESTARTS):
        groups = random_subsets(len(similarity), devices, seed * 1009 + restart)
        owner = np.empty(len(similarity), np.int64)
        for index, group in enumerate(groups):
            owner[list(group)] = index
        _swap_until_settled(owner, similarity)
        within = float(similarity[owner[:, None] == owner[None, :]].sum())
        if best is None or within > best[0] + 1e-12:
            best = within, tuple(tuple(np.flatnonzero(owner == index).tolist()) for index in range(devices))
    return best[1]


def with_redundancy(subsets: Sequence[Sequence[int]], copies: int) -> tuple[tuple[int, ...], ...]:
    """Each class on `copies` devices: device i holds its own subset and those of the next devices, in a ring.

    Raises ValueError unless 1 <= copies <= devices.
    """
    if not 1 <= copies <= len(subsets):
        raise ValueError(f'redundancy is {copies}: expected 1 to {len(subsets)}, the number of devices')
    return tuple(tuple(sorted(index for step in range(copies) for index in subsets[(device + step) % len(subsets)]))
                 for device in range(len(subsets)))


def _swap_until_settled(owner: np.ndarray, similarity: np.ndarray) -> None:
    """Change `owner` [classes] in place by the best swap again and again, until none adds to the similarity within groups."""
    classes = len(owner)
    members = np.eye(owner.max() + 1)[owner]                     # [classes, groups]
    for _ in range(classes * classes):      # many times what is needed; without an end, rounding could change two places for ever
        to_group = similarity @ members                          # of each class with each group
        own = to_group[np.arange(classes), owner]
        gain = to_group[:, owner] + to_group[:, owner].T - own[:, None] - own[None, :] - 2 * similarity
        gain[owner[:, None] == owner[None, :]] = -np.inf
        first, second = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[first, second] <= 1e-12:
            return
        owner[[first, second]] = owner[[second, first]]
        members[[first, second]] = members[[second, first]]


def _require_divisible(classes: int, devices: int) -> None:
    if not 1 <= devices <= classes:
        raise ValueError(f'{devices} devices for {classes} classes: expected 1 to {classes}, so that each has a class')
