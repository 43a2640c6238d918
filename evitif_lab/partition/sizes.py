"""How large a prunable model is: its shape, its weights, and what it computes."""

from __future__ import annotations

from torch import nn

from evitif.partition.slicing import Shape


def shape_of(module: nn.Module) -> Shape:
    """The sizes of `module`, which has to be prunable."""
    block = module.blocks[0]
    return Shape(int(module.embed_dim), block.attn.num_heads, block.attn.head_dim, block.mlp.fc1.out_features)


def parameters_of(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds_of(module: nn.Module) -> int:
    """Multiply-adds for one image: patch embedding, the blocks' linear layers and attention, the classifier; norms left out."""
    patches = module.patch_embed.num_patches
    tokens = patches + module.num_prefix_tokens
    total = patches * module.patch_embed.proj.weight.numel() + module.head.weight.numel()
    for block in module.blocks:
        total += tokens * sum(layer.weight.numel() for layer in block.modules() if isinstance(layer, nn.Linear))
        total += 2 * tokens**2 * block.attn.attn_dim
    return total
