"""CaiT (Touvron et al., arXiv 2103.17239): patches alone run through the blocks, and a class token then looks at them.

So nothing but patches travels: the sequence at the cut has no prefix token. The blocks of the class token belong to the tail.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import nn

from evitif.model.masked_attention import MaskedAttention, TalkingHeads
from evitif.model.pooling import classify
from evitif.model.timm_import import timm
from evitif.model.trunk import Trunk

TalkingHeadAttn = timm.models.cait.TalkingHeadAttn


class CaitTrunk(Trunk):
    """timm's `Cait`."""

    def __init__(self, module: nn.Module):
        super().__init__(module)
        self.prefix_tokens = 0

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.module.pos_drop(self.module.patch_embed(images) + self.module.pos_embed)

    def run(self, tokens: torch.Tensor, first: int, last: int, kept: torch.Tensor | None = None,
            key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """As `Trunk.run`."""
        if key_bias is None:
            return super().run(tokens, first, last)
        with TalkingHeads((block.attn for block in islice(self.module.blocks, first, last)), key_bias):
            return super().run(tokens, first, last)

    def classify(self, tokens: torch.Tensor, key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """As `Trunk.classify`: the class token's blocks first."""
        module = self.module
        if key_bias is None:
            return module.forward_head(module.norm(module.forward_cls(tokens)))
        with MaskedAttention(key_bias=key_bias):
            tokens = module.norm(module.forward_cls(tokens))
        return classify(module, tokens, nn.functional.pad(key_bias, (int(module.num_prefix_tokens), 0)))

    def takes_key_bias(self, first: int) -> bool:
        """As `Trunk.takes_key_bias`."""
        return all(isinstance(block.attn, TalkingHeadAttn) for block in islice(self.module.blocks, first, None)) and \
            all(block.attn.fused_attn for block in self.module.blocks_token_only)
