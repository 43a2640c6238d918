"""PALDN, the Packet Error Rate Adaptive Loss Detection Network, between the frozen head and the frozen tail.

The paper (EViTIF, JCST 2025, doi 10.1007/s11390-025-5171-z) names the network and its inputs, the damaged tokens and
the packet error rate; its layers and loss are not published where we could read. What is here is our reading:

* the cheap estimate is linear completion (`evitif.recovery.linear`), whose variance says how far off each place may be;
* received tokens, and the cheap estimates at lost places together with their variance, are projected to a narrow width
  and get a learned position;
* a few narrow transformer blocks follow. Keys and values come from received tokens only, so nothing is ever derived
  from what was lost; every norm is scaled and shifted by an embedding of the packet error rate (FiLM, Perez et al.,
  arXiv 1709.07871; as adaLN in DiT, Peebles & Xie, arXiv 2212.09748);
* the output is a correction to the cheap estimate, and a certainty: the logarithm of a weight that the tail's attention
  and pooling give to the place. A weight of 1 takes the estimate for a token that was received, a weight of 0 leaves it out of
  the sequence as omission does; the network finds what lies between.

Received tokens pass through untouched: without loss the result is the input itself, bit for bit.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from evitif.recovery.learned import MAX_WIDTH, Sequence, widest
from evitif.recovery.linear import LinearCompletion
from evitif.recovery.one_frame import OCTAVES, OneFrame


class Paldn(LinearCompletion):
    """The network for one model and cut.

    :param width: channels inside; a multiple of `heads`
    :param depth: transformer blocks
    :param certainty: whether it weights its estimates in the tail's attention
    :raises ValueError: the width is not a multiple of the heads
    """

    name = 'paldn'

    def __init__(self, sequence: Sequence, width: int, depth: int = 2, heads: int = 4, mlp_ratio: float = 4.0,
                 certainty: bool = True):
        super().__init__(sequence)
        self._one_frame: OneFrame | None = None     # of these weights, once it was needed
        self.options = {'width': width, 'depth': depth, 'heads': heads, 'mlp_ratio': mlp_ratio, 'certainty': certainty}
        self.project = nn.Linear(sequence.channels, width)
        self.position = nn.Parameter(torch.randn(1, sequence.tokens, width) * 0.02)
        self.lost = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.spread = nn.Linear(1, width)
        self.rate = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.restore = nn.Linear(width, sequence.channels + certainty)
        nn.init.zeros_(self.restore.weight)
        nn.init.zeros_(self.restore.bias)
        if certainty:
            nn.init.constant_(self.restore.bias[-1:], 2.0)      # begin by trusting: a weight of 0.88

    @classmethod
    def sized(cls, sequence: Sequence, multiply_adds: float) -> Paldn:
        """Two blocks, at least 32 wide; else one, at least 16 wide. See `LearnedRecovery.sized`."""
        width = widest(cls, sequence, multiply_adds, range(32, MAX_WIDTH + 1, 8), depth=2)
        if width is not None:
            return cls(sequence, width, depth=2)
        return cls(sequence, widest(cls, sequence, multiply_adds, range(16, MAX_WIDTH + 1, 8), depth=1) or 16, depth=1)

    def estimate(self, normal: torch.Tensor, received: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        present = received[:, :, None]
        linear, variance = self.complete(normal, received)
        guess = self.lost + self.spread(variance[:, :, None])
        x = self.project(torch.where(present, normal, linear)) + torch.where(present, 0.0, guess) + self.position
        condition = self.rate(_embed_rate(packet_error_rate))                   # [B, w]
        attended = received | ~received.any(1, keepdim=True)                    # all places where nothing arrived
        for block in self.blocks:
            x = block(x, condition, attended[:, None, None, :])
        out, channels = self.restore(self.norm(x)).float(), self.sequence.channels
        return linear + out[..., :channels], functional.logsigmoid(out[..., channels]) if self.options['certainty'] else None

    def _estimate_lost(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor,
                       lost: torch.Tensor, packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._one_frame is None or self.training:        # while it is trained, weights change
            self._one_frame = OneFrame(self)
        return self._one_frame.correct(centred, linear, variance, kept, lost, packet_error_rate)

    def train(self, mode: bool = True) -> Paldn:
        self._one_frame = None
        return super().train(mode)

    def load_state_dict(self, *arguments, **options):
        self._one_frame = None
        return super().load_state_dict(*arguments, **options)

    def _apply(self, *arguments, **options):
        self._one_frame = None
        return super()._apply(*arguments, **options)

    def multiply_adds(self) -> int:
        n, d, o = self.sequence.tokens, self.sequence.channels, self.options
        block = n * o['width']**2 * (4 + 2 * o['mlp_ratio']) + 2 * n**2 * o['width']
        return int(super().multiply_adds() + 2 * n * d * o['width'] + o['depth'] * block)


class _Block(nn.Module):
    """A pre-norm transformer block whose keys and values are the attended tokens', and whose norms follow the rate."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        if width % heads:
            raise ValueError(f'PALDN: width {width} is not a multiple of {heads} heads')
        self.heads = heads
        self.modulation = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor, condition: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Tokens [B, N, w] to the same, with a condition [B, w]; which are attended to says `attended`, bool [B, 1, 1, N]."""
        scale1, shift1, scale2, shift2 = self.modulation(condition)[:, None].chunk(4, dim=2)
        query, key, value = self.qkv(_modulated(x, scale1, shift1)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=attended)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.mlp(_modulated(x, scale2, shift2))


def _modulated(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """LayerNorm of x [B, N, w], scaled by 1 + scale [B, 1, w] and shifted by shift [B, 1, w]."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[2:]), 1 + scale)


def _embed_rate(rate: torch.Tensor) -> torch.Tensor:
    """Sines and cosines [B, 16] of a rate [B] in 0..1 at eight octaves."""
    angles = rate[:, None] * math.pi * torch.exp2(torch.arange(OCTAVES, dtype=rate.dtype, device=rate.device)) / 2
    return torch.cat((angles.sin(), angles.cos()), 1)
