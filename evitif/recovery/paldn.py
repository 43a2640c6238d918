"""PALDN, the Packet Error Rate Adaptive Loss Detection Network, between the frozen head and the frozen tail.

The paper (EViTIF, JCST 2025, doi 10.1007/s11390-025-5171-z) names the network and its inputs, the damaged tokens and the packet
error rate. We found neither its layers nor its loss published. This is our reading:

* the linear completion (`linear.py`) estimates each lost token, with a variance that says how far off it may be;
* a `Correction` corrects these estimates. It projects received tokens, and the estimates with their variance, to a narrow width, adds a
  learned position, and runs a few transformer blocks. Keys and values come from received tokens only, so nothing is derived from a
  lost one. An embedding of the packet error rate scales and shifts every norm (FiLM, Perez et al., arXiv 1709.07871; as adaLN in
  DiT, Peebles & Xie, arXiv 2212.09748). The output is a correction, and a certainty: the logarithm of the weight that the tail's
  attention and pooling give to the place. With a weight of 1 the estimate counts as a received token, with 0 the place is left out
  as by omission; the network finds what lies between;
* where the places' last tokens are remembered, another `Correction` does it, which sees them and their trust too, and attends to them.
  So a frame without a memory is recovered as if there were none;
* `OneFrame` (`one_frame.py`) is a `Correction` for one frame alone, as on the bridge.

Without loss the result is the input itself, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from evitif.recovery.linear import LinearCompletion, Prior
from evitif.recovery.methods import Sequence
from evitif.recovery.one_frame import OneFrame
from evitif.vocabulary import RecoveryName

OCTAVES = 8                                 # of the embedding of the packet error rate


class Paldn(LinearCompletion):
    """The network for one model and cut.

    :param width: channels inside; a multiple of `heads`
    :param depth: transformer blocks
    :param certainty: whether it weights its estimates in the tail's attention
    :param memory: whether it has a correction for frames with a memory; without, tokens that are remembered are only completed linearly
    :raises ValueError: the width is not a multiple of the heads
    """

    name = RecoveryName.PALDN

    def __init__(self, sequence: Sequence, width: int, depth: int = 2, heads: int = 4, mlp_ratio: float = 4.0, certainty: bool = True,
                 memory: bool = False):
        super().__init__(sequence)
        self._one_frame: dict[bool, OneFrame] = {}      # of these weights, once it was needed; without and with a memory
        self.options = {'width': width, 'depth': depth, 'heads': heads, 'mlp_ratio': mlp_ratio, 'certainty': certainty, 'memory': memory}
        self.still = Correction(sequence, width, depth, heads, mlp_ratio, certainty, memory=False)
        self.moving = Correction(sequence, width, depth, heads, mlp_ratio, certainty, memory=True) if memory else None

    def learn_to_remember(self) -> Paldn:
        """The same with a correction for frames with a memory. It begins with what the one that there is sees in the tokens, and corrects
        nothing: with a memory the completion is off in another way."""
        network = Paldn(self.sequence, **{**self.options, 'memory': True}).to(self.mean.device)
        own = self.state_dict()
        network.load_state_dict({name: own.get(name, own.get(name.replace('moving.', 'still.', 1), tensor))
                                 for name, tensor in network.state_dict().items()})
        assert network.moving is not None
        network.moving.begin(trust=4.0)
        return network

    def estimate(self, normal: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                 prior: Prior | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The completion, corrected."""
        linear, variance = self.complete(normal, received, prior)
        if prior is None:
            return self.still(normal, linear, variance, received, packet_error_rate)
        if self.moving is not None:
            return self.moving(normal, linear, variance, received, packet_error_rate, prior)
        known = prior.trust > 0
        if bool((received | known).all()):
            return linear, None
        estimate, bias = self.still(normal, *self.complete(normal, received), received, packet_error_rate)
        return torch.where(known[:, :, None], linear, estimate), None if bias is None else torch.where(known, 0.0, bias)

    def multiply_adds(self) -> int:
        """As `LearnedRecovery.multiply_adds`."""
        n, d, o = self.sequence.tokens, self.sequence.channels, self.options
        block = n * o['width']**2 * (4 + 2 * o['mlp_ratio']) + 2 * n**2 * o['width']
        return int(super().multiply_adds() + (3 if o['memory'] else 2) * n * d * o['width'] + o['depth'] * block)

    def _estimate_lost(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor, lost: torch.Tensor,
                       packet_error_rate: torch.Tensor, prior: Prior | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        if prior is None or self.moving is not None:
            return self._alone(prior is not None).correct(centred, linear, variance, kept, lost, packet_error_rate, prior)
        estimate, bias = super()._estimate_lost(centred, linear, variance, kept, lost, packet_error_rate, prior)
        unknown = (prior.trust.index_select(0, lost) == 0).nonzero()[:, 0]
        if not len(unknown):
            return estimate, bias
        guessed, bias = self._alone(False).correct(centred, *self._complete_lost(centred, kept, lost, None), kept, lost, packet_error_rate,
                                                   None)
        known = prior.trust.index_select(0, lost) > 0
        return torch.where(known[:, None], estimate, guessed), None if bias is None else torch.where(known, 0.0, bias)

    def _alone(self, remembers: bool) -> OneFrame:
        if self.training:                       # weights change
            self._one_frame = {}
        if remembers not in self._one_frame:
            self._one_frame[remembers] = OneFrame(self, self.moving if remembers else self.still)
        return self._one_frame[remembers]

    # Whatever changes the weights or moves them makes `_one_frame`, which holds copies, out of date.

    def train(self, mode: bool = True) -> Paldn:
        """As `nn.Module.train`."""
        self._one_frame = {}
        return super().train(mode)

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments, **options) -> NamedTuple:
        """As `nn.Module.load_state_dict`; artifacts from before there was a memory name the layers of `still` without it."""
        self._one_frame = {}
        own = self.state_dict()
        return super().load_state_dict({name if name in own else f'still.{name}': tensor for name, tensor in state_dict.items()},
                                       *arguments, **options)

    def _apply(self, *arguments, **options) -> Paldn:
        self._one_frame = {}
        return super()._apply(*arguments, **options)


