"""A Vision Transformer cut smaller: fewer channels, heads and hidden units, with what is left of its own weights.

The result is a timm VisionTransformer again, with smaller layers, so that nothing is masked and every multiply-add that was
pruned is saved. The residual stream is sliced in a rotated basis, as in SliceGPT (Ashkboos et al., arXiv 2401.15024), but
the LayerNorms stay: the new channels are the kept directions times an orthonormal basis of all vectors with mean zero, so
that subtracting the mean changes nothing. Within a head, queries with keys and values with the projection are low-rank
products, cut by their singular values.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from evitif.model.errors import ModelError

_SAME = 1e-3      # of what a block adds to its tokens: more than float32 rounds by


@dataclass(frozen=True)
class Shape:
    """The sizes of a sub-model; the same in all blocks."""

    width: int       # channels of the residual stream
    heads: int       # of a block
    head_dim: int    # channels of a head
    hidden: int      # units of a block's MLP


@dataclass(frozen=True)
class Kept:
    """What of a model a smaller one keeps. Tensors are on the CPU."""

    directions: torch.Tensor                # float [width before, width - 1], orthonormal, each of mean zero
    heads: tuple[torch.Tensor, ...]         # for each block int64 [heads], ascending
    hidden: tuple[torch.Tensor, ...]        # for each block int64 [hidden], ascending
    head_dim: int


def require_prunable(module: nn.Module) -> None:
    """Raise ModelError, naming the obstacles, unless `module` is a plain timm VisionTransformer: each block is tried on random tokens."""
    name, reasons = type(module).__name__, []
    if not isinstance(getattr(module, 'blocks', None), nn.Sequential) or not hasattr(module, 'patch_embed'):
        listed = isinstance(getattr(module, 'blocks', None), nn.ModuleList)
        what = 'blocks that take more than tokens' if listed else 'no sequence of blocks'
        raise ModelError(f'{name} cannot be pruned: it has {what} (expected a timm VisionTransformer, such as vit_*)')
    if hasattr(module, 'head_dist'):
        reasons.append('a second classifier (head_dist)')
    if getattr(module, 'attn_pool', None) is not None or getattr(module, 'rope', None) is not None:
        reasons.append('attention pooling or rotary positions')
    if not _is_one_convolution(module.patch_embed):
        reasons.append(f'a patch embedding of more than one convolution ({type(module.patch_embed).__name__})')
    if not all(isinstance(getattr(part, norm, nn.Identity()), nn.Identity)
               for part, norm in ((module.patch_embed, 'norm'), (module, 'norm_pre'))):
        reasons.append('a norm before the blocks')
    if not isinstance(getattr(module, 'head', None), nn.Linear):
        reasons.append('no linear classifier')
    norms = [norm for block in module.blocks for norm in (getattr(block, 'norm1', None), getattr(block, 'norm2', None))]
    if not all(isinstance(norm, nn.LayerNorm) for norm in [*norms, final_norm(module)]):
        reasons.append('norms that are not LayerNorm')
    strange = {type(block).__name__ for block in module.blocks if not _is_plain(block, int(module.embed_dim))}
    if strange:
        reasons.append(f'blocks ({", ".join(sorted(strange))}) that are not x + attention(norm(x)) and then x + MLP(norm(x)), '
                       'each of two linear layers (qkv and proj, fc1 and fc2)')
    if reasons:
        raise ModelError(f'{name} cannot be pruned: it has {"; ".join(reasons)}')


def _is_one_convolution(embedding: nn.Module) -> bool:
    inside = [layer for layer in embedding.modules() if next(layer.parameters(recurse=False), None) is not None]
    norm = getattr(embedding, 'norm', None)
    return [layer for layer in inside if layer is not norm] == [getattr(embedding, 'proj', None)] and isinstance(embedding.proj, nn.Conv2d)


@torch.no_grad()
def _is_plain(block: nn.Module, width: int) -> bool:
    """Whether the block computes what `shrink` cuts, from the parts that it cuts."""
    try:
        attention, mlp = block.attn, block.mlp
        if not all(isinstance(layer, nn.Linear) for layer in (attention.qkv, attention.proj, mlp.fc1, mlp.fc2)):
            return False
        scales = [getattr(block, name, nn.Identity()) for name in ('ls1', 'ls2')]
        if not all(isinstance(scale, nn.Identity) or hasattr(scale, 'gamma') for scale in scales):
            return False
        weight = attention.qkv.weight
        tokens = torch.randn(1, 5, width, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)
        queries, keys, values = attention.qkv(block.norm1(tokens)).view(5, 3, attention.num_heads, attention.head_dim).permute(1, 2, 0, 3)
        mixed = (queries @ keys.transpose(-2, -1) * attention.scale).softmax(-1) @ values
        own = tokens + scales[0](attention.proj(mixed.transpose(0, 1).flatten(1)))
        own = own + scales[1](mlp.fc2(mlp.act(mlp.fc1(block.norm2(own)))))
        given = block(tokens)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    return bool((own - given).norm() <= _SAME * (given - tokens).norm())


def final_norm(module: nn.Module) -> nn.Module:
    """The norm before the classifier: of all tokens, or of the pooled one."""
    norm = getattr(module, 'norm', nn.Identity())
    return norm if not isinstance(norm, nn.Identity) else getattr(module, 'fc_norm', norm)


@torch.no_grad()
def shrink(module: nn.Module, kept: Kept) -> None:
    """Cut `module` in place down to `kept`. What LayerScale and the norms' affine parts do goes into the linear layers."""
    before, width = module.embed_dim, kept.directions.shape[1] + 1
    basis = zero_mean_basis(width) @ kept.directions.T                  # [width, before]
    scale = (before / width)**0.5                                       # LayerNorm makes vectors of length sqrt(width)
    _write(module.patch_embed.proj, basis)
    for name in ('cls_token', 'reg_token', 'pos_embed'):
        if getattr(module, name, None) is not None:
            setattr(module, name, nn.Parameter(getattr(module, name) @ basis.T))
    for block, heads, hidden in zip(module.blocks, kept.heads, kept.hidden, strict=True):
        _read(block.attn.qkv, block.norm1, basis, scale)
        _slice_heads(block.attn, heads, kept.head_dim)
        _write(block.attn.proj, basis, _gamma(block, 'ls1'))
        _read(block.mlp.fc1, block.norm2, basis, scale)
        assign(block.mlp.fc1, block.mlp.fc1.weight[hidden], block.mlp.fc1.bias[hidden])
        assign(block.mlp.fc2, block.mlp.fc2.weight[:, hidden], block.mlp.fc2.bias)
        _write(block.mlp.fc2, basis, _gamma(block, 'ls2'))
        block.ls1 = block.ls2 = nn.Identity()
        block.norm1, block.norm2 = _plain_norm(block.norm1, width), _plain_norm(block.norm2, width)
    _read(module.head, final_norm(module), basis, scale)
    attribute = 'norm' if not isinstance(module.norm, nn.Identity) else 'fc_norm'
    setattr(module, attribute, _plain_norm(final_norm(module), width))
    module.embed_dim = module.num_features = module.head_hidden_size = width


