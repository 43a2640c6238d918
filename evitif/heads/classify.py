"""Heads that classify an image: a linear probe, and nearest class means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from evitif.heads.features import Features
from evitif.heads.head import Asked, Head, Reading
from evitif.heads.results import Classes, Result, top_classes
from evitif.vocabulary import Task


def classes_of(probabilities: torch.Tensor, asked: Asked) -> Classes:
    """What is said of one image, from its probabilities float32 [classes] on the CPU."""
    certain = asked.certainty * probabilities + (1 - asked.certainty) / len(probabilities)
    return Classes(*top_classes(asked.smoothed(certain).numpy(), asked.top_k))


class ClassifyHead(Head):
    """Logits from the pooled features of one block."""

    task = Task.CLASSIFY

    @torch.inference_mode()
    def results(self, features: Features, asked: Sequence[Asked]) -> list[Result]:
        """As `Head.results`."""
        probabilities = self(features).float().softmax(1).cpu()
        return [classes_of(row, each) for each, row in zip(asked, probabilities, strict=True)]

    def pooled(self, features: Features) -> torch.Tensor:
        """[B, F], see `Features.pooled`."""
        return features.pooled(self.reading.last_block, self.reading.final_norm)

    @staticmethod
    def width(reading: Reading) -> int:
        """F, the length of the pooled features."""
        return reading.channels * (2 if reading.prefix_tokens else 1)


class LinearProbe(ClassifyHead):
    """A linear layer on the pooled features (`evitif train head --task classify`)."""

    kind = 'linear'

    def __init__(self, reading: Reading, labels: Sequence[str]):
        super().__init__(reading, labels)
        self.linear = nn.Linear(self.width(reading), len(self.labels))

    def forward(self, features: Features) -> torch.Tensor:
        """Logits [B, classes]."""
        pooled = self.pooled(features)
        return self.linear(pooled.to(self.linear.weight.dtype))


class Prototypes(ClassifyHead):
    """The nearest class mean by the cosine, after the features' mean was taken away (`evitif train head --task prototypes`).

    Centred and L2-normalised features and nearest centroid: SimpleShot (Wang et al., arXiv 1911.04623).
    """

    kind = 'prototypes'

    def __init__(self, reading: Reading, labels: Sequence[str], temperature: float = 0.1):
        super().__init__(reading, labels, temperature=temperature)
        width = self.width(reading)
        self.register_buffer('mean', torch.zeros(width))
        self.register_buffer('prototypes', torch.zeros(len(self.labels), width))
        self.temperature = temperature

    def forward(self, features: Features) -> torch.Tensor:
        """Logits [B, classes]: cosines over the temperature."""
        unit = functional.normalize(self.pooled(features).to(self.mean.dtype) - self.mean, dim=1)
        return unit @ self.prototypes.T / self.temperature
