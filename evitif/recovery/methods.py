"""The interface of a recovery, and the methods that need no training.

Every method leaves received tokens as they are and returns its input itself when nothing is lost. A prefix token (class, distillation,
register) is lost only with all of its copies; these methods then put in what a blank image has there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch

from evitif.model.split import SplitModel
from evitif.recovery.memory import Memory
from evitif.vocabulary import RecoveryName


@dataclass(frozen=True)
class Sequence:
    """The tokens at a cut: `prefix_tokens` (class, distillation, register), then a `grid` (rows, columns) of patches."""

    grid: tuple[int, int]
    prefix_tokens: int
    channels: int

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class Recovered:
    """Tokens [B, N, D] for the tail.

    `kept` (int64 [B, M]) names the tokens that stay in the sequence, if others are left out. `key_bias` ([B, N]) is the natural logarithm
    of the weight of a place in the attention of every block of the tail and in pooling: 0 for a received token, less for an estimate that
    deserves less trust. `tail` replaces the model's own tail.
    """

    tokens: torch.Tensor
    kept: torch.Tensor | None = None
    key_bias: torch.Tensor | None = None
    tail: SplitModel | None = None

    def logits(self, split: SplitModel) -> torch.Tensor:
        """Run the tail on this: its own, or that of the model `split`. Logits [B, classes]."""
        return (self.tail or split).tail(self.tokens, self.kept, self.key_bias)


class Recovery(Protocol):
    """Fills in, or leaves out, the tokens that lost packets carried."""

    name: RecoveryName
    takes_memory: bool      # whether it uses what is remembered

    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                memory: Memory | None = None) -> Recovered:
        """Tokens [B, N, D] with anything at lost places, `received` bool [B, N], measured loss [B] in 0..1, and what is remembered of
        earlier frames, which not every method uses."""
        ...


class _Untrained(ABC):
    """:param blank: [N, D], the tokens of a blank image (`SplitModel.blank_tokens`)"""

    name: RecoveryName
    takes_memory = False

    def __init__(self, blank: torch.Tensor, prefix_tokens: int, grid: tuple[int, int]):
        self.blank = blank
        self.prefix_tokens = prefix_tokens
        self.grid = grid

    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                memory: Memory | None = None) -> Recovered:
        """As `Recovery.recover`."""
        return Recovered(tokens) if bool(received.all()) else self._recovered(tokens, received)

    @abstractmethod
    def _recovered(self, tokens: torch.Tensor, received: torch.Tensor) -> Recovered:
        """Where something is lost."""

    def _with_patches(self, tokens: torch.Tensor, received: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """These patches, behind the prefix tokens that arrived, or a blank image's."""
        prefix = torch.where(received[:, :self.prefix_tokens, None], tokens[:, :self.prefix_tokens], self.blank[:self.prefix_tokens])
        return torch.cat((prefix, patches), 1)


class Zero(_Untrained):
    """Lost patch tokens become zero: what a naive split over UDP does."""

    name = RecoveryName.ZERO

    def _recovered(self, tokens: torch.Tensor, received: torch.Tensor) -> Recovered:
        return Recovered(self._with_patches(tokens, received, (tokens * received[:, :, None])[:, self.prefix_tokens:]))


class Mean(_Untrained):
    """Lost patch tokens become the mean of the image's received ones; a blank image's where none arrived."""

    name = RecoveryName.MEAN

    def _recovered(self, tokens: torch.Tensor, received: torch.Tensor) -> Recovered:
        patches = received[:, self.prefix_tokens:, None]
        count = patches.sum(1, keepdim=True)
        mean = (tokens[:, self.prefix_tokens:] * patches).sum(1, keepdim=True) / count.clamp(min=1)
        fill = torch.where(count > 0, mean, self.blank[self.prefix_tokens:])
        return Recovered(self._with_patches(tokens, received, torch.where(patches, tokens[:, self.prefix_tokens:], fill)))


class Omission(_Untrained):
    """Lost patch tokens are left out of the tail's sequence: works with any Vision Transformer, without training.

    All images of one batch have to have lost equally many. An image of which no patch arrived keeps a blank one, since
    a mean over no patches is undefined.
    """

    name = RecoveryName.OMISSION

    def _recovered(self, tokens: torch.Tensor, received: torch.Tensor) -> Recovered:
        kept = received.clone()
        kept[:, :self.prefix_tokens] = True
        none = ~received[:, self.prefix_tokens:].any(1)
        if bool(none.any()):
            kept[none, self.prefix_tokens] = True
            tokens = torch.where((none[:, None] & ~received)[:, :, None], self.blank, tokens)
        counts = kept.sum(1)
        if int(counts.min()) != int(counts.max()):
            raise ValueError(f'omission needs equally many received tokens in every image of a batch, got {counts.tolist()}')
        index = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)[kept].view(len(kept), -1)
        return Recovered(self._with_patches(tokens, received, tokens[:, self.prefix_tokens:]), index)


class Interpolation(_Untrained):
    """Lost patch tokens are interpolated on the grid from the received ones; a blank image's where none arrived.

    An average weighted by distance (Shepard, "A two-dimensional interpolation function for irregularly-spaced data", ACM 1968) with a
    Gaussian weight, which is normalised convolution with a binary certainty (Knutsson & Westin, CVPR 1993). The kernel's standard
    deviation at a place is `SPREAD` times the distance to the nearest received patch, so no hole is too large for it. The weights depend
    on which patches were lost, not on the tokens.
    """

    name = RecoveryName.INTERPOLATION
    SPREAD = 0.7        # the nearest patch weighs exp(-1), one twice as far away exp(-4)

    def __init__(self, blank: torch.Tensor, prefix_tokens: int, grid: tuple[int, int]):
        super().__init__(blank, prefix_tokens, grid)
        places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).to(blank)
        self._squared_distance = (places[:, None] - places).square().sum(2)      # [P, P]

    def _recovered(self, tokens: torch.Tensor, received: torch.Tensor) -> Recovered:
        present = received[:, self.prefix_tokens:]
        patches = torch.where(present[:, :, None], tokens[:, self.prefix_tokens:], 0.0)
        filled = self._weights(present).to(patches.dtype) @ patches
        filled = torch.where(present.any(1)[:, None, None], filled, self.blank[self.prefix_tokens:])
        return Recovered(self._with_patches(tokens, received, torch.where(present[:, :, None], patches, filled)))

    def _weights(self, present: torch.Tensor) -> torch.Tensor:
        """Received patches bool [B, P] to weights [B, P, P]; each row sums to 1, over received patches only."""
        squared = self._squared_distance.masked_fill(~present[:, None], torch.inf)
        nearest = squared.amin(2, keepdim=True).clamp(min=1)
        weights = (-squared / (2 * self.SPREAD**2 * nearest)).softmax(2)
        return torch.where(present.any(1)[:, None, None], weights, 0.0)          # no number where nothing arrived


class LastKnown(Omission):
    """A lost token becomes the last known one of its place; one that is not remembered is left out. Without a memory it is omission.

    On video this halves what omission costs, without training (docs/recovery.md).
    """

    name = RecoveryName.MEMORY
    takes_memory = True

    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                memory: Memory | None = None) -> Recovered:
        """As `Recovery.recover`."""
        if memory is None:
            return super().recover(tokens, received, packet_error_rate)
        filled = torch.where((memory.known & ~received)[:, :, None], memory.tokens.to(tokens.dtype), tokens)
        return super().recover(filled, received | memory.known, packet_error_rate)


METHODS: dict[str, type[_Untrained]] = {method.name: method for method in (Zero, Mean, Omission, Interpolation, LastKnown)}