@torch.no_grad()
def blank(module: nn.Module, shape: Shape, classes: int) -> nn.Module:
    """`module` cut in place to `shape` with weights of no meaning, for a state dict to be loaded into. Returns it."""
    require_prunable(module)
    width, hidden, heads = shape.width, torch.arange(shape.hidden), torch.arange(shape.heads)
    blocks = len(module.blocks)
    shrink(module, Kept(torch.zeros(module.embed_dim, width - 1), (heads,) * blocks, (hidden,) * blocks, shape.head_dim))
    module.head = nn.Linear(width, classes)
    module.num_classes = classes
    return module


@functools.cache
def zero_mean_basis(width: int) -> torch.Tensor:
    """float32 [width, width - 1]: orthonormal columns, each of mean zero (the orthonormal DCT-II without its first)."""
    n = np.arange(width)
    columns = np.cos(np.pi * (n[:, None] + 0.5) * n[None, 1:] / width) * np.sqrt(2 / width)
    return torch.from_numpy(columns.astype(np.float32))


def _gamma(block: nn.Module, name: str) -> torch.Tensor | None:
    """The weights of the block's LayerScale; None where it has none."""
    return getattr(getattr(block, name, None), 'gamma', None)


def assign(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Give a layer these weights, copied, and their sizes."""
    layer.weight = nn.Parameter(weight.clone())
    layer.bias = None if bias is None else nn.Parameter(bias.clone())
    layer.out_features, layer.in_features = weight.shape


def _write(layer: nn.Linear | nn.Conv2d, basis: torch.Tensor, gamma: torch.Tensor | None = None) -> None:
    """What `layer` adds to the residual stream, in the new basis."""
    turned = basis if gamma is None else basis * gamma
    weight = torch.einsum('wd,d...->w...', turned, layer.weight)
    bias = None if layer.bias is None else turned @ layer.bias
    if isinstance(layer, nn.Linear):
        assign(layer, weight, bias)
    else:
        layer.weight, layer.bias = nn.Parameter(weight), None if bias is None else nn.Parameter(bias)
        layer.out_channels = len(weight)


def _read(layer: nn.Linear, norm: nn.LayerNorm, basis: torch.Tensor, scale: float) -> None:
    """`layer` after a LayerNorm of the residual stream in the new basis; the norm's affine part goes into it."""
    gain = torch.ones(layer.in_features) if norm.weight is None else norm.weight
    offset = torch.zeros(layer.in_features) if norm.bias is None else norm.bias
    bias = layer.weight @ offset + (0 if layer.bias is None else layer.bias)
    assign(layer, (layer.weight * gain) @ basis.T * scale, bias)


def _slice_heads(attention: nn.Module, heads: torch.Tensor, dim: int) -> None:
    """Keep `heads` and of each the `dim` leading singular directions of query with key and of value with projection."""
    qkv = torch.cat((attention.qkv.weight, attention.qkv.bias[:, None]), 1)
    qkv = qkv.view(3, attention.num_heads, attention.head_dim, -1)[:, heads]
    projection = attention.proj.weight.view(-1, attention.num_heads, attention.head_dim)[:, heads]     # [D, h, d]
    projection_bias = attention.proj.bias if attention.proj.bias is not None else torch.zeros(len(projection))
    # Attention weights sum to one, so a value's bias reaches the output whatever is attended to.
    projection_bias = projection_bias + torch.einsum('ohd,hd->o', projection, qkv[2, :, :, -1])
    queries, keys, values, outputs = [], [], [], []
    for head in range(len(heads)):
        left, right = _low_rank(qkv[0, head].T, qkv[1, head], dim)
        rescale = (dim / attention.head_dim)**0.25                      # the score is divided by sqrt(dim)
        queries.append(left.T * rescale)
        keys.append(right * rescale)
        left, right = _low_rank(projection[:, head], qkv[2, head, :, :-1], dim)
        outputs.append(left)
        values.append(torch.cat((right, torch.zeros(dim, 1)), 1))
    joined = torch.cat([torch.cat(part) for part in (queries, keys, values)])
    assign(attention.qkv, joined[:, :-1], joined[:, -1])
    assign(attention.proj, torch.cat(outputs, 1), projection_bias)
    attention.num_heads, attention.head_dim, attention.attn_dim = len(heads), dim, len(heads) * dim
    attention.scale = dim**-0.5


def _low_rank(left: torch.Tensor, right: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[a, d] @ [d, b] as [a, rank] @ [rank, b], the nearest in squared error (Eckart and Young, 1936)."""
    left_q, left_r = torch.linalg.qr(left.double())
    right_q, right_r = torch.linalg.qr(right.double().T)
    u, s, vh = torch.linalg.svd(left_r @ right_r.T)
    rank_there = min(rank, len(s))
    root = s[:rank_there].sqrt()
    first = torch.zeros(len(left), rank, dtype=torch.float64)
    second = torch.zeros(rank, right.shape[1], dtype=torch.float64)
    first[:, :rank_there] = (left_q @ u[:, :rank_there]) * root
    second[:rank_there] = root[:, None] * (right_q @ vh[:rank_there].T).T
    return first.float(), second.float()


def _plain_norm(norm: nn.LayerNorm, width: int) -> nn.LayerNorm:
    # Of the same class: timm's own LayerNorm chooses a faster kernel.
    return type(norm)(width, eps=norm.eps)
