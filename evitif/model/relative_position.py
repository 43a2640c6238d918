"""Models whose attention is biased by where two tokens lie to each other: BEiT (Bao et al., arXiv 2106.08254), `vit_relpos_*`.

The bias [heads, N, N] covers all pairs of places. When tokens are left out, the others keep their rows and columns of it, and so their
positions.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import islice

import torch

from evitif.model.masked_attention import MaskedAttention
from evitif.model.trunk import Trunk


class RelativePositionTrunk(Trunk):
    """timm's `VisionTransformerRelPos`."""

    needs_fused_attention = True

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        return self._with_class_token(self.module.patch_embed(images))

    def run(self, tokens: torch.Tensor, first: int, last: int, kept: torch.Tensor | None = None,
            key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """As `Trunk.run`."""
        shared = self._shared_bias() if last > first else {}
        with nullcontext() if kept is None and key_bias is None else MaskedAttention(kept, key_bias):
            for block in islice(self.module.blocks, first, last):
                tokens = block(tokens, **shared)
        return tokens

    def takes_key_bias(self, first: int) -> bool:
        """As `Trunk.takes_key_bias`: these blocks always do."""
        return True

    def _shared_bias(self) -> dict[str, torch.Tensor | None]:
        """What all blocks get, where one bias is for all; else each block has its own."""
        shared = self.module.shared_rel_pos
        return {'shared_rel_pos': None if shared is None else shared.get_bias()}

    def _with_class_token(self, patches: torch.Tensor) -> torch.Tensor:
        token = self.module.cls_token
        return patches if token is None else torch.cat((token.expand(len(patches), -1, -1), patches), 1)


class BeitTrunk(RelativePositionTrunk):
    """timm's `Beit`."""

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        tokens = super()._embed(images)
        if self.module.pos_embed is not None:
            tokens = tokens + self.module.pos_embed
        return self.module.pos_drop(tokens)

    def _shared_bias(self) -> dict[str, torch.Tensor | None]:
        shared = self.module.rel_pos_bias
        return {'shared_rel_pos_bias': None if shared is None else shared()}
