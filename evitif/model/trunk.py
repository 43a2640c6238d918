"""A timm Vision Transformer in parts: its embedding, its blocks, its pooling and classifier, in the order of its `forward`.

`Trunk` is timm's `VisionTransformer`. `rotary.py`, `relative_position.py` and `cait.py` hold what other classes do differently;
`cuttable.py` says which class gets which, and which are refused.
"""

from __future__ import annotations

import inspect
from itertools import islice

import torch
from torch import nn

from evitif.model.pooling import classify, weighs_tokens


class Trunk:
    """The parts of `module`, which is in evaluation mode. Every method calls the model's own modules.

    `kept`, int64 [B, M], holds the places of the tokens that stay, ascending, all prefix tokens first. `key_bias` [B, M] is the natural
    logarithm of each token's weight: weight 0 has the effect of leaving the token out.
    """

    needs_fused_attention = False       # to leave tokens out: `masked_attention.py` hands PyTorch's attention a mask

    def __init__(self, module: nn.Module):
        self.module = module
        self.prefix_tokens = int(module.num_prefix_tokens)
        (rows, columns), (height, width) = module.patch_embed.grid_size, module.patch_embed.img_size
        self.grid, self.image_size = (int(rows), int(columns)), (int(height), int(width))

    def head(self, images: torch.Tensor, cut: int) -> torch.Tensor:
        """Images [B, C, H, W] to the tokens [B, N, D] after `cut` blocks, prefix tokens first."""
        return self.run(self._embed(images), 0, cut)

    def run(self, tokens: torch.Tensor, first: int, last: int, kept: torch.Tensor | None = None,
            key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens [B, M, D] through the blocks `first` to `last`, the latter not included."""
        mask = {} if key_bias is None else {'attn_mask': key_bias[:, None, None, :].to(tokens.dtype)}
        for block in islice(self.module.blocks, first, last):
            tokens = block(tokens, **mask)
        return tokens

    def classify(self, tokens: torch.Tensor, key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """The last block's tokens [B, M, D] to logits [B, classes]."""
        return classify(self.module, self.module.norm(tokens), key_bias)

    def takes_key_bias(self, first: int) -> bool:
        """Whether the blocks from `first` on, and the pooling, take a key bias."""
        return weighs_tokens(self.module) and all('attn_mask' in inspect.signature(block.forward).parameters
                                                  for block in islice(self.module.blocks, first, None))

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """The tokens [B, N, D] before the first block."""
        model = self.module
        return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))      # noqa: SLF001 - timm's, without a public name
