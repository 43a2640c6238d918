"""Convolutional networks from super-resolution over the grid of tokens, for comparison.

Both see the normalised tokens as one plane for each channel, with zeros at lost places, and one more plane that is 1 where a token was
received. Padding keeps the size of the grid. Untrained, they estimate zero, which is the mean token of the place. A prefix token has no
place on the grid: a lost one becomes a learned vector.
"""

from __future__ import annotations

import torch
from torch import nn

from evitif.recovery import LearnedRecovery, Sequence
from evitif.vocabulary import RecoveryName


class _Convolution(LearnedRecovery):
    """What both have in common; the network is `planes`."""

    def __init__(self, sequence: Sequence, **options):
        super().__init__(sequence, **options)
        self.prefix = nn.Parameter(torch.zeros(sequence.prefix_tokens, sequence.channels))

    def planes(self, planes: torch.Tensor) -> torch.Tensor:
        """Planes [B, D + 1, rows, columns] to [B, D, rows, columns]."""
        raise NotImplementedError

    def estimate(self, normal: torch.Tensor, received: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, None]:
        """As `LearnedRecovery.estimate`."""
        prefix_tokens, grid = self.sequence.prefix_tokens, self.sequence.grid
        tokens = torch.cat((normal, received[:, :, None].to(normal.dtype)), 2)[:, prefix_tokens:]
        patches = self.planes(tokens.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
        return torch.cat((self.prefix.expand(len(normal), -1, -1), patches.to(self.prefix.dtype)), 1), None

    def multiply_adds(self) -> int:
        """As if every window lay wholly on the grid."""
        weights = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Conv2d))
        return weights * self.sequence.grid[0] * self.sequence.grid[1]


class Srcnn(_Convolution):
    """SRCNN (Dong et al., arXiv 1501.00092): layers of 9x9, 1x1 and 5x5 with ReLU between.

    :param width: planes after the first layer (64 in the paper); half as many follow the second, as in the paper. A token has hundreds
        of planes where an image has three, which makes a 9x9 layer costly: at PALDN's multiply-adds the network is far narrower than
        the paper's.
    """

    name = RecoveryName.SRCNN

    def __init__(self, sequence: Sequence, width: int = 64):
        super().__init__(sequence, width=width)
        half = max(1, width // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(sequence.channels + 1, width, 9, padding='same'), nn.ReLU(),
            nn.Conv2d(width, half, 1), nn.ReLU(),
            _from_zero(nn.Conv2d(half, sequence.channels, 5, padding='same')))

    def planes(self, planes: torch.Tensor) -> torch.Tensor:
        """As `_Convolution.planes`."""
        return self.layers(planes)


class Edsr(_Convolution):
    """EDSR (Lim et al., arXiv 1707.02921) without its upsampling: residual blocks of 3x3 layers without batch norm.

    As in the paper a layer closes the body, and a skip goes from the first layer's output past the body.

    :param width: planes inside
    :param blocks: residual blocks
    """

    name = RecoveryName.EDSR

    def __init__(self, sequence: Sequence, width: int = 64, blocks: int = 4):
        super().__init__(sequence, width=width, blocks=blocks)
        self.first = _conv3(sequence.channels + 1, width)
        self.body = nn.Sequential(*(_ResidualBlock(width) for _ in range(blocks)), _conv3(width, width))
        self.last = _from_zero(_conv3(width, sequence.channels))

    def planes(self, planes: torch.Tensor) -> torch.Tensor:
        """As `_Convolution.planes`."""
        x = self.first(planes)
        return self.last(x + self.body(x))


class _ResidualBlock(nn.Module):
    """Layer, ReLU, layer, added to the input at a tenth."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(_conv3(width, width), nn.ReLU(), _conv3(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * self.layers(x)


def _conv3(planes: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(planes, width, 3, padding='same')


def _from_zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
