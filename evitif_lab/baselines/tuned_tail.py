"""A tail that was trained with losses, for comparison: what could be done at a cut if the model itself might change.

The rest of the project leaves the pretrained model as it is, so that one head serves any tail and an answer without loss is the model's
own. This method gives that up for frames with losses: it trains a copy of the tail together with the surrogate tokens
(`evitif_lab.baselines.surrogate`). What it reaches shows how much of the damage can be undone at this cut at all.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from evitif.model.cait import CaitTrunk
from evitif.model.split import SplitModel
from evitif.recovery import Recovered, Sequence
from evitif.vocabulary import RecoveryName
from evitif_lab.baselines.surrogate import Surrogate


class TunedTail(Surrogate):
    """Surrogate tokens and a trained copy of the tail. Without loss the model's own tail answers."""

    name = RecoveryName.TUNED_TAIL

    def __init__(self, sequence: Sequence):
        super().__init__(sequence)
        self.tuned: nn.Module | None = None
        self._split: SplitModel | None = None

    def attach(self, split: SplitModel) -> None:
        """Take a copy of the tail."""
        self.tuned = _without_head(split)
        self._split = SplitModel(self.tuned, split.cut, split.input_channels)

    def forward(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """As `LearnedRecovery.forward`, with the trained tail."""
        if self._split is None:
            raise RuntimeError('a tuned tail has to be attached to a model first')
        return replace(super().forward(tokens, received, packet_error_rate), tail=self._split)


def _without_head(split: SplitModel) -> nn.Module:
    """A trainable copy of a timm Vision Transformer whose parameters are those that `SplitModel.tail` uses."""
    tail = copy.deepcopy(split.module)
    place = nn.Identity()           # SplitModel asks the patch embedding for its geometry
    place.grid_size, place.img_size = tail.patch_embed.grid_size, tail.patch_embed.img_size
    tail.patch_embed = place
    tail.norm_pre = nn.Identity()
    for index in range(split.cut):
        tail.blocks[index] = nn.Identity()
    # The embedding's own parameters: class token, positions, …; CaiT's class token joins in the tail.
    for name in ('pos_embed',) if isinstance(split.trunk, CaitTrunk) else [name for name, _ in tail.named_parameters(recurse=False)]:
        setattr(tail, name, None)
    return tail.requires_grad_(True)
