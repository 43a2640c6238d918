"""The attention that a timm ViT's blocks pay, computed beside the fused kernels, which do not give it away.

The model is not changed and its outputs are the same: hooks look at what leaves each block's `qkv` layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from evitif.model.errors import ModelError


class AttentionRecorder:
    """Records the attention of chosen blocks of `module` (numbers from 0) while `self.module(images)` runs.

    Raises ModelError where a block has no queries and keys of the usual form. One run at a time.
    """

    def __init__(self, module: nn.Module, blocks: Sequence[int]):
        self.module = module
        self._projected: dict[int, torch.Tensor] = {}
        self._attention = {index: _attention_of(module, index) for index in blocks}
        for index, attention in self._attention.items():
            attention.qkv.register_forward_hook(
                lambda _layer, _inputs, output, index=index: self._projected.__setitem__(index, output))

    @torch.inference_mode()
    def run(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Images [B, C, H, W] to logits [B, classes] and, for each recorded block, the attention float32 [B, N, N]: what the
        token of a row pays to that of a column, mean over the heads."""
        self._projected.clear()
        logits = self.module(images)
        maps = [_mean_over_heads(attention, self._projected.pop(index)) for index, attention in self._attention.items()]
        return logits, maps


def _attention_of(module: nn.Module, index: int) -> nn.Module:
    attention = getattr(module.blocks[index], 'attn', None)
    missing = [part for part in ('qkv', 'q_norm', 'k_norm', 'scale', 'num_heads') if not hasattr(attention, part)]
    if missing:
        raise ModelError(f'block {index + 1} of {type(module).__name__} shows no attention: its attn has no {", ".join(missing)} '
                         '(expected a timm VisionTransformer such as vit_* or deit_*)')
    return attention


def _mean_over_heads(attention: nn.Module, projected: torch.Tensor) -> torch.Tensor:
    batch, tokens, _ = projected.shape
    queries, keys, _ = projected.reshape(batch, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)   # [B, heads, N, d]
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    return (queries @ keys.transpose(-2, -1) * attention.scale).float().softmax(-1).mean(1)
