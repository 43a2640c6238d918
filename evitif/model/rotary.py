"""Models that turn queries and keys by their position (rotary embedding, Su et al., arXiv 2104.09864): timm's class `Eva`.

EVA, EVA-02, DINOv3, the Perception Encoder, ROPE-ViT and others. Positions go into every block, so a token that is left out takes its
position with it and the others keep theirs.
"""

from __future__ import annotations

from itertools import islice

import torch

from evitif.model.trunk import Trunk


class RotaryTrunk(Trunk):
    """timm's `Eva`: without rotary positions too, since not all of its models have them."""

    def head(self, images: torch.Tensor, cut: int) -> torch.Tensor:
        """As `Trunk.head`."""
        tokens, rope = self.module._pos_embed(self.module.patch_embed(images))     # noqa: SLF001 - timm's, without a public name
        return self._through(self.module.norm_pre(tokens), rope, 0, cut)

    def run(self, tokens: torch.Tensor, first: int, last: int, kept: torch.Tensor | None = None,
            key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """As `Trunk.run`."""
        return self._through(tokens, self._rope() if last > first else None, first, last, kept, key_bias)

    def _rope(self) -> torch.Tensor | None:
        """Sines and cosines of all patches' angles: [P, R], or where each block has its own, [depth, heads, P, R]."""
        rope = self.module.rope
        if rope is None:
            return None
        fixed = getattr(rope, 'feat_shape', None) is not None
        return rope.get_embed() if fixed else rope.get_embed(shape=self.grid)

    def _through(self, tokens: torch.Tensor, rope: torch.Tensor | None, first: int, last: int, kept: torch.Tensor | None = None,
                 key_bias: torch.Tensor | None = None) -> torch.Tensor:
        mask = None if key_bias is None else key_bias[:, None, None, :].to(tokens.dtype)
        mixed = rope is not None and self.module.rope_mixed
        turned = rope if mixed else self._of(rope, kept)
        for index, block in enumerate(islice(self.module.blocks, first, last), first):
            tokens = block(tokens, rope=self._of(rope[index], kept) if mixed else turned, attn_mask=mask)
        return tokens

    def _of(self, rope: torch.Tensor | None, kept: torch.Tensor | None) -> torch.Tensor | None:
        """The angles [(heads,) P, R] of all patches to those of each image's kept patches, [B, 1 or heads, M, R]."""
        if rope is None or kept is None:
            return rope
        patches = kept[:, self.prefix_tokens:] - self.prefix_tokens
        return rope[patches][:, None] if rope.dim() == 2 else rope[:, patches].transpose(0, 1)
