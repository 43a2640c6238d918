"""The network that answers from the features of the devices that were heard.

A small MLP on the concatenated features plus a linear map of them, so an absent device is a missing term. Absent features are zero, and
a mask says which devices are present. Training drops devices and packets at random.
"""

from __future__ import annotations

import torch
from torch import nn


class FusionNetwork(nn.Module):
    """Features [B, N, F] of N devices with masks bool [B, N] to logits [B, classes]."""

    def __init__(self, devices: int, features: int, classes: int, width: int = 128):
        super().__init__()
        self.options = {'devices': devices, 'features': features, 'classes': classes, 'width': width}
        inputs = devices * (features + 1)
        self.linear = nn.Linear(inputs, classes)
        self.hidden = nn.Linear(inputs, width)
        self.output = nn.Linear(width, classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: torch.Tensor, present: torch.Tensor) -> torch.Tensor:  # noqa: D102 - as the class says
        mask = present[:, :, None].to(features.dtype)
        x = torch.cat((features * mask, mask), 2).flatten(1)
        return self.linear(x) + self.output(nn.functional.gelu(self.hidden(x)))
