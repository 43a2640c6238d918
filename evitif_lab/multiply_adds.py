"""What one image costs to compute, in multiply-adds. Norms are left out."""

from __future__ import annotations

from itertools import islice

from torch import nn

from evitif.model.cait import CaitTrunk
from evitif.model.split import SplitModel
from evitif.partition.fusion import FusionNetwork


def tail_multiply_adds(split: SplitModel) -> int:
    """Of the tail's blocks: the linear layers (12 N D² a block where the MLP is four times as wide) and attention (2 N² D).

    The classifier, which sees one token, does not count. CaiT adds the mixing of heads for each pair of tokens, and the class token's
    blocks.
    """
    module, tokens, channels = split.module, split.tokens, int(split.module.embed_dim)
    blocks = list(islice(module.blocks, split.cut, None))
    linear = sum(layer.weight.numel() for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear))
    total = tokens * linear + len(blocks) * 2 * tokens**2 * channels
    if isinstance(split.trunk, CaitTrunk):
        mixing = sum(layer.weight.numel() for block in blocks for layer in (block.attn.proj_l, block.attn.proj_w))
        total += (tokens**2 - tokens) * mixing + len(module.blocks_token_only) * 2 * tokens * channels * (channels + 1)
    return total


def fusion_multiply_adds(network: FusionNetwork) -> int:
    """Of a fusion network."""
    return sum(layer.weight.numel() for layer in (network.linear, network.hidden, network.output))