class Correction(nn.Module):
    """What PALDN learns. The arguments are those of `Paldn`; `memory`: it sees what is remembered."""

    def __init__(self, sequence: Sequence, width: int, depth: int, heads: int, mlp_ratio: float, certainty: bool, memory: bool):
        super().__init__()
        self.channels, self.certainty = sequence.channels, certainty
        self.project = nn.Linear(sequence.channels, width)
        self.position = nn.Parameter(torch.randn(1, sequence.tokens, width) * 0.02)
        self.lost = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.spread = nn.Linear(1, width)
        self.rate = nn.Sequential(nn.Linear(2 * OCTAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.restore = nn.Linear(width, sequence.channels + certainty)
        self.begin(trust=2.0)
        self.recall = nn.Linear(sequence.channels + 1, width, bias=False) if memory else None
        if self.recall is not None:
            nn.init.zeros_(self.recall.weight)

    def begin(self, trust: float) -> None:
        """Correct nothing yet, and give each estimate the weight of a `trust` of 2 (0.88), 4 (0.98), …"""
        nn.init.zeros_(self.restore.weight)
        nn.init.zeros_(self.restore.bias)
        if self.certainty:
            nn.init.constant_(self.restore.bias[-1:], trust)

    def forward(self, normal: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, received: torch.Tensor,
                packet_error_rate: torch.Tensor, prior: Prior | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `LearnedRecovery.estimate`, from the completion [B, N, D] and its variance [B, N]."""
        present = received[:, :, None]
        guess = self.lost + self.spread(variance[:, :, None])
        x = self.project(torch.where(present, normal, linear)) + torch.where(present, 0.0, guess) + self.position
        known = received
        if prior is not None and self.recall is not None:
            x = x + self.recall(torch.cat((prior.tokens.to(x.dtype), prior.trust[:, :, None].to(x.dtype)), 2))
            known = known | (prior.trust > 0)
        condition = self.rate(_embed_rate(packet_error_rate))                   # [B, w]
        attended = known | ~known.any(1, keepdim=True)                          # all places where nothing is known
        for block in self.blocks:
            x = block(x, condition, attended[:, None, None, :])
        out = self.restore(self.norm(x)).float()
        return linear + out[..., :self.channels], functional.logsigmoid(out[..., self.channels]) if self.certainty else None


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
        """Tokens [B, N, w] to the same, under a condition [B, w], attending to those that `attended`, bool [B, 1, 1, N], names."""
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
