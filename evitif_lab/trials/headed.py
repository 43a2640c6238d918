"""A cut model that answers with a head in the place of its own classifier: what measures or trains codes and recovery takes it so.

A head that says something of each place answers for each patch: [B, classes, rows, columns] in the place of [B, classes]. Of a depth these
are steps of its logarithm, and the logits those of the Laplace distribution that the head says.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.nn import functional

from evitif.heads import Features, Head, load_heads
from evitif.heads.depth import DepthHead
from evitif.heads.segment import SegmentHead
from evitif.model.errors import ArtifactError
from evitif.model.split import SplitModel
from evitif.pipeline.cut_model import CutModel
from evitif.vocabulary import Task

DISTANCES, STEPS = (0.1, 53.0), 48      # metres, and steps of the logarithm between: 14 % each

class HeadedModel(SplitModel):
    """The same model and cut; `tail` and `whole` answer with the head's logits [B, classes], or [B, classes, rows, columns]."""

    def __init__(self, split: SplitModel, head: Head):
        super().__init__(split.module, split.cut, split.input_channels)
        self.answering = head

    def tail(self, tokens: torch.Tensor, kept: torch.Tensor | None = None, key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """As `SplitModel.tail`."""
        features = Features.of(self, tokens, self.answering.reading.blocks, kept, key_bias)
        if not isinstance(self.answering, SegmentHead | DepthHead):
            return self.answering(features)
        logits = _of_steps(*self.answering.regress(features)) if isinstance(self.answering, DepthHead) else self.answering(features)
        return functional.avg_pool2d(logits.float(), self.answering.decoder.scale)

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """As `SplitModel.whole`."""
        return self.tail(self.head(images))


def _of_steps(metres: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Logits [B, steps, h, w] of distances and the expected errors of their logarithms, [B, h, w] both."""
    steps = torch.linspace(*(math.log(end) for end in DISTANCES), STEPS, device=metres.device)
    return -(metres.float().log()[:, None] - steps[None, :, None, None]).abs() / error.float()[:, None]


def with_head(model: CutModel, name: str, places: bool = False) -> CutModel:
    """The model with the head in the folder `name` for its classifier.

    :param places: a head that says masks or depth will do
    :raises ArtifactError: it is for another model or has another task
    """
    (head,) = load_heads(name, model.parameters.model, model.split, model.split.module)
    if head.task != Task.CLASSIFY and not (places and head.task in (Task.SEGMENT, Task.DEPTH)):
        more = ' or says masks or depth' if places else ''
        raise ArtifactError(f'head {name}: its task is {head.task}: expected one that classifies{more}')
    head.to(model.placement.device).requires_grad_(False)
    labels = head.labels or tuple(f'step {index}' for index in range(STEPS))
    return replace(model, split=HeadedModel(model.split, head), labels=labels, class_names=labels,
                   parameters=replace(model.parameters, classes=len(labels)))


def drawn_log_probability(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The sum over images, and places, of the log-probability of a class that is drawn from each one's logits [B, classes, …]."""
    logs = logits.float().log_softmax(1).movedim(1, -1).flatten(0, -2)
    drawn = torch.multinomial(logs.detach().exp().cpu(), 1, generator=generator).to(logs.device)
    return logs.gather(1, drawn).sum()


def divergence(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean over images, and places, of the Kullback-Leibler divergence of logits [B, classes, …] from the target's, nats."""
    return functional.kl_div(logits.float().log_softmax(1), target.float().log_softmax(1), log_target=True, reduction='none').sum(1).mean()


def cost(probabilities: torch.Tensor, classes: torch.Tensor) -> float:
    """The mean over images, and places, of what it costs to say these classes [B, …], if the probabilities [B, classes, …] are true."""
    return float((probabilities.max(1).values - probabilities.gather(1, classes[:, None])[:, 0]).mean())
