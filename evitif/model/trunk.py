"""A timm Vision Transformer in parts: its embedding, its blocks, its pooling and classifier, in the order of its `forward`.

`Trunk` is timm's `VisionTransformer`. What other classes do otherwise is in `rotary.py`, `relative_position.py` and
`cait.py`; which class gets which, and which are refused, in `cuttable.py`.
"""

from __future__ import annotations

import inspect
from itertools import islice

import torch
from torch import nn

from evitif.model.pooling import classify, weighs_tokens


class Trunk:
    """The parts of `module`, which is in evaluation mode. Every method calls the model's own modules.

    What is *kept* is int64 [B, M]: the places of tokens in the whole sequence, ascending, all prefix tokens first. A *key
    bias* [B, M] is the natural logarithm of a weight: a token of weight 0 is as one that is left out.
    """

    needs_fused_attention = False       # to leave tokens out: their mask is given to PyTorch's attention (`masked_attention.py`)

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
        """What leaves the last block [B, M, D] to logits [B, classes]."""
        return classify(self.module, self.module.norm(tokens), key_bias)

    def takes_key_bias(self, first: int) -> bool:
        """Whether the blocks from `first` on, and the pooling, take a key bias."""
        return weighs_tokens(self.module) and all('attn_mask' in inspect.signature(block.forward).parameters
                                                  for block in islice(self.module.blocks, first, None))

    def multiply_adds(self, first: int) -> int:
        """Of the blocks from `first` on, for one image: the linear layers' (12 N D² a block where the MLP is four times as
        wide) and the attention's (2 N² D). Norms and the classifier, which sees one token, are left out."""
        tokens = self.prefix_tokens + self.grid[0] * self.grid[1]
        blocks = list(islice(self.module.blocks, first, None))
        linear = sum(layer.weight.numel() for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear))
        return tokens * linear + len(blocks) * 2 * tokens**2 * int(self.module.embed_dim)

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """The tokens [B, N, D] before the first block."""
        model = self.module
        return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))

    @property
    def embedding_parameters(self) -> tuple[str, ...]:
        """The module's own parameters (class token, positions, …) of which nothing is needed after the first block."""
        return tuple(self.module._parameters)
