"""A learned surrogate token at lost places.

The idea is that of "Token-Oriented Semantic Communication": the model stays frozen, and a trained vector stands in for a lost token. It is
also BEiT's mask token (Bao et al., arXiv 2106.08254), put in after block k instead of before block 1.
"""

from __future__ import annotations

import torch
from torch import nn

from evitif.recovery import LearnedRecovery, Sequence
from evitif.vocabulary import RecoveryName


class Surrogate(LearnedRecovery):
    """One learned vector for all patch places and one for each prefix place, added to the mean token of the place."""

    name = RecoveryName.SURROGATE

    def __init__(self, sequence: Sequence):
        super().__init__(sequence)
        self.surrogate = nn.Parameter(torch.zeros(sequence.prefix_tokens + 1, sequence.channels))   # the patches' last

    def estimate(self, normal: torch.Tensor, received: torch.Tensor,
                 packet_error_rate: torch.Tensor) -> tuple[torch.Tensor, None]:
        """As `LearnedRecovery.estimate`."""
        patches = self.sequence.tokens - self.sequence.prefix_tokens
        vectors = torch.cat((self.surrogate[:-1], self.surrogate[-1:].expand(patches, -1)))
        return vectors.expand(len(normal), -1, -1), None

    def multiply_adds(self) -> int:
        """None."""
        return 0
