"""How far tokens that were recovered are what the camera saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evitif.recovery.memory import Memory
from evitif.recovery.methods import Recovered

ESTIMATED = 0.5             # trust of an estimated token at most


def trust_in(recovered: Recovered, received: torch.Tensor, memories: Sequence[Memory | None]) -> torch.Tensor | None:
    """The trust [B, N] in 0..1 in the tokens of B frames of which those `received`, bool [B, N], arrived; None: all did.

    :param memories: what was remembered of each frame's places and stood in for lost tokens, None: nothing
    """
    if bool(received.all()):
        return None
    trust = torch.full(received.shape, ESTIMATED, device=received.device)
    if recovered.key_bias is not None:
        trust = recovered.key_bias.float().exp().clamp(max=ESTIMATED)
    if recovered.kept is not None:
        trust = trust * torch.zeros_like(trust).scatter(1, recovered.kept, 1.0)
    for row, memory in zip(trust, memories, strict=True):
        if memory is not None:
            torch.maximum(row, memory.trust[0].to(row.device), out=row)
    return torch.where(received, 1.0, trust)
