"""PALDN's correction of one frame alone, as on the bridge."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from evitif.recovery.linear import Prior

if TYPE_CHECKING:
    from evitif.recovery.paldn import Correction, Paldn

OCTAVES = 8                                 # of the embedding of the packet error rate
RATES = 1024                                # remembered: a rate measured over a window of datagrams takes few values


Layer = tuple[torch.Tensor, torch.Tensor]           # weight and bias


class _FoldedBlock(NamedTuple):
    query: Layer
    key_value: Layer
    out: Layer
    widen: Layer
    narrow: Layer


class OneFrame:
    """A trained PALDN's weights, arranged for one frame: equal results (test_a_frame_alone_is_recovered_as_in_a_batch), fewer calls.

    With one frame the calls take the time, not the arithmetic. So scale, means, biases and positions are folded into the layers, one
    layer gives the modulations of all blocks, and places are gathered instead of masked: keys and values are computed for received places
    only, and in the last block queries for lost ones only. The weights are copies; when the network changes, make a new one.
    """

    @torch.no_grad()
    def __init__(self, paldn: Paldn, network: Correction):
        channels, width = paldn.sequence.channels, paldn.options['width']
        self.width, self.heads = width, paldn.options['heads']
        self.project = (network.project.weight / paldn.scale).T.contiguous()                     # [D, w]
        self.received = network.position[0] + network.project.bias                                 # [N, w]
        self.lost = self.received + network.lost[0] + network.spread.bias
        self.spread = network.spread.weight[:, 0].clone()
        self.first, self.second = _layer(network.rate[0]), _layer(network.rate[2])
        modulations = [_layer(block.modulation) for block in network.blocks]
        one = torch.cat((torch.ones(width), torch.zeros(width)) * 2).to(self.spread)               # scales are 1 + scale
        self.modulation = (torch.cat([weight for weight, _ in modulations]), torch.cat([bias + one for _, bias in modulations]))
        self.blocks = [_FoldedBlock(_layer(block.qkv, end=width), _layer(block.qkv, begin=width), _layer(block.out),
                                    _layer(block.mlp[0]), _layer(block.mlp[2])) for block in network.blocks]
        self.norm = _layer(network.norm)
        self.restore = (network.restore.weight[:channels] * paldn.scale[:, None]).T.contiguous()  # [w, D]
        self.mean = paldn.mean + network.restore.bias[:channels] * paldn.scale                 # [N, D], of the estimates
        self.certainty = (network.restore.bias[channels:].clone(), network.restore.weight[channels].clone()) \
            if network.certainty else None
        self.recall = None if network.recall is None else ((network.recall.weight[:, :channels] / paldn.scale).T.contiguous(),     # [D, w]
                                                           network.recall.weight[:, channels].clone())
        self._modulations = functools.lru_cache(RATES)(self._modulate)
        octaves = math.pi * torch.exp2(torch.arange(OCTAVES)) / 2
        self.frequencies = torch.cat((octaves, octaves)).to(self.spread)
        self.phases = torch.tensor([0.0] * OCTAVES + [math.pi / 2] * OCTAVES).to(self.spread)       # a cosine is a sine too

    def correct(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor, lost: torch.Tensor,
                packet_error_rate: torch.Tensor, prior: Prior | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The estimates [L, D] of one frame's lost tokens and their biases [L], or None.

        :param centred: received tokens [R, D] less the mean of their places
        :param linear: their completion [L, D], likewise, of `variance` [L]
        :param kept: the received places, int64 [R], and those `lost` [L]
        :param packet_error_rate: [1]
        :param prior: what is remembered of all places, likewise, for a network that has a memory
        """
        count, order = len(kept), None
        if prior is not None:       # what is attended to comes first
            known = prior.trust.index_select(0, lost) > 0
            order = torch.cat((known.nonzero()[:, 0], (~known).nonzero()[:, 0]))
            lost, linear, variance = (values.index_select(0, order) for values in (lost, linear, variance))
            count += int(known.sum())
        places = torch.cat((self.received.index_select(0, kept), self.lost.index_select(0, lost)))
        x = places.addmm_(torch.cat((centred, linear)), self.project)
        x[len(kept):].addr_(variance, self.spread)
        if prior is not None and self.recall is not None:
            sequence = torch.cat((kept, lost))
            x.addmm_(prior.tokens.index_select(0, sequence), self.recall[0]).addr_(prior.trust.index_select(0, sequence), self.recall[1])
        modulations = self._modulations(float(packet_error_rate))
        for index, block in enumerate(self.blocks):
            first = len(kept) if index == len(self.blocks) - 1 else 0
            x = self._block(block, x, count, first, *modulations[4 * index:4 * index + 4])
        x = functional.layer_norm(x, (self.width,), *self.norm)
        estimate = (linear + self.mean.index_select(0, lost)).addmm_(x, self.restore)
        certainty = None
        if self.certainty is not None:
            bias, weight = self.certainty
            certainty = functional.logsigmoid(torch.addmv(bias, x, weight))
        if order is None:
            return estimate, certainty
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return estimate.index_select(0, back), None if certainty is None else certainty.index_select(0, back)

    def _modulate(self, packet_error_rate: float) -> tuple[torch.Tensor, ...]:
        """Scale, shift, scale and shift [w] of each block at a rate in 0..1."""
        rate = functional.linear(torch.sin(self.frequencies * packet_error_rate + self.phases), *self.first)
        return functional.linear(functional.linear(functional.silu(rate), *self.second), *self.modulation).split(self.width)

    def _block(self, block: _FoldedBlock, x: torch.Tensor, count: int, first: int, scale1: torch.Tensor, shift1: torch.Tensor,
               scale2: torch.Tensor, shift2: torch.Tensor) -> torch.Tensor:
        """x [N, w], of which the first `count` are attended to, to [N - first, w]."""
        shape, width = (1, -1, self.heads, self.width // self.heads), (self.width,)
        y = functional.layer_norm(x, width, scale1, shift1)
        query = functional.linear(y[first:], *block.query).view(shape).transpose(1, 2)
        key, value = functional.linear(y[:count], *block.key_value).split(self.width, 1)
        attended = functional.scaled_dot_product_attention(query, key.unflatten(1, shape[2:])[None].transpose(1, 2),
                                                           value.unflatten(1, shape[2:])[None].transpose(1, 2))
        x = functional.linear(attended.transpose(1, 2).reshape(-1, self.width), *block.out).add_(x[first:])
        hidden = functional.gelu(functional.linear(functional.layer_norm(x, width, scale2, shift2), *block.widen))
        return functional.linear(hidden, *block.narrow).add_(x)


def _layer(layer: nn.Linear | nn.LayerNorm, begin: int = 0, end: int | None = None) -> Layer:
    """Copies of a layer's weight and bias, of the outputs from `begin` to `end`."""
    return layer.weight[begin:end].detach().clone(), layer.bias[begin:end].detach().clone()
