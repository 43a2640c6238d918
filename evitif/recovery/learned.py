"""What all trained recoveries have in common: the sequence that they are for, its normalisation, and what passes through.

A subclass computes an estimate for every place from normalised tokens; this class sees to it that nothing of a lost
token reaches it and that received tokens leave as they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from evitif.model.split import SplitModel
from evitif.recovery.methods import Recovered

MAX_WIDTH = 4096        # that is tried for a network


@dataclass(frozen=True)
class Sequence:
    """The tokens at a cut: `prefix_tokens` (class, distillation, register), then a `grid` (rows, columns) of patches."""

    grid: tuple[int, int]
    prefix_tokens: int
    channels: int

    def __post_init__(self):
        object.__setattr__(self, 'grid', tuple(self.grid))      # a list where it comes from JSON

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]

    def as_dict(self) -> dict:
        return asdict(self)


class LearnedRecovery(nn.Module):
    """A recovery with weights, for one model and cut.

    The buffers `mean` [N, D] and `scale` [D] normalise tokens; `fit` sets them from training tokens. A subclass keeps
    what it was built with beside the sequence in `options` (JSON values), names itself in `name`, and implements
    `estimate` and `multiply_adds`, and `sized` where it comes in sizes.
    """

    name: str

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
        :return: normalised estimates [B, N, D], of which the lost places' are used, and the bias [B, N] that the tail's
            attention adds to each lost place's key, or None
        """
        raise NotImplementedError

    def multiply_adds(self) -> int:
        """Multiply-adds for one image, attention included."""
        raise NotImplementedError

    @classmethod
    def sized(cls, sequence: Sequence, multiply_adds: float) -> LearnedRecovery:
        """Build the largest that takes at most so many multiply-adds for one image.

        A kind with one size is built as it is, and one of which even the smallest takes more, in its smallest size.
        """
        return cls(sequence)

    def attach(self, split: SplitModel) -> None:
        """Be told of the model that this is for, before weights are loaded or trained."""

    @torch.no_grad()
    def fit(self, tokens: torch.Tensor) -> None:
        """Set what has a closed form from lossless training tokens [n, N, D], n of 1,000 or so."""
        tokens = tokens.float()
        self.mean.copy_(tokens.mean(0))
        self.scale.copy_((tokens - tokens.mean(0)).square().mean((0, 1)).sqrt().clamp(min=1e-4))

    def forward(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """Tokens [B, N, D] with anything at lost places, `received` bool [B, N], rate [B] in 0..1."""
        present = received[:, :, None]
        normal = torch.where(present, (tokens - self.mean) / self.scale, 0.0)
        estimate, bias = self.estimate(normal, received, packet_error_rate.to(normal.dtype))
        values = torch.where(present, tokens, (estimate * self.scale + self.mean).to(tokens.dtype))
        return Recovered(values, key_bias=None if bias is None else torch.where(received, 0.0, bias.float()))

    @torch.inference_mode()
    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """The Recovery interface; the input itself where nothing is lost."""
        return Recovered(tokens) if bool(received.all()) else self(tokens, received, packet_error_rate)


def widest(kind: type[LearnedRecovery], sequence: Sequence, multiply_adds: float, widths: Iterable[int],
           **options) -> int | None:
    """The last of the ascending `widths` with which a `kind` takes at most `multiply_adds`; None if the first takes more."""
    fits = None
    for width in widths:
        with torch.device('meta'):      # counted, not filled
            if kind(sequence, width=width, **options).multiply_adds() > multiply_adds:
                break
        fits = width
    return fits
