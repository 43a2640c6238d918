"""PALDN, the Packet Error Rate Adaptive Loss Detection Network, between the frozen head and the frozen tail.

The paper (EViTIF, JCST 2025, doi 10.1007/s11390-025-5171-z) names the network and its inputs, the damaged tokens and
the packet error rate; its layers and loss are not published where we could read. What is here is our reading:

* the received tokens, normalised by channel, are projected to a narrow width and get a learned position; lost
  places hold a learned token instead;
* a few narrow transformer blocks follow. Keys and values come from received tokens only, so nothing is ever derived
  from what was lost; every norm is scaled and shifted by an embedding of the packet error rate (FiLM, Perez et al.,
  arXiv 1709.07871; as adaLN in DiT, Peebles & Xie, arXiv 2212.09748);
* the output is a correction to a cheap estimate, the mean of the received tokens, and is used at lost places only.
  Received tokens pass through untouched: without loss the result is the input itself, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

from evitif.recovery.methods import Recovered


@dataclass(frozen=True)
class PaldnShape:
    """The dimensions of a PALDN; `tokens`, `prefix_tokens` and `channels` are those of the sequence at the cut."""

    tokens: int
    prefix_tokens: int
    channels: int
    width: int
    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 4.0

    def as_dict(self) -> dict:
        return asdict(self)


class Paldn(nn.Module):
    """The network for one model and cut. `mean` and `scale` [D] normalise the tokens; they are part of the weights."""

    name = 'paldn'

    def __init__(self, shape: PaldnShape):
        super().__init__()
        self.shape = shape
        w = shape.width
        self.register_buffer('mean', torch.zeros(shape.tokens, shape.channels))   # per position: prefix tokens differ
        self.register_buffer('scale', torch.ones(shape.channels))
        self.project = nn.Linear(shape.channels, w)
        self.position = nn.Parameter(torch.randn(1, shape.tokens, w) * 0.02)
        self.lost = nn.Parameter(torch.randn(1, 1, w) * 0.02)
        self.rate = nn.Sequential(nn.Linear(16, w), nn.SiLU(), nn.Linear(w, w))
        self.blocks = nn.ModuleList(_Block(w, shape.heads, shape.mlp_ratio) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(w)
        self.restore = nn.Linear(w, shape.channels)
        nn.init.zeros_(self.restore.weight)
        nn.init.zeros_(self.restore.bias)

    def forward(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> torch.Tensor:
        """Tokens [B, N, D], received bool [B, N], rate [B] in 0..1, to tokens [B, N, D] with the lost ones estimated."""
        present = received[:, :, None]
        normal = torch.where(present, (tokens - self.mean) / self.scale, 0.0)
        count = present.sum(1, keepdim=True)                                    # [B, 1, 1]
        average = normal.sum(1, keepdim=True) / count.clamp(min=1)              # [B, 1, D], the cheap estimate
        x = torch.where(present, self.project(normal), self.lost + self.project(average)) + self.position
        condition = self.rate(_embed_rate(packet_error_rate.to(x.dtype)))       # [B, w]
        attended = received | (count[:, :, 0] == 0)                             # all places where nothing arrived
        for block in self.blocks:
            x = block(x, attended, condition)
        estimate = average + self.restore(self.norm(x))
        return torch.where(present, tokens, (estimate * self.scale + self.mean).to(tokens.dtype))

    @torch.inference_mode()
    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """The Recovery interface; the input itself where nothing is lost."""
        return Recovered(tokens if bool(received.all()) else self(tokens, received, packet_error_rate))

    def multiply_adds(self) -> int:
        """Multiply-adds for one image, attention included."""
        s = self.shape
        block = s.tokens * s.width**2 * (4 + 2 * s.mlp_ratio) + 2 * s.tokens**2 * s.width
        return int(2 * s.tokens * s.channels * s.width + s.depth * block)


class _Block(nn.Module):
    """A pre-norm transformer block whose keys and values are the attended tokens', and whose norms follow the rate."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        if width % heads:
            raise ValueError(f'PALDN: width {width} is not a multiple of {heads} heads')
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor, attended: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        scale1, shift1, scale2, shift2 = self.modulation(condition)[:, None].chunk(4, dim=2)
        y = self.norm1(x) * (1 + scale1) + shift1
        query, key, value = self.qkv(y).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=attended[:, None, None, :])
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x) * (1 + scale2) + shift2)


def _embed_rate(rate: torch.Tensor) -> torch.Tensor:
    """Sines and cosines [B, 16] of a rate [B] in 0..1 at eight octaves."""
    angles = rate[:, None] * math.pi * torch.exp2(torch.arange(8, dtype=rate.dtype, device=rate.device)) / 2
    return torch.cat((angles.sin(), angles.cos()), 1)
