"""What heads read: the tokens that come out of the backbone's blocks, and how far to trust each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import nn

from evitif.model.split import SplitModel


@dataclass(frozen=True, eq=False)
class Features:
    """Tokens of B images by the number of blocks that they come out of: 0 is the embedding, `cut` what crosses the link.

    Each is [B, N, D]: `prefix_tokens` first, then the patches of `grid` (rows, columns), row by row. The row of a token that was left out
    of the sequence is zero, and its weight is 0.

    `weights` [B, N], None: all 1, is what a token counted for in the blocks' attention, and counts for in a mean. `trust` [B, N], None: as
    `weights`, is how far a token is what the camera saw: 1 received, less for one that is remembered or estimated, 0 for none.
    """

    tokens: dict[int, torch.Tensor]
    prefix_tokens: int
    grid: tuple[int, int]
    norm: nn.Module                     # of the backbone, behind its last block
    weights: torch.Tensor | None = None
    trust: torch.Tensor | None = None
    _normed: dict[int, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, split: SplitModel, tokens: torch.Tensor, blocks: Collection[int], kept: torch.Tensor | None = None,
           key_bias: torch.Tensor | None = None, trust: torch.Tensor | None = None) -> Features:
        """Run the blocks behind the cut once on tokens [B, N, D] at the cut; the arguments are those of `SplitModel.tail`."""
        return cls.of_outputs(split, split.outputs(tokens, blocks, kept, key_bias), kept, key_bias, trust)

    @classmethod
    def of_outputs(cls, split: SplitModel, outputs: dict[int, torch.Tensor], kept: torch.Tensor | None = None,
                   key_bias: torch.Tensor | None = None, trust: torch.Tensor | None = None) -> Features:
        """The same of what `SplitModel.outputs` returned."""
        weights = None if key_bias is None else key_bias.float().exp()
        if kept is not None:
            some = next(iter(outputs.values()))
            there = torch.zeros(len(some), split.tokens, device=some.device).scatter(1, kept, 1.0)
            weights = there if weights is None else weights * there
            places = kept[:, :, None].expand(-1, -1, some.shape[2])
            outputs = {block: values.new_zeros(len(values), split.tokens, values.shape[2]).scatter(1, places, values)
                       for block, values in outputs.items()}
        return cls(outputs, split.prefix_tokens, split.grid, split.module.norm, weights, weights if trust is None else trust)

    def of_block(self, block: int, final_norm: bool = False) -> torch.Tensor:
        """[B, N, D], behind the backbone's final norm if it is asked for; that is computed once."""
        if not final_norm:
            return self.tokens[block]
        if block not in self._normed:
            self._normed[block] = self.norm(self.tokens[block])
        return self._normed[block]

    def patches(self, block: int, final_norm: bool = False) -> torch.Tensor:
        """The patches as a picture [B, D, rows, columns]."""
        return self.of_block(block, final_norm)[:, self.prefix_tokens:].transpose(1, 2).unflatten(2, self.grid)

    def trust_map(self) -> torch.Tensor | None:
        """The patches' trust [B, rows, columns]; None: all 1."""
        return None if self.trust is None else self.trust[:, self.prefix_tokens:].unflatten(1, self.grid)

    def pooled(self, block: int, final_norm: bool = True) -> torch.Tensor:
        """[B, 2 D]: the class token beside the mean of the patches, as in DINOv2's linear evaluation (arXiv 2304.07193); [B, D], the mean
        alone, where there is no prefix token."""
        tokens = self.of_block(block, final_norm)
        patches = tokens[:, self.prefix_tokens:]
        if self.weights is None:
            mean = patches.mean(1)
        else:
            weights = self.weights[:, self.prefix_tokens:].to(tokens.dtype)
            mean = torch.einsum('bn,bnd->bd', weights / weights.sum(1, keepdim=True).clamp(min=1e-6), patches)
        return torch.cat((tokens[:, 0], mean), 1) if self.prefix_tokens else mean
