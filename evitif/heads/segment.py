"""The head that says the class of each place (`evitif train head --task segment`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from evitif.heads.decoder import PlaceDecoder
from evitif.heads.features import Features
from evitif.heads.head import Asked, Head, Reading
from evitif.heads.maps import Mask
from evitif.heads.results import Result
from evitif.vocabulary import Task


class SegmentHead(Head):
    """A light decoder on the patches of several blocks."""

    task = Task.SEGMENT
    kind = 'segmenter'

    def __init__(self, reading: Reading, labels: Sequence[str], width: int = 128, fine: int = 24, scale: int = 4):
        super().__init__(reading, labels, width=width, fine=fine, scale=scale)
        self.decoder = PlaceDecoder(reading, len(self.labels), width, fine, scale)

    def forward(self, features: Features) -> torch.Tensor:
        """Logits [B, classes, rows * scale, columns * scale]."""
        return self.decoder(features)

    @torch.inference_mode()
    def results(self, features: Features, asked: Sequence[Asked]) -> list[Result]:
        """As `Head.results`; the confidence of a patch is the mean probability of its places' classes, times the trust in its token."""
        probabilities = torch.stack([each.smoothed(row) for each, row in zip(asked, self(features).float().softmax(1), strict=True)])
        best, classes = probabilities.max(1)
        confidence = cell_confidence(best, self.decoder.scale, features.trust_map(), [each.certainty for each in asked])
        return [Mask(mask, sure) for mask, sure in zip(classes.to(torch.uint8).cpu().numpy(), confidence, strict=True)]


def cell_confidence(places: torch.Tensor, scale: int, trust: torch.Tensor | None, certainty: Sequence[float]) -> np.ndarray:
    """How sure of each place [B, h, w] in 0..1, to uint8 [B, rows, columns] of the patches, with the trust [B, rows, columns] in their
    tokens (None: all 1) and the certainty 0..1 of each image."""
    sure = torch.nn.functional.avg_pool2d(places.float()[:, None], scale)[:, 0]
    if trust is not None:
        sure = sure * trust.to(sure)
    sure = sure * torch.tensor(list(certainty), dtype=sure.dtype, device=sure.device)[:, None, None]
    return (255 * sure.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
