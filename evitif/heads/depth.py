"""The head that says the distance of each place in metres (`evitif train head --task depth`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from evitif.heads.decoder import PlaceDecoder
from evitif.heads.features import Features
from evitif.heads.head import Asked, Head, Reading
from evitif.heads.maps import DepthMap
from evitif.heads.results import Result
from evitif.heads.segment import cell_confidence
from evitif.vocabulary import Task


class DepthHead(Head):
    """A light decoder that regresses the logarithm of the distance, and of its own error.

    :param typical: metres, the geometric mean of the training images' distances: where the regression starts
    """

    task = Task.DEPTH
    kind = 'depth'

    def __init__(self, reading: Reading, labels: Sequence[str] = (), width: int = 128, fine: int = 24, scale: int = 2,
                 typical: float = 2.0):
        super().__init__(reading, labels, width=width, fine=fine, scale=scale, typical=typical)
        self.decoder = PlaceDecoder(reading, 2, width, fine, scale)

    def forward(self, features: Features) -> torch.Tensor:
        """Metres [B, rows * scale, columns * scale]."""
        return self.regress(features)[0]

    def regress(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Metres, and the error to be expected of their logarithm, both [B, rows * scale, columns * scale]."""
        logarithm, error = self.decoder(features).unbind(1)
        return self.options['typical'] * torch.exp(logarithm.clamp(-6, 6)), 0.2 * functional.softplus(error) + 1e-3

    @torch.inference_mode()
    def results(self, features: Features, asked: Sequence[Asked]) -> list[Result]:
        """As `Head.results`, not smoothed; confidence halves with an expected error of 25 %."""
        metres, error = self.regress(features)
        certainty = [each.certainty for each in asked]
        confidence = cell_confidence(torch.exp2(-error / 0.2231), self.decoder.scale, features.trust_map(), certainty)
        return [DepthMap.of(distance, sure) for distance, sure in zip(metres.float().cpu().numpy(), confidence, strict=True)]
