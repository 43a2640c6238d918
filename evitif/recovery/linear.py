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
        if len(tokens) != 1 or not bool(received.any()) or bool(received.all()):
            return super().recover(tokens, received, packet_error_rate)
        count = int(received.sum())
        order = received[0].byte().argsort(descending=True, stable=True)        # the received places, then the lost ones
        lost, mean = order[count:], self.mean[order]
        normal = (tokens[0, order[:count]].float() - mean[:count]) / self.scale
        linear, variance = self._complete_lost(normal, self.covariance[order][:, order])
        estimate, bias = self._correct(normal, linear, variance, order, packet_error_rate.to(normal.dtype))
        values = tokens.clone()
        values[0, lost] = torch.addcmul(mean[count:], estimate, self.scale).to(tokens.dtype)
        if bias is None:
            return Recovered(values)
        key_bias = torch.zeros(received.shape, device=tokens.device)
        key_bias[0, lost] = bias
        return Recovered(values, key_bias=key_bias)

    def _complete_lost(self, normal: torch.Tensor, covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `complete`, for one frame: normalised received tokens [R, D] and the covariance [N, N] of all places, the
        received ones first, to estimates [L, D] and variances [L] of the lost ones."""
        count = len(normal)
        system, cross = covariance[:count, :count], covariance[:count, count:]
        variance = covariance.diagonal()[count:]
        system.diagonal().add_(self.ridge)
        factor, _ = torch.linalg.cholesky_ex(system)
        weights = torch.cholesky_solve(cross, factor)                        # [R, L]
        return weights.T @ normal, variance - (weights * cross).sum(0)

    def _correct(self, normal: torch.Tensor, linear: torch.Tensor, variance: torch.Tensor, order: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What becomes of the completion of one frame: normalised estimates [L, D], and biases [L] or None. `order` [N] are
        the places, the received ones first."""
        return linear, None

    def multiply_adds(self) -> int:
        n = self.sequence.tokens
        return n**3 // 6 + n**3 + n**2 * self.sequence.channels
