"""The attention of a timm ViT's blocks, which its fused kernels do not return.

Hooks on each block's `qkv` layer compute it again; the model and its outputs stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from evitif.model.errors import ModelError

# Of an attention's output, in its norm: more than rounding errors, less than what another form of attention makes.
_TOLERANCE, _TOLERANCE_OF_HALF = 1e-3, 0.02


class AttentionRecorder:
    """Records the attention of chosen blocks of `module` (numbers from 0) while `self.module(images)` runs.

    Queries and keys alone decide what a block attends to only if nothing else does, such as rotary or relative positions. So each block
    is first tried on a random image: the attention computed here has to give the block's own output.

    Raises ModelError if a block has no usual queries and keys, or attends in another way. One run at a time.
    """

    def __init__(self, module: nn.Module, blocks: Sequence[int]):
        self.module = module
        self._projected: dict[int, torch.Tensor] = {}
        self._attention = {index: _attention_of(module, index) for index in blocks}
        for index, attention in self._attention.items():
            attention.qkv.register_forward_hook(
                lambda _layer, _inputs, output, index=index: self._projected.__setitem__(index, output))
        self._require_usual_form()

    @torch.inference_mode()
    def run(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Images [B, C, H, W] to logits [B, classes] and, for each recorded block, the attention float32 [B, N, N]: what the
        token of a row pays to that of a column, mean over the heads."""
        self._projected.clear()
        logits = self.module(images)
        maps = [_heads(attention, self._projected.pop(index))[0].mean(1) for index, attention in self._attention.items()]
        return logits, maps

    @torch.inference_mode()
    def _require_usual_form(self) -> None:
        outputs: dict[int, torch.Tensor] = {}
        hooks = [attention.register_forward_hook(lambda _layer, _inputs, output, index=index: outputs.__setitem__(index, output))
                 for index, attention in self._attention.items()]
        try:
            self.module(_random_image(self.module))
        finally:
            for hook in hooks:
                hook.remove()
        whole = next(self.module.parameters()).dtype == torch.float32
        for index, attention in self._attention.items():
            try:
                seen = _output(attention, *_heads(attention, self._projected.pop(index)))
                apart = float((seen - outputs[index]).float().norm() / outputs[index].float().norm().clamp(min=1e-12))
            except (AttributeError, KeyError, RuntimeError, TypeError):
                apart = math.nan
            if not apart <= (_TOLERANCE if whole else _TOLERANCE_OF_HALF):
                raise ModelError(f'block {index + 1} of {type(self.module).__name__} shows no attention: its {type(attention).__name__} '
                                 'computes it from more than queries and keys, such as rotary or relative positions or a difference of '
                                 'two (expected a timm VisionTransformer such as vit_* or deit_*)')


def _attention_of(module: nn.Module, index: int) -> nn.Module:
    attention = getattr(module.blocks[index], 'attn', None)
    missing = [part for part in ('qkv', 'q_norm', 'k_norm', 'scale', 'num_heads') if getattr(attention, part, None) is None]
    if missing:
        raise ModelError(f'block {index + 1} of {type(module).__name__} shows no attention: its attn has no {", ".join(missing)} '
                         '(expected a timm VisionTransformer such as vit_* or deit_*)')
    return attention


def _heads(attention: nn.Module, projected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of the layer `qkv` to the attention float32 [B, heads, N, N] and the values [B, heads, N, d]."""
    batch, tokens, _ = projected.shape
    queries, keys, values = projected.reshape(batch, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)     # [B, heads, N, d]
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    return (queries @ keys.transpose(-2, -1) * attention.scale).float().softmax(-1), values


def _output(attention: nn.Module, maps: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The output [B, N, D] of an attention of the usual form."""
    mixed = (maps.to(values.dtype) @ values).transpose(1, 2).flatten(2)
    return attention.proj(getattr(attention, 'norm', nn.Identity())(mixed))


def _random_image(module: nn.Module) -> torch.Tensor:
    weight = next(module.parameters())
    channels = next((layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)), 3)
    image = torch.randn(1, channels, *module.patch_embed.img_size, generator=torch.Generator().manual_seed(0))
    return image.to(weight.device, weight.dtype)
