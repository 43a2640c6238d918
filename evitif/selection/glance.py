"""What the robot's light Vision Transformer says of an image: its own answer, and which patches matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from evitif.model.cuttable import trunk_of
from evitif.model.errors import ModelError
from evitif.model.trunk import Trunk
from evitif.selection.attention import AttentionRecorder
from evitif.selection.scores import blocks_of, patch_scores, resample


@dataclass(frozen=True, eq=False)
class Glance:
    """The light model's answer to one image, and the scores of its patches."""

    probabilities: np.ndarray     # float32 [classes], calibrated by the temperature
    scores: np.ndarray            # float32 [patches of the large model's grid], row by row, summing to 1


class LightModel:
    """A light ViT in evaluation mode that scores patches by `rule` (`evitif.selection.scores.RULES`).

    It may run on any device and in any precision; images have to be on that device already in `glance_batch`.

    :param grid: rows and columns of the large model's patches, for which scores are wanted; None: the light model's own
    :param temperature: that logits are divided by, more than 0 (Guo et al., arXiv 1706.04599)
    :raises ModelError: the model has no blocks or shows no attention
    :raises ValueError: the rule is unknown, or the temperature out of range
    """

    def __init__(self, module: nn.Module, rule: str = 'last', grid: tuple[int, int] | None = None, temperature: float = 1.0):
        if type(trunk_of(module)) is not Trunk:
            raise ModelError(f'{type(module).__name__} cannot be the light model: its blocks attend by positions that come beside the '
                             'tokens, or by more than queries and keys (expected a timm VisionTransformer such as vit_* or deit_*)')
        if not temperature > 0:
            raise ValueError(f'temperature is {temperature:g}: expected more than 0')
        self.rule, self.temperature = rule, temperature
        self.own_grid = tuple(int(side) for side in module.patch_embed.grid_size)
        self.grid = self.own_grid if grid is None else tuple(grid)
        self.classes = int(module.num_classes)
        self._prefix = int(module.num_prefix_tokens)
        self._class_token = getattr(module, 'cls_token', None) is not None and getattr(module, 'global_pool', 'token') == 'token'
        self._recorder = AttentionRecorder(module, blocks_of(rule, len(module.blocks)))

    def glance_batch(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Preprocessed images [B, C, H, W] to logits float32 [B, classes], as the model gives them, and scores float32
        [B, patches of the large model's grid]."""
        logits, attention = self._recorder.run(images)
        with torch.autocast(images.device.type, enabled=False):     # scores are shares: as float32 whatever the model computes in
            scores = patch_scores(self.rule, attention, self._prefix, self._class_token)
            return logits.float(), resample(scores, self.own_grid, self.grid)

    @torch.inference_mode()
    def glance(self, image: torch.Tensor) -> Glance:
        """A preprocessed image [1, C, H, W], on any device, to what the robot decides by."""
        weight = next(self._recorder.module.parameters())
        logits, scores = self.glance_batch(image.to(weight.device, weight.dtype))
        return Glance((logits[0] / self.temperature).softmax(0).cpu().numpy(), scores[0].cpu().numpy())
