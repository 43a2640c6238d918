"""Attention of some tokens, and with weights, where a timm block takes no mask as an argument.

timm calls PyTorch's `scaled_dot_product_attention`. `MaskedAttention` stands between the two: timm's code runs as it is, and PyTorch gets
another mask. CaiT's blocks compute attention themselves; `TalkingHeads` does the same for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class MaskedAttention(TorchFunctionMode):
    """Inside `with`, attention sees only the part of its own mask that is about the kept tokens, and a bias on its keys.

    :param kept: int64 [B, M], the places of the tokens that there are, in a mask of all places; None: all of them
    :param key_bias: [B, M], added to the attention that is paid to each token. Where attention has more keys than tokens, the
        others come first and get no bias; where it has fewer, those are the last tokens
    """

    def __init__(self, kept: torch.Tensor | None = None, key_bias: torch.Tensor | None = None):
        super().__init__()
        self._kept, self._key_bias = kept, key_bias

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is functional.scaled_dot_product_attention:
            query, key, value, *rest = args
            mask = rest[0] if rest else kwargs.get('attn_mask')
            mask = self._masked(mask, key.shape[-2], query.dtype)
            return function(query, key, value, mask, *rest[1:], **{name: given for name, given in kwargs.items() if name != 'attn_mask'})
        return function(*args, **kwargs)

    def _masked(self, mask: torch.Tensor | None, keys: int, dtype: torch.dtype) -> torch.Tensor | None:
        """The mask [(1,) heads, N, N] of all tokens to that of the kept ones [B, heads, M, M], with the bias."""
        if mask is not None and self._kept is not None:
            mask = mask.reshape(mask.shape[-3:])[:, self._kept[:, :, None], self._kept[:, None, :]].transpose(0, 1)
        if self._key_bias is None:
            return mask
        bias = functional.pad(self._key_bias, (keys - self._key_bias.shape[1], 0))[:, None, None, :].to(dtype)
        return bias if mask is None else mask + bias


class TalkingHeads(TorchFunctionMode):
    """Inside `with`, CaiT's talking heads (Touvron et al., arXiv 2103.17239) weigh each token as often as it counts.

    After the softmax its heads are mixed by a layer with a bias, which goes to every token alike: that is weighted too, so
    that a token of weight 0 adds nothing.

    :param attentions: the `TalkingHeadAttn` of the blocks that run inside
    :param key_bias: [B, N], the natural logarithm of each token's weight
    """

    def __init__(self, attentions: Iterable[nn.Module], key_bias: torch.Tensor):
        super().__init__()
        self._key_bias = key_bias
        self._mixing = {id(attention.proj_w.weight) for attention in attentions}

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.softmax:                    # of scores [B, heads, N, N]
            scores, *rest = args
            return function(scores + self._key_bias[:, None, None, :].to(scores.dtype), *rest, **kwargs)
        if function is functional.linear and id(args[1]) in self._mixing:
            shares, weight, bias = args                         # [B, N, N, heads], keys last but one
            return function(shares, weight) + bias * self._key_bias.exp()[:, None, :, None].to(shares.dtype)
        return function(*args, **kwargs)
