"""Cut a timm Vision Transformer after block k into a head (on the robot) and a tail (off-board).

The model itself is not changed: head and tail call its own parts in the order of its own `forward`
(timm `VisionTransformer.forward_features` and `forward_head`), so that tail(head(x)) is the whole model.
"""

from __future__ import annotations

import inspect

import torch
from torch import nn

from evitif.model.errors import ModelError

_PARTS = ('patch_embed', '_pos_embed', 'patch_drop', 'norm_pre', 'blocks', 'norm', 'forward_head')


class SplitModel:
    """A Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) cut after block `cut`, 0 <= cut <= depth.

    At cut 0 the head embeds the patches; at cut = depth the tail is the final norm and the classifier.
    Raises ModelError where the model has no blocks to cut between or the cut is out of range.
    """

    def __init__(self, module: nn.Module, cut: int, input_channels: int = 3):
        require_cuttable(module)
        self.input_channels = input_channels
        self.module = module
        self.depth = len(module.blocks)
        if not 0 <= cut <= self.depth:
            raise ModelError(f'cut {cut} is out of range: the model has {self.depth} blocks, so 0 to {self.depth}')
        self.cut = cut
        self.prefix_tokens = int(module.num_prefix_tokens)
        self.grid = tuple(int(side) for side in module.patch_embed.grid_size)
        self.channels = int(module.embed_dim)
        self.image_size = tuple(int(side) for side in module.patch_embed.img_size)

    @property
    def tokens(self) -> int:
        """Number of tokens of the sequence, prefix tokens included."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]

    def head(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] (preprocessed) to tokens [B, N, D] after block `cut`."""
        model = self.module
        x = model.patch_embed(images)
        x = model._pos_embed(x)          # [B, N, D], prefix tokens first
        x = model.norm_pre(model.patch_drop(x))
        return model.blocks[:self.cut](x)

    def tail(self, tokens: torch.Tensor, kept: torch.Tensor | None = None,
             key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens [B, N, D] to logits [B, classes].

        `kept` (int64 [B, M], ascending, the prefix tokens first) leaves the other tokens out of the sequence; their
        positions went in at the head, so that nothing else has to change. `key_bias` [B, N] is added to the attention
        that each block pays to a token: exp(key_bias) is the token's weight in the softmax (`takes_key_bias`).
        """
        if kept is not None:
            tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
            key_bias = None if key_bias is None else key_bias.gather(1, kept)
        if key_bias is None:
            tokens = self.module.blocks[self.cut:](tokens)
        else:
            bias = key_bias[:, None, None, :].to(tokens.dtype)
            for block in self.module.blocks[self.cut:]:
                tokens = block(tokens, attn_mask=bias)
        x = self.module.norm(tokens)
        return self.module.forward_head(x)

    @property
    def takes_key_bias(self) -> bool:
        """Whether the tail's blocks take a bias on the attention to a token; most of timm's do."""
        return all('attn_mask' in inspect.signature(block.forward).parameters for block in self.module.blocks[self.cut:])

    @property
    def tail_multiply_adds(self) -> int:
        """Multiply-adds of the tail's blocks for one image: the linear layers' (12 N D² a block where the MLP is four
        times as wide) and the attention's (2 N² D). Norms and the classifier, which sees one token, are left out."""
        linear = sum(layer.weight.numel() for block in self.module.blocks[self.cut:] for layer in block.modules()
                     if isinstance(layer, nn.Linear))
        return self.tokens * linear + (self.depth - self.cut) * 2 * self.tokens**2 * self.channels

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] to logits [B, classes] by the uncut model."""
        return self.module(images)

    def blank_tokens(self) -> torch.Tensor:
        """The tokens [N, D] at the cut of an image that is nothing but its own mean: what is known without an image."""
        weight = next(self.module.parameters())
        blank = torch.zeros(1, self.input_channels, *self.image_size, dtype=weight.dtype, device=weight.device)
        with torch.inference_mode():
            return self.head(blank)[0].clone()


def require_cuttable(module: nn.Module) -> None:
    """Raise ModelError unless `module` is a Vision Transformer with `blocks` whose sequence is [prefix, patches]."""
    name = type(module).__name__
    missing = [part for part in _PARTS if not hasattr(module, part)]
    if missing:
        raise ModelError(f'{name} cannot be cut: it has no {", ".join(missing)} (expected a timm VisionTransformer '
                         'with a list of blocks, such as vit_*, deit_* or deit3_*)')
    if not isinstance(module.blocks, nn.Sequential) or not len(module.blocks):
        raise ModelError(f'{name} cannot be cut: its blocks are {type(module.blocks).__name__} (expected a sequence of '
                         'at least one block that takes tokens alone)')
    if getattr(module.patch_embed, 'grid_size', None) is None:
        raise ModelError(f'{name} cannot be cut: its patch embedding has no fixed grid (build it with an image size)')
    if getattr(module, 'rope', None) is not None:
        raise ModelError(f'{name} cannot be cut: its blocks need rotary position embeddings beside the tokens')
