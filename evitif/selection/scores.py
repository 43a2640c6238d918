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

import torch
from torch.nn import functional

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


def resample(scores: torch.Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> torch.Tensor:
    """Scores [B, rows * columns] of one grid of patches to those of another; still summing to 1."""
    if grid == wanted:
        return scores
    image = scores.view(len(scores), 1, *grid)
    finer = wanted[0] >= grid[0] and wanted[1] >= grid[1]
    image = functional.interpolate(image, wanted, mode='bilinear') if finer else functional.interpolate(image, wanted, mode='area')
    flat = image.flatten(1)
    return flat / flat.sum(1, keepdim=True).clamp(min=1e-12)
