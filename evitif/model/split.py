"""Cut a timm Vision Transformer after block k into a head (on the robot) and a tail (off-board).

The model itself is not changed: head and tail call its own parts in the order of its own `forward`, so that tail(head(x)) is
the whole model. What differs between timm's classes is in `trunk.py` and the files that it names.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from evitif.model.cuttable import trunk_of
from evitif.model.errors import ModelError


class SplitModel:
    """A Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) cut after block `cut`, 0 <= cut <= depth.

    At cut 0 the head embeds the patches; at cut = depth the tail is what follows the blocks: the final norm and the classifier.
    Raises ModelError where the model has no blocks to cut between or the cut is out of range.
    """

    def __init__(self, module: nn.Module, cut: int, input_channels: int = 3):
        self.trunk = trunk_of(module)
        self.input_channels = input_channels
        self.module = module
        self.depth = len(module.blocks)
        if not 0 <= cut <= self.depth:
            raise ModelError(f'cut {cut} is out of range: the model has {self.depth} blocks, so 0 to {self.depth}')
        self.cut = cut
        self.prefix_tokens = self.trunk.prefix_tokens
        self.grid = self.trunk.grid
        self.channels = int(module.embed_dim)
        self.image_size = self.trunk.image_size

    @property
    def tokens(self) -> int:
        """Number of tokens of the sequence, prefix tokens included."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]

    def head(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] (preprocessed) to tokens [B, N, D] after block `cut`, prefix tokens first."""
        return self.trunk.head(images, self.cut)

    def run(self, tokens: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """All tokens [B, N, D] through the blocks `first` to `last`, counted from 0, the latter not included."""
        return self.trunk.run(tokens, first, last)

    def tail(self, tokens: torch.Tensor, kept: torch.Tensor | None = None,
             key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens [B, N, D] to logits [B, classes].

        `kept` (int64 [B, M], ascending, all prefix tokens first) leaves the other tokens out of the sequence; those that stay keep
        their positions. exp(`key_bias`) [B, N] is the weight of a token: what it counts for in the attention of each block and
        in what the model pools by (`takes_key_bias`).
        """
        return self.classify(self.outputs(tokens, (self.depth,), kept, key_bias)[self.depth], kept, key_bias)

    def classify(self, output: torch.Tensor, kept: torch.Tensor | None = None, key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """The last of `outputs` [B, M, D] to logits [B, classes]."""
        return self.trunk.classify(output, key_bias if key_bias is None or kept is None else key_bias.gather(1, kept))

    def outputs(self, tokens: torch.Tensor, blocks: Collection[int], kept: torch.Tensor | None = None,
                key_bias: torch.Tensor | None = None) -> dict[int, torch.Tensor]:
        """Tokens [B, N, D] at the cut to those [B, M, D] that come out of the first 6, 9, … `blocks`, each run once.

        The other arguments are those of `tail`; M is N, or what is `kept` of it. Raises ValueError for a block before the cut.
        """
        if kept is not None:
            tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
            key_bias = None if key_bias is None else key_bias.gather(1, kept)
        found, at = {}, self.cut
        for block in sorted(set(blocks)):
            if not self.cut <= block <= self.depth:
                raise ValueError(f'block {block} is asked for: expected {self.cut} (the cut) to {self.depth} (the last)')
            tokens, at = self.trunk.run(tokens, at, block, kept, key_bias), block
            found[block] = tokens
        return found

    @property
    def takes_key_bias(self) -> bool:
        """Whether the tail's blocks and its pooling take weights of tokens; most of timm's do."""
        return self.trunk.takes_key_bias(self.cut)

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] to logits [B, classes] by the uncut model."""
        return self.module(images)

    def blank_tokens(self) -> torch.Tensor:
        """The tokens [N, D] at the cut of an image that is nothing but its own mean: what is known without an image."""
        weight = next(self.module.parameters())
        blank = torch.zeros(1, self.input_channels, *self.image_size, dtype=weight.dtype, device=weight.device)
        with torch.inference_mode():
            return self.head(blank)[0].clone()
