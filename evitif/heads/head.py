"""What every head is: a module that reads the outputs of some of the backbone's blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from evitif.heads.features import Features
from evitif.heads.results import Result
from evitif.vocabulary import Fit, Task


@dataclass(frozen=True)
class Reading:
    """What a head reads of a backbone. `blocks` count from 1, as a cut does: 12 is the output of the first twelve."""

    blocks: tuple[int, ...]
    final_norm: bool                    # the backbone's own norm behind its last block goes first
    image_size: tuple[int, int]         # (height, width) of the backbone's input, pixels
    grid: tuple[int, int]               # (rows, columns) of patches
    prefix_tokens: int
    channels: int                       # of a token
    fit: Fit | None = None              # that the training asked for; None: the backbone's own

    @property
    def last_block(self) -> int:
        """The block up to which the backbone has to be the same."""
        return max(self.blocks)


def _as_it_is(probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities


@dataclass(frozen=True)
class Asked:
    """What one image's results depend on beside the features."""

    top_k: int = 5                      # classes at most, where the task is to classify
    certainty: float = 1.0              # 0..1, of an answer of which next to nothing arrived; probabilities go towards equal ones by it
    # Probabilities float32 [classes, …] of this image, filtered over the time of its stream; asked once for each head.
    smoothed: Callable[[torch.Tensor], torch.Tensor] = _as_it_is


class Head(nn.Module, ABC):
    """A head of one `task`; `kind` names its architecture in the artifact.

    A subclass passes everything that it is built with beside reading and labels to `super().__init__` as options, JSON values, so that
    the artifact can build it again.

    :param labels: the name of each class; empty where the task has none
    """

    task: ClassVar[Task]
    kind: ClassVar[str]

    def __init__(self, reading: Reading, labels: Sequence[str] = (), **options: Any):
        super().__init__()
        self.reading, self.labels, self.options = reading, tuple(labels), options
        self.name = ''                  # of its topics: the artifact's folder

    @abstractmethod
    def forward(self, features: Features) -> torch.Tensor:
        """Of B images, whose features may be of half precision.

        classify: logits [B, classes]; embed: vectors [B, D]; segment: logits [B, classes, h, w]; depth: metres [B, h, w].
        """

    @abstractmethod
    def results(self, features: Features, asked: Sequence[Asked]) -> list[Result]:
        """What the head says of each of the B images, of which `asked` has one entry each."""
