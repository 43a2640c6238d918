"""How much each patch mattered to a Vision Transformer's own answer.

A score is the share of the class token's attention, so that the scores of an image sum to 1. A model without a class token
answers by the mean over its patches: there it is the mean of the attention that all patches pay (a substitute of ours).

| rule | |
| --- | --- |
| `last` | the last block's attention, mean over its heads (Im et al., arXiv 2404.07217) |
| `rollout` | attention followed back through all blocks, half of each step being the residual (Abnar and Zuidema, ACL 2020) |
| `selective` | the same through the later half of the blocks only, where classes are told apart |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from evitif.model.field_of_view import FieldOfView

RULES = ('last', 'rollout', 'selective')


def blocks_of(rule: str, depth: int) -> range:
    """The blocks, from 0, whose attention a rule needs. Raises ValueError for an unknown rule."""
    if rule not in RULES:
        raise ValueError(f'score rule {rule!r} is unknown (expected {", ".join(RULES)})')
    first = {'last': depth - 1, 'rollout': 0, 'selective': depth // 2}[rule]
    return range(first, depth)


def patch_scores(rule: str, attention: Sequence[torch.Tensor], prefix_tokens: int, class_token: bool) -> torch.Tensor:
    """Attention [B, N, N] of the rule's blocks in their order to scores float32 [B, patches], each image's summing to 1.

    The class token is the first of `prefix_tokens`, where there is one.
    """
    last = attention[-1]
    if class_token:
        paid = last.new_zeros(len(last), 1, last.shape[1])
        paid[:, :, 0] = 1
    else:
        paid = last.new_full((len(last), 1, last.shape[1]), 1 / (last.shape[1] - prefix_tokens))
        paid[:, :, :prefix_tokens] = 0
    for step in reversed(attention):
        paid = paid @ step if rule == 'last' else (paid + paid @ step) / 2
    scores = paid[:, 0, prefix_tokens:]
    return scores / scores.sum(1, keepdim=True).clamp(min=1e-12)


def transported(scores: np.ndarray, grid: tuple[int, int], view: FieldOfView, wanted: tuple[int, int],
                wanted_view: FieldOfView) -> np.ndarray:
    """Scores [rows * columns] of the patches of one view of a picture to those of another view's, summing to 1: each patch's is divided by
    area. Patches that only the other view sees get the mean of those that both see, and those that see nothing but a border get none."""
    (over_y, seen_y), (over_x, seen_x) = (_overlaps(grid[axis], view.box[1 - axis], view.box[3 - axis], wanted[axis],
                                                    wanted_view.box[1 - axis], wanted_view.box[3 - axis]) for axis in (0, 1))
    found, both = over_y @ scores.reshape(grid) @ over_x.T, np.outer(seen_y, seen_x)
    found = (found + (1 - both) * found.sum() / max(both.sum(), 1e-12)) * (wanted_view.pictured(wanted) > 0)
    return (found / max(found.sum(), 1e-12)).astype(np.float32).ravel()


def _overlaps(cells: int, start: float, length: float, wanted: int, wanted_start: float,
              wanted_length: float) -> tuple[np.ndarray, np.ndarray]:
    """Along an axis: of each cell, its share within each wanted one, [wanted, cells]; of each wanted one, the share that cells cover."""
    edges = start + np.arange(cells + 1) * length / cells
    others = wanted_start + np.arange(wanted + 1) * wanted_length / wanted
    common = np.maximum(0, np.minimum(others[1:, None], edges[None, 1:]) - np.maximum(others[:-1, None], edges[None, :-1]))
    return common / (length / cells), common.sum(1) / (wanted_length / wanted)


def resample(scores: torch.Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> torch.Tensor:
    """Scores [B, rows * columns] of one grid of patches to those of another; still summing to 1."""
    if grid == wanted:
        return scores
    image = scores.view(len(scores), 1, *grid)
    finer = wanted[0] >= grid[0] and wanted[1] >= grid[1]
    image = functional.interpolate(image, wanted, mode='bilinear') if finer else functional.interpolate(image, wanted, mode='area')
    flat = image.flatten(1)
    return flat / flat.sum(1, keepdim=True).clamp(min=1e-12)
