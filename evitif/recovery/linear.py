"""Linear completion: ridge regression of the lost tokens on the received ones.

Which tokens arrive differs from frame to frame, so the regression is solved for each frame, from what is the same for
all: the covariance K [N, N] of the sequence's places, averaged over training images and channels. With R the received
places, the estimate is K[:, R] (K[R, R] + ridge I)^-1 x[R], the best linear one in the mean square (kriging; Rasmussen &
Williams, "Gaussian Processes for Machine Learning", 2006, section 2.2), and K's Schur complement is how far off it is.
"""

from __future__ import annotations

import torch

from evitif.recovery.learned import LearnedRecovery, Sequence
from evitif.recovery.methods import Recovered

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3)


class LinearCompletion(LearnedRecovery):
    """Ridge regression from received tokens, the same weights for all channels. Closed form, no gradient steps."""

    name = 'linear'

    def __init__(self, sequence: Sequence):
        super().__init__(sequence)
        self.register_buffer('covariance', torch.eye(sequence.tokens))
        self.register_buffer('ridge', torch.tensor(0.1))

    @torch.no_grad()
    def fit(self, tokens: torch.Tensor) -> None:
        """Set mean, scale and covariance; choose the ridge that is best on these tokens with 60 % of them lost."""
        super().fit(tokens)
        normal = (tokens.float() - self.mean) / self.scale
        self.covariance.copy_(torch.einsum('bnd,bmd->nm', normal, normal) / (len(normal) * normal.shape[2]))
        generator = torch.Generator().manual_seed(0)
        judged = normal[:200]
        received = (torch.rand(judged.shape[:2], generator=generator) > 0.6).to(normal.device)
        errors = {}
        for ridge in RIDGES:
            self.ridge.fill_(ridge)
            estimate, _ = self.complete(judged * received[:, :, None], received)
            errors[ridge] = float(((estimate - judged)[~received]).square().mean())
        self.ridge.fill_(min(errors, key=errors.get))

    def complete(self, normal: torch.Tensor, received: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised tokens [B, N, D], zero at lost places, to estimates [B, N, D] and their variances [B, N].

        The variance is in units of a channel's, 0 to 1 or a little more.
        """
        with torch.autocast(normal.device.type, enabled=False):
            mask = received.float()
            system = self.covariance * mask[:, :, None] * mask[:, None, :]
            diagonal = self.ridge * mask + (1 - mask)
            factor = torch.linalg.cholesky(system + torch.diag_embed(diagonal))
            weights = torch.cholesky_solve(self.covariance * mask[:, :, None], factor)        # [B, R, N]
            variance = self.covariance.diagonal() - (weights * self.covariance).sum(1)
            return weights.transpose(1, 2) @ normal.float(), variance

    def estimate(self, normal: torch.Tensor, received: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.complete(normal, received)[0], None

    @torch.inference_mode()
    def recover(self, tokens: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor) -> Recovered:
        """The Recovery interface. One frame alone, as on the bridge, costs less than its share of a batch would: what was
        received and what was lost are gathered, instead of masked."""
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
        """As `complete`, for one frame: the tokens [R, D] of the received places `kept` [R] to estimates [L, D] of those `lost`
        [L], both less the mean of their places, and the estimates' variances [L]."""
        rows = self.covariance.index_select(0, kept)
        system, cross = rows.index_select(1, kept), rows.index_select(1, lost)
        system.diagonal().add_(self.ridge)
        factor = torch.linalg.cholesky_ex(system)[0]
        whitened = torch.linalg.solve_triangular(factor, cross, upper=False)        # [R, L]
        weights = torch.linalg.solve_triangular(factor.T, whitened, upper=True)
        return weights.T @ centred, self.covariance.diagonal().index_select(0, lost) - whitened.square().sum(0)

    def _estimate_lost(self, centred: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, kept: torch.Tensor,
                       lost: torch.Tensor, packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What is made of one frame's completion, which is as `_complete_lost` takes and returns it: estimates [L, D], and biases
        [L] or None."""
        return linear + self.mean.index_select(0, lost), None

    def multiply_adds(self) -> int:
        n = self.sequence.tokens
        return n**3 // 6 + n**3 + n**2 * self.sequence.channels
