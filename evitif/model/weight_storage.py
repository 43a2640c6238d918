"""Weights on disk in a byte each: rows of int8 with a step as binary16, beside the tensors that are stored as they are."""

from __future__ import annotations

import torch

STEP = '.step'          # behind the name of a tensor whose rows are int8
_SMALLEST_STEP = 6.104e-05      # the smallest normal binary16


def to_int8(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by name to what is stored: those of two dimensions and more as int8, symmetric around 0, with a step for each
    of their first dimension's rows; all others as fp16."""
    stored = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            stored[name] = tensor.half() if tensor.is_floating_point() else tensor
            continue
        rows = tensor.float().flatten(1)
        step = (rows.abs().amax(1, keepdim=True) / 127).clamp(min=_SMALLEST_STEP).half()
        stored[name] = (rows / step.float()).round().clamp(-127, 127).to(torch.int8).view(tensor.shape)
        stored[name + STEP] = step[:, 0].contiguous()
    return stored


def from_stored(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a model loads: rows of int8 times their step as float32, all others as they are. Raises KeyError for a missing step."""
    weights = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.int8:
            step = stored[name + STEP].float()
            weights[name] = tensor.float() * step.view(-1, *[1] * (tensor.ndim - 1))
        elif not name.endswith(STEP):
            weights[name] = tensor
    return weights
