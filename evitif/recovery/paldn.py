"""PALDN, the Packet Error Rate Adaptive Loss Detection Network, between the frozen head and the frozen tail.

The paper (EViTIF, JCST 2025, doi 10.1007/s11390-025-5171-z) names the network and its inputs, the damaged tokens and the packet
error rate. We found neither its layers nor its loss published. This is our reading, in the order of this file:

* `LearnedRecovery` normalises tokens, hides the lost ones, and lets received ones through as they are;
* `LinearCompletion` estimates each lost token by ridge regression, with a variance that says how far off it may be;
* `Paldn` corrects these estimates. It projects received tokens, and the estimates with their variance, to a narrow width, adds a
  learned position, and runs a few transformer blocks. Keys and values come from received tokens only, so nothing is derived from a
  lost one. An embedding of the packet error rate scales and shifts every norm (FiLM, Perez et al., arXiv 1709.07871; as adaLN in
  DiT, Peebles & Xie, arXiv 2212.09748). The output is a correction, and a certainty: the logarithm of the weight that the tail's
  attention and pooling give to the place. With a weight of 1 the estimate counts as a received token, with 0 the place is left out
  as by omission; the network finds what lies between;
* `OneFrame` is the same network for one frame alone, as on the bridge.

Without loss the result is the input itself, bit for bit.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from evitif.model.split import SplitModel
from evitif.recovery.methods import Recovered, Sequence
from evitif.vocabulary import RecoveryName

OCTAVES = 8                                 # of the embedding of the packet error rate
RATES = 1024                                # remembered by `OneFrame`: a rate measured over a window of datagrams takes few values


class LearnedRecovery(nn.Module):
    """A recovery with weights, for one model and cut.

    The buffers `mean` [N, D] and `scale` [D] normalise tokens. A subclass has a `name`, keeps in `options` (JSON values) what it was
    built with beside the sequence, and implements `estimate` and `multiply_adds`.
    """

    name: RecoveryName
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, sequence: Sequence, **options):
        super().__init__()
        self.sequence = sequence
        self.options = options
        self.register_buffer('mean', torch.zeros(sequence.tokens, sequence.channels))
        self.register_buffer('scale', torch.ones(sequence.channels))

    def estimate(self, normal: torch.Tensor, received: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Estimate all places.

        :param normal: normalised tokens [B, N, D], zero at lost places
        :param received: bool [B, N]
        :param packet_error_rate: [B] in 0..1
        :return: normalised estimates [B, N, D], of which the lost places' are used, and the bias [B, N] that the tail's attention adds
            to the key of a lost place, or None
        """
        raise NotImplementedError

    def multiply_adds(self) -> int:
        """Multiply-adds for one image, attention included."""
        raise NotImplementedError

    def attach(self, split: SplitModel) -> None:
        """Learn which model this is for; called before weights are loaded or trained."""

    def forward(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """Tokens [B, N, D] with anything at lost places, `received` bool [B, N], rate [B] in 0..1."""
        present = received[:, :, None]
        normal = torch.where(present, (tokens - self.mean) / self.scale, 0.0)
        estimate, bias = self.estimate(normal, received, packet_error_rate.to(normal.dtype))
        values = torch.where(present, tokens, (estimate * self.scale + self.mean).to(tokens.dtype))
        return Recovered(values, key_bias=None if bias is None else torch.where(received, 0.0, bias.float()))

    @torch.inference_mode()
    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """As `Recovery.recover`; the input itself where nothing is lost."""
        return Recovered(tokens) if bool(received.all()) else self(tokens, received, packet_error_rate)


class LinearCompletion(LearnedRecovery):
    """Ridge regression of the lost tokens on the received ones, the same for all channels. Closed form, no gradient steps.

    Each frame loses other tokens, so the regression is solved for each frame, from what is the same for all: the covariance K [N, N] of
    the places, averaged over training images and channels. With R the received places, the estimate is K[:, R] (K[R, R] + ridge I)^-1
    x[R], the best linear one in the mean square (kriging; Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, section
    2.2), and K's Schur complement is how far off it is.
    """

    name = RecoveryName.LINEAR
    covariance: torch.Tensor
    ridge: torch.Tensor

    def __init__(self, sequence: Sequence):
        super().__init__(sequence)
        self.register_buffer('covariance', torch.eye(sequence.tokens))
        self.register_buffer('ridge', torch.tensor(0.1))

    def complete(self, normal: torch.Tensor, received: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised tokens [B, N, D], zero at lost places, to estimates [B, N, D] and their variances [B, N], in units of a channel's."""
        with torch.autocast(normal.device.type, enabled=False):
            mask = received.float()
            system = self.covariance * mask[:, :, None] * mask[:, None, :]
            diagonal = self.ridge * mask + (1 - mask)
            factor = torch.linalg.cholesky(system + torch.diag_embed(diagonal))
            weights = torch.cholesky_solve(self.covariance * mask[:, :, None], factor)        # [B, R, N]
            variance = self.covariance.diagonal() - (weights * self.covariance).sum(1)
            return weights.transpose(1, 2) @ normal.float(), variance

    def estimate(self, normal: torch.Tensor, received: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The completion, without a bias."""
        return self.complete(normal, received)[0], None

    @torch.inference_mode()
    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """As `Recovery.recover`. A single frame is gathered instead of masked, which takes less time than its share of a batch."""
        if len(tokens) != 1:
            return super().recover(tokens, received, packet_error_rate)
        kept, lost = received[0].nonzero()[:, 0], (~received[0]).nonzero()[:, 0]
        if not len(kept) or not len(lost):
            return super().recover(tokens, received, packet_error_rate)
        centred = tokens[0].index_select(0, kept).float() - self.mean.index_select(0, kept)
        estimate, bias = self._estimate_lost(centred, *self._complete_lost(centred, kept, lost), kept, lost, packet_error_rate)
        values = tokens.clone()
        values[0].index_copy_(0, lost, estimate.to(tokens.dtype))
        if bias is None:
            return Recovered(values)
        key_bias = torch.zeros(received.shape, device=tokens.device)
        key_bias[0].index_copy_(0, lost, bias)
        return Recovered(values, key_bias=key_bias)

    def _complete_lost(self, centred: torch.Tensor, kept: torch.Tensor, lost: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `complete`, for one frame: the tokens [R, D] of the received places `kept` [R] to estimates [L, D] of those `lost` [L], both
        less the mean of their places, and the estimates' variances [L]."""
        rows = self.covariance.index_select(0, kept)
        system, cross = rows.index_select(1, kept), rows.index_select(1, lost)
        system.diagonal().add_(self.ridge)
        factor = torch.linalg.cholesky_ex(system)[0]
        whitened = torch.linalg.solve_triangular(factor, cross, upper=False)        # [R, L]
        weights = torch.linalg.solve_triangular(factor.T, whitened, upper=True)
        return weights.T @ centred, self.covariance.diagonal().index_select(0, lost) - whitened.square().sum(0)

    def _estimate_lost(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor,
                       lost: torch.Tensor, packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The estimates [L, D] of one frame's lost tokens, and their biases [L] or None, from what `_complete_lost` took and returned."""
        return linear + self.mean.index_select(0, lost), None

    def multiply_adds(self) -> int:
        """As `LearnedRecovery.multiply_adds`."""
        n = self.sequence.tokens
        return n**3 // 6 + n**3 + n**2 * self.sequence.channels


class Paldn(LinearCompletion):
    """The network for one model and cut.

    :param width: channels inside; a multiple of `heads`
    :param depth: transformer blocks
    :param certainty: whether it weights its estimates in the tail's attention
    :raises ValueError: the width is not a multiple of the heads
    """

    name = RecoveryName.PALDN

    def __init__(self, sequence: Sequence, width: int, depth: int = 2, heads: int = 4, mlp_ratio: float = 4.0, certainty: bool = True):
        super().__init__(sequence)
        self._one_frame: OneFrame | None = None     # of these weights, once it was needed
        self.options = {'width': width, 'depth': depth, 'heads': heads, 'mlp_ratio': mlp_ratio, 'certainty': certainty}
        self.project = nn.Linear(sequence.channels, width)
        self.position = nn.Parameter(torch.randn(1, sequence.tokens, width) * 0.02)
        self.lost = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.spread = nn.Linear(1, width)
        self.rate = nn.Sequential(nn.Linear(2 * OCTAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.restore = nn.Linear(width, sequence.channels + certainty)
        nn.init.zeros_(self.restore.weight)
        nn.init.zeros_(self.restore.bias)
        if certainty:
            nn.init.constant_(self.restore.bias[-1:], 2.0)      # begin by trusting: a weight of 0.88

    def estimate(self, normal: torch.Tensor, received: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The completion, corrected."""
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

    def multiply_adds(self) -> int:
        """As `LearnedRecovery.multiply_adds`."""
        n, d, o = self.sequence.tokens, self.sequence.channels, self.options
        block = n * o['width']**2 * (4 + 2 * o['mlp_ratio']) + 2 * n**2 * o['width']
        return int(super().multiply_adds() + 2 * n * d * o['width'] + o['depth'] * block)

    def _estimate_lost(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor,
                       lost: torch.Tensor, packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._one_frame is None or self.training:        # while it is trained, weights change
            self._one_frame = OneFrame(self)
        return self._one_frame.correct(centred, linear, variance, kept, lost, packet_error_rate)

    # Whatever changes the weights or moves them makes `_one_frame`, which holds copies, out of date.

    def train(self, mode: bool = True) -> Paldn:
        """As `nn.Module.train`."""
        self._one_frame = None
        return super().train(mode)

    def load_state_dict(self, *arguments, **options) -> NamedTuple:
        """As `nn.Module.load_state_dict`."""
        self._one_frame = None
        return super().load_state_dict(*arguments, **options)

    def _apply(self, *arguments, **options) -> Paldn:
        self._one_frame = None
        return super()._apply(*arguments, **options)


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


# --- one frame alone ---

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
    def __init__(self, network: Paldn):
        channels, width = network.sequence.channels, network.options['width']
        self.width, self.heads = width, network.options['heads']
        self.project = (network.project.weight / network.scale).T.contiguous()                     # [D, w]
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
        self.restore = (network.restore.weight[:channels] * network.scale[:, None]).T.contiguous()  # [w, D]
        self.mean = network.mean + network.restore.bias[:channels] * network.scale                 # [N, D], of the estimates
        self.certainty = (network.restore.bias[channels:].clone(), network.restore.weight[channels].clone()) \
            if network.options['certainty'] else None
        self._modulations = functools.lru_cache(RATES)(self._modulate)
        octaves = math.pi * torch.exp2(torch.arange(OCTAVES)) / 2
        self.frequencies = torch.cat((octaves, octaves)).to(self.spread)
        self.phases = torch.tensor([0.0] * OCTAVES + [math.pi / 2] * OCTAVES).to(self.spread)       # a cosine is a sine too

    def correct(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor, lost: torch.Tensor,
                packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The estimates [L, D] of one frame's lost tokens and their biases [L], or None.

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


def _layer(layer: nn.Linear | nn.LayerNorm, begin: int = 0, end: int | None = None) -> Layer:
    """Copies of a layer's weight and bias, of the outputs from `begin` to `end`."""
    return layer.weight[begin:end].detach().clone(), layer.bias[begin:end].detach().clone()
