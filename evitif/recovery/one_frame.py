"""PALDN for one frame alone, as on the bridge, with as few and as small operations as the same result takes.

At batch 1 it is not the arithmetic that costs time but the number of calls. So what does not depend on the frame is worked out
once: scale, means, biases and positions are folded into the layers, the modulations of all blocks become one layer, and the
places are gathered instead of masked, so that keys and values are computed for received places only and the last block for
lost ones only.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from evitif.recovery.paldn import Paldn

OCTAVES = 8         # of the embedding of the packet error rate
RATES = 1024        # that are remembered: a rate that is measured over a window of datagrams takes few values


@dataclass(frozen=True, eq=False)
class _FoldedBlock:
    query: tuple[torch.Tensor, torch.Tensor]            # weight and bias of each layer
    key_value: tuple[torch.Tensor, torch.Tensor]
    out: tuple[torch.Tensor, torch.Tensor]
    widen: tuple[torch.Tensor, torch.Tensor]
    narrow: tuple[torch.Tensor, torch.Tensor]


class OneFrame:
    """A trained network's weights as one frame needs them; they are copies, so a network that changes needs a new one."""

    @torch.no_grad()
    def __init__(self, network: Paldn):
        channels, width = network.sequence.channels, network.options['width']
        self.width, self.heads = width, network.options['heads']
        self.project = (network.project.weight / network.scale).T.contiguous()                     # [D, w]
        self.received = network.position[0] + network.project.bias                                 # [N, w]
        self.lost = self.received + network.lost[0] + network.spread.bias
        self.spread = network.spread.weight[:, 0].clone()
        self.first, self.second = (_arrays(layer) for layer in (network.rate[0], network.rate[2]))
        modulations = [_arrays(block.modulation) for block in network.blocks]
        one = torch.cat((torch.ones(width), torch.zeros(width)) * 2).to(self.spread)               # scales are 1 + scale
        self.modulation = (torch.cat([weight for weight, _ in modulations]), torch.cat([bias + one for _, bias in modulations]))
        self.blocks = [_FoldedBlock((block.qkv.weight[:width].clone(), block.qkv.bias[:width].clone()),
                                    (block.qkv.weight[width:].clone(), block.qkv.bias[width:].clone()),
                                    _arrays(block.out), _arrays(block.mlp[0]), _arrays(block.mlp[2])) for block in network.blocks]
        self.norm = _arrays(network.norm)
        self.restore = (network.restore.weight[:channels] * network.scale[:, None]).T.contiguous()  # [w, D]
        self.mean = network.mean + network.restore.bias[:channels] * network.scale                 # [N, D], of the estimates
        self.certainty = None
        if network.options['certainty']:
            self.certainty = (network.restore.bias[channels:].clone(), network.restore.weight[channels].clone())
        self._modulations = functools.lru_cache(RATES)(self._modulate)
        octaves = math.pi * torch.exp2(torch.arange(OCTAVES)) / 2
        self.frequencies = torch.cat((octaves, octaves)).to(self.spread)
        self.phases = torch.tensor([0.0] * OCTAVES + [math.pi / 2] * OCTAVES).to(self.spread)       # a cosine is a sine too

    def correct(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor,
                lost: torch.Tensor, packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        The estimates [L, D] of one frame's lost tokens and their biases [L], or None.

        :param centred: received tokens [R, D] less the mean of their places
        :param linear: their completion [L, D], likewise, of `variance` [L]
        :param kept: the received places, int64 [R], and those `lost` [L]
        :param packet_error_rate: [1]
        """
        count = len(kept)
        places = torch.cat((self.received.index_select(0, kept), self.lost.index_select(0, lost)))
        x = places.addmm_(torch.cat((centred, linear)), self.project)
        x[count:].addr_(variance, self.spread)
        modulations = self._modulations(float(packet_error_rate))
        for index, block in enumerate(self.blocks):
            first = count if index == len(self.blocks) - 1 else 0
            x = self._block(block, x, count, first, *modulations[4 * index:4 * index + 4])
        x = functional.layer_norm(x, (self.width,), *self.norm)
        estimate = (linear + self.mean.index_select(0, lost)).addmm_(x, self.restore)
        if self.certainty is None:
            return estimate, None
        bias, weight = self.certainty
        return estimate, functional.logsigmoid(torch.addmv(bias, x, weight))

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


def _arrays(layer: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.weight.detach().clone(), layer.bias.detach().clone()
