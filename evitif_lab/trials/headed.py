"""A cut model that answers with a head in the place of its own classifier: what measures or trains recovery takes it as any other."""

from __future__ import annotations

from dataclasses import replace

import torch

from evitif.heads import Features, Head, load_heads
from evitif.model.errors import ArtifactError
from evitif.model.split import SplitModel
from evitif.pipeline.cut_model import CutModel
from evitif.vocabulary import Task


class HeadedModel(SplitModel):
    """The same model and cut; `tail` and `whole` answer with the head's logits [B, classes]."""

    def __init__(self, split: SplitModel, head: Head):
        super().__init__(split.module, split.cut, split.input_channels)
        self.answering = head

    def tail(self, tokens: torch.Tensor, kept: torch.Tensor | None = None, key_bias: torch.Tensor | None = None) -> torch.Tensor:
        """As `SplitModel.tail`."""
        return self.answering(Features.of(self, tokens, self.answering.reading.blocks, kept, key_bias))

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """As `SplitModel.whole`."""
        return self.tail(self.head(images))


def with_head(model: CutModel, name: str) -> CutModel:
    """The model with the head in the folder `name` for its classifier.

    Raises ArtifactError where it is for another model or does not classify.
    """
    (head,) = load_heads(name, model.parameters.model, model.split, model.split.module)
    if head.task != Task.CLASSIFY:
        raise ArtifactError(f'head {name}: its task is {head.task}: expected one that classifies')
    head.to(model.placement.device).requires_grad_(False)
    return replace(model, split=HeadedModel(model.split, head), labels=head.labels, class_names=head.labels,
                   parameters=replace(model.parameters, classes=len(head.labels)))
