"""Which devices are absent while the fusion network is trained."""

from __future__ import annotations

import torch


def draw_present(batch: int, devices: int, generator: torch.Generator, highest: float = 0.6) -> torch.Tensor:
    """Masks bool [batch, devices] for training: a third of the frames whole, a third without one device, the rest with each
    lost at a rate from 0 to `highest`; at least one device is always there."""
    rates = torch.rand(batch, 1, generator=generator) * highest
    present = torch.rand(batch, devices, generator=generator) >= rates
    kind = torch.randint(0, 3, (batch,), generator=generator)
    present[kind == 0] = True
    alone = kind == 1
    gone = torch.randint(0, devices, (batch,), generator=generator)
    present[alone] = torch.arange(devices)[None] != gone[alone, None]
    spared = torch.randint(0, devices, (batch,), generator=generator)
    empty = ~present.any(1)
    present[empty, spared[empty]] = True
    return present
