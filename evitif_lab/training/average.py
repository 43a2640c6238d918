"""The moving average of a model's weights, which is what a training keeps."""

from __future__ import annotations

from collections.abc import Callable

import torch


def warmed_up_average(decay: float) -> Callable:
    """For `torch.optim.swa_utils.AveragedModel`: an exponential moving average whose decay grows from 0 to `decay`, so
    that the first steps are forgotten."""
    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
        step_decay = min(decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(averaged, current, 1 - step_decay)
    return update
