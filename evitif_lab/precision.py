"""Precision of trainings."""

from __future__ import annotations

import torch

from evitif.model.device import PRECISIONS


def mixed_precision(device: str, precision: str) -> torch.autocast:
    """PyTorch's automatic mixed precision for training on `device`: bf16 or fp16 in it, nothing changed by fp32.

    bf16 halves the time of a step on CPUs that multiply it natively (avx512_bf16, AMX) and on recent GPUs.
    """
    kind = torch.device(device).type
    if precision == 'fp32':
        return torch.autocast(kind, enabled=False)
    return torch.autocast(kind, PRECISIONS[precision])
