"""The head that says no class: the pooled features themselves, to be compared by their cosine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from evitif.heads.features import Features
from evitif.heads.head import Asked, Head, Reading
from evitif.heads.results import Embedding, Result
from evitif.vocabulary import Task


class EmbedHead(Head):
    """Pooled features less their mean over images like the robot's, of length 1."""

    task = Task.EMBED
    kind = 'embedding'

    def __init__(self, reading: Reading, labels: Sequence[str] = ()):
        super().__init__(reading, labels)
        self.register_buffer('mean', torch.zeros(reading.channels * (2 if reading.prefix_tokens else 1)))

    def forward(self, features: Features) -> torch.Tensor:
        """[B, D] of length 1."""
        pooled = features.pooled(self.reading.last_block, self.reading.final_norm)
        return functional.normalize(pooled.to(self.mean.dtype) - self.mean, dim=1)

    @torch.inference_mode()
    def results(self, features: Features, asked: Sequence[Asked]) -> list[Result]:
        """As `Head.results`."""
        return [Embedding(row) for row in self(features).float().cpu().numpy()]
