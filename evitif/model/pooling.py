"""From tokens to logits by the model's own pooling and classifier, with tokens that count for less than one.

A token of weight w counts as w tokens would: in a mean w times, in attention pooling w times in the softmax, and in a maximum unless w is
0. So a weight of 0 is omission with every pooling.
"""

from __future__ import annotations

import torch
from torch import nn

from evitif.model.masked_attention import MaskedAttention


def classify(module: nn.Module, tokens: torch.Tensor, key_bias: torch.Tensor | None = None) -> torch.Tensor:
    """Normalised tokens [B, N, D], prefix tokens first, to logits [B, classes]; `key_bias` [B, N] is the logarithm of weights."""
    if key_bias is None:
        return module.forward_head(tokens)
    if getattr(module, 'attn_pool', None) is not None:
        with MaskedAttention(key_bias=key_bias):
            return module.forward_head(tokens)
    if module.global_pool not in _POOLS:        # a class token answers
        return module.forward_head(tokens)
    prefix = 0 if getattr(module, 'pool_include_prefix', False) else int(module.num_prefix_tokens)
    pooled = _POOLS[module.global_pool](tokens[:, prefix:], key_bias[:, prefix:].float().softmax(1))
    # Every pooling of a single patch gives that patch.
    return module.forward_head(torch.cat((tokens[:, :prefix], pooled[:, None]), 1))


def weighs_tokens(module: nn.Module) -> bool:
    """Whether `classify` takes a key bias: not where pooling averages over what attention has mixed, or where timm's fused
    attention is switched off."""
    pool = getattr(module, 'attn_pool', None)
    if pool is None:
        return True
    return pool.fused_attn and not (type(pool).__name__ == 'AttentionPoolPrr' and pool.pool == 'avg')


def _mean(tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Tokens [B, N, D] and weights [B, N] that sum to 1 to [B, D]."""
    return (weights.to(tokens.dtype)[:, None] @ tokens)[:, 0]


def _maximum(tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return tokens.masked_fill((weights == 0)[:, :, None], -torch.inf).amax(1)


_POOLS = {'avg': _mean, 'max': _maximum, 'avgmax': lambda tokens, weights: 0.5 * (_maximum(tokens, weights) + _mean(tokens, weights))}
