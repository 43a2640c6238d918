"""What of a recovery is computed rather than trained: its normalisation, and linear completion whole."""

from __future__ import annotations

import torch

from evitif.recovery import LearnedRecovery, LinearCompletion
from evitif.recovery.memory import CHANCE

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3)      # tried
PAIRED = 300        # images whose pairs tell how much unrelated ones have in common


@torch.no_grad()
def fit_closed_form(network: LearnedRecovery, tokens: torch.Tensor) -> None:
    """Set mean, scale, covariance and ridge from about 1,000 training images' tokens [n, N, D], nothing lost."""
    tokens = tokens.float()
    network.mean.copy_(tokens.mean(0))
    network.scale.copy_((tokens - tokens.mean(0)).square().mean((0, 1)).sqrt().clamp(min=1e-4))
    if isinstance(network, LinearCompletion):
        normal = (tokens - network.mean) / network.scale
        network.covariance.copy_(torch.einsum('bnd,bmd->nm', normal, normal) / (len(normal) * normal.shape[2]))
        _choose_ridge(network, normal[:200])
        network.chance.fill_(chance_of(normal[:, network.sequence.prefix_tokens:]))


def chance_of(normal: torch.Tensor) -> float:
    """The correlation that 99 of 100 pairs of unrelated images stay below, at least the default; of normalised patches [n, P, D]."""
    flat = torch.nn.functional.normalize(normal[:PAIRED].flatten(1).float(), dim=1)
    pairs = (flat @ flat.T)[~torch.eye(len(flat), dtype=torch.bool, device=flat.device)]
    return max(CHANCE, float(pairs.quantile(0.99))) if len(pairs) else CHANCE


def _choose_ridge(network: LinearCompletion, normal: torch.Tensor) -> None:
    """The ridge that is best on these tokens with 60 % of them lost."""
    received = (torch.rand(normal.shape[:2], generator=torch.Generator().manual_seed(0)) > 0.6).to(normal.device)
    errors = {}
    for ridge in RIDGES:
        network.ridge.fill_(ridge)
        estimate, _ = network.complete(normal * received[:, :, None], received)
        errors[ridge] = float(((estimate - normal)[~received]).square().mean())
    network.ridge.fill_(min(errors, key=errors.__getitem__))
