"""What every recovery with weights shares, and linear completion: the best linear estimate of what was lost, over places and time.

* `LearnedRecovery` normalises tokens, hides the lost ones, and lets received ones through as they are;
* `LinearCompletion` estimates each lost token by ridge regression on the received ones, and where the places' last known tokens are
  remembered (`evitif.recovery.memory`) on these, with a variance that says how far off it may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from evitif.model.regrid import Grid, covariance_resampled, places_resampled
from evitif.model.split import SplitModel
from evitif.recovery.memory import CHANCE, Memory
from evitif.recovery.methods import Recovered, Sequence
from evitif.vocabulary import RecoveryName

MOST_TOKENS = 2048          # of a grid that a recovery is taken to: each frame solves a system of so many unknowns
LEAST = 1e-4                # of a channel's variance, so that tokens known without doubt leave a system that can be solved


class Prior(NamedTuple):
    """What memory says of the places before the frame is looked at: last known tokens [B, N, D], normalised, zero where none is known, and
    their `trust` [B, N], the correlation with the token of today (`evitif.recovery.memory`)."""

    tokens: torch.Tensor
    trust: torch.Tensor

    def of_frame(self, index: int) -> Prior:
        """The same of one frame, [N, D] and [N]."""
        return Prior(self.tokens[index], self.trust[index])


class LearnedRecovery(nn.Module):
    """A recovery with weights, for one model and cut.

    The buffers `mean` [N, D] and `scale` [D] normalise tokens. A subclass has a `name`, keeps in `options` (JSON values) what it was
    built with beside the sequence, and implements `estimate` and `multiply_adds`; one with `takes_memory` takes a `prior` in `estimate`.
    """

    name: RecoveryName
    takes_memory = False
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

    def regridded(self, grid: Grid) -> LearnedRecovery:
        """The same for the model with another grid of patches. Raises ValueError where its weights are those of one grid."""
        raise ValueError(f'{self.name} was made for {self.sequence.grid[0]}x{self.sequence.grid[1]} patches and cannot be taken to '
                         f'{grid[0]}x{grid[1]}')

    def attach(self, split: SplitModel) -> None:
        """Learn which model this is for; called before weights are loaded or trained."""

    def forward(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                memory: Memory | None = None) -> Recovered:
        """Tokens [B, N, D] with anything at lost places, `received` bool [B, N], rate [B] in 0..1, and what is remembered of the places."""
        present = received[:, :, None]
        normal = torch.where(present, (tokens - self.mean) / self.scale, 0.0)
        prior = {} if memory is None else {'prior': self.prior_of(memory)}
        estimate, bias = self.estimate(normal, received, packet_error_rate.to(normal.dtype), **prior)
        values = torch.where(present, tokens, (estimate * self.scale + self.mean).to(tokens.dtype))
        return Recovered(values, key_bias=None if bias is None else torch.where(received, 0.0, bias.float()))

    def prior_of(self, memory: Memory) -> Prior:
        """What is remembered, normalised as tokens are."""
        trust = memory.trust
        return Prior(torch.where(trust[:, :, None] > 0, (memory.tokens - self.mean) / self.scale, 0.0), trust)

    @torch.inference_mode()
    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                memory: Memory | None = None) -> Recovered:
        """As `Recovery.recover`; the input itself where nothing is lost."""
        remembered = () if memory is None or not self.takes_memory else (memory,)
        return Recovered(tokens) if bool(received.all()) else self(tokens, received, packet_error_rate, *remembered)


class LinearCompletion(LearnedRecovery):
    """Ridge regression of the lost tokens on the received ones, the same for all channels. Closed form, no gradient steps.

    Each frame loses other tokens, so the regression is solved for each frame, from what is the same for all: the covariance K [N, N] of
    the places, averaged over training images and channels. With R the received places, the estimate is K[:, R] (K[R, R] + ridge I)^-1
    x[R], the best linear one in the mean square (kriging; Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, section
    2.2), and K's Schur complement is how far off it is.

    With a memory it is kriging in space and time: what is estimated are the innovations x - r m, with m the remembered token of the place
    and r its trust. If the field decays in time as an AR(1) process does, those of two places p and q have the covariance K[p, q]
    min(v_p, v_q), v = 1 - r², since what changed before the older token was seen does not count for the younger. Small innovations are
    less alike in space than tokens are: `NUGGET` of the covariance between places goes as they become small, and none where nothing is
    remembered. An estimate begins with r ** `SHRINK` m: r m is nearer in the mean square, but a token shrunk to its mean is unlike any
    that the tail knows.
    """

    name = RecoveryName.LINEAR
    takes_memory = True
    NUGGET, SHRINK = 0.8, 0.25
    covariance: torch.Tensor
    ridge: torch.Tensor
    chance: torch.Tensor

    def __init__(self, sequence: Sequence):
        super().__init__(sequence)
        self.register_buffer('covariance', torch.eye(sequence.tokens))
        self.register_buffer('ridge', torch.tensor(0.1))
        self.register_buffer('chance', torch.tensor(CHANCE))        # correlation that unrelated images may have (`StreamMemory`)

    def regridded(self, grid: Grid) -> LinearCompletion:
        """The same for another grid (`evitif.model.regrid`). Raises ValueError where that has too many patches."""
        old, sequence = self.sequence.grid, replace(self.sequence, grid=grid)
        if sequence.tokens > MOST_TOKENS:
            raise ValueError(f'{self.name} is taken to at most {MOST_TOKENS} tokens, not to {sequence.tokens}')
        found = type(self)(sequence, **self.options).to(self.mean.device)
        state = {}
        for name, tensor in self.state_dict().items():
            if name == 'covariance':
                tensor = torch.from_numpy(covariance_resampled(tensor.cpu().numpy(), old, grid))
            elif name == 'mean' or name.endswith('position'):
                tensor = torch.from_numpy(places_resampled(tensor.cpu().numpy().reshape(self.sequence.tokens, -1), old, grid)).view(
                    *tensor.shape[:-2], sequence.tokens, -1)
            state[name] = tensor
        found.load_state_dict(state)
        return found.train(self.training)

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments, **options) -> NamedTuple:
        """As `nn.Module.load_state_dict`; of artifacts from before there was a memory it is not known what
        unrelated images have in common: it may be anything."""
        return super().load_state_dict({'chance': torch.tensor(1.0), **state_dict}, *arguments, **options)

    def complete(self, normal: torch.Tensor, received: torch.Tensor, prior: Prior | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised tokens [B, N, D], zero at lost places, to estimates [B, N, D] and their variances [B, N], in units of a channel's."""
        with torch.autocast(normal.device.type, enabled=False):
            mask, covariance, ridge = received.float(), self.covariance, self.ridge
            if prior is not None:
                variance = 1 - prior.trust.float().square()
                covariance = self._of_innovations(variance[:, :, None], variance[:, None, :], covariance)
                covariance = torch.where(torch.eye(len(self.covariance), dtype=torch.bool, device=mask.device),
                                         self.covariance * variance[:, :, None], covariance)
                ridge = self.ridge * variance + LEAST
            system = covariance * mask[:, :, None] * mask[:, None, :]
            diagonal = ridge * mask + (1 - mask)
            factor = torch.linalg.cholesky(system + torch.diag_embed(diagonal))
            weights = torch.cholesky_solve(covariance * mask[:, :, None], factor)        # [B, R, N]
            unknown = covariance.diagonal(dim1=-2, dim2=-1) - (weights * covariance).sum(1)
            if prior is None:
                return weights.transpose(1, 2) @ normal.float(), unknown
            innovations = torch.where(received[:, :, None], normal.float() - prior.trust[:, :, None] * prior.tokens.float(), 0.0)
            return prior.trust[:, :, None]**self.SHRINK * prior.tokens.float() + weights.transpose(1, 2) @ innovations, unknown

    def _of_innovations(self, first: torch.Tensor, second: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
        """The covariance of innovations between two sets of other places, from the shares of the energy that are new."""
        least = torch.minimum(first, second)
        return covariance * least * (1 - self.NUGGET * (1 - least))

    def estimate(self, normal: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                 prior: Prior | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The completion, without a bias."""
        return self.complete(normal, received, prior)[0], None

    @torch.inference_mode()
    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor,
                memory: Memory | None = None) -> Recovered:
        """As `Recovery.recover`. A single frame is gathered instead of masked, which takes less time than its share of a batch."""
        if len(tokens) != 1:
            return super().recover(tokens, received, packet_error_rate, memory)
        kept, lost = received[0].nonzero()[:, 0], (~received[0]).nonzero()[:, 0]
        if not len(kept) or not len(lost):
            return super().recover(tokens, received, packet_error_rate, memory)
        centred = tokens[0].index_select(0, kept).float() - self.mean.index_select(0, kept)
        prior = None if memory is None else Prior(torch.where(memory.trust[0, :, None] > 0, memory.tokens[0] - self.mean, 0.0),
                                                  memory.trust[0])
        linear, variance = self._complete_lost(centred, kept, lost, prior)
        estimate, bias = self._estimate_lost(centred, linear, variance, kept, lost, packet_error_rate, prior)
        values = tokens.clone()
        values[0].index_copy_(0, lost, estimate.to(tokens.dtype))
        if bias is None:
            return Recovered(values)
        key_bias = torch.zeros(received.shape, device=tokens.device)
        key_bias[0].index_copy_(0, lost, bias)
        return Recovered(values, key_bias=key_bias)

    def _complete_lost(self, centred: torch.Tensor, kept: torch.Tensor, lost: torch.Tensor,
                       prior: Prior | None) -> tuple[torch.Tensor, torch.Tensor]:
        """As `complete`, for one frame: the tokens [R, D] of the received places `kept` [R] to estimates [L, D] of those `lost` [L], both
        less the mean of their places, and the estimates' variances [L]. The prior's tokens are less their mean, too."""
        rows = self.covariance.index_select(0, kept)
        system, cross, unknown = rows.index_select(1, kept), rows.index_select(1, lost), self.covariance.diagonal().index_select(0, lost)
        ridge = self.ridge
        if prior is not None:
            new = 1 - prior.trust.square()
            new_kept, new_lost = new.index_select(0, kept), new.index_select(0, lost)
            diagonal = system.diagonal() * new_kept
            system = self._of_innovations(new_kept[:, None], new_kept, system)
            system.diagonal().copy_(diagonal)
            cross, unknown = self._of_innovations(new_kept[:, None], new_lost, cross), unknown * new_lost
            ridge = ridge * new_kept + LEAST
            centred = centred - prior.trust.index_select(0, kept)[:, None] * prior.tokens.index_select(0, kept)
        system.diagonal().add_(ridge)
        factor = torch.linalg.cholesky_ex(system)[0]
        whitened = torch.linalg.solve_triangular(factor, cross, upper=False)        # [R, L]
        weights = torch.linalg.solve_triangular(factor.T, whitened, upper=True)
        estimate, variance = weights.T @ centred, unknown - whitened.square().sum(0)
        if prior is not None:
            estimate.add_(prior.tokens.index_select(0, lost) * prior.trust.index_select(0, lost)[:, None]**self.SHRINK)
        return estimate, variance

    def _estimate_lost(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor, lost: torch.Tensor,
                       packet_error_rate: torch.Tensor, prior: Prior | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The estimates [L, D] of one frame's lost tokens, and their biases [L] or None, from what `_complete_lost` took and returned."""
        return linear + self.mean.index_select(0, lost), None

    def multiply_adds(self) -> int:
        """As `LearnedRecovery.multiply_adds`."""
        n = self.sequence.tokens
        return n**3 // 6 + n**3 + n**2 * self.sequence.channels
