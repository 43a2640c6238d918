"""The model that a partition divides, and that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from evitif.model.build import BuiltModel, ModelSpec, build_model
from evitif.model.fingerprint import fingerprint
from evitif.model.pretrained import require_classifier
from evitif.partition.artifact import Description
from evitif.partition.slicing import require_prunable


@dataclass
class Original:
    """The model that is divided."""

    built: BuiltModel
    fingerprint: str

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.built.module

    @property
    def classes(self) -> int:
        """How many classes it knows."""
        return len(self.built.class_names)


def load_original(model: str, checkpoint: str | None = None, pretrained: bool = False) -> Original:
    """Build the model. Raises ModelError where it cannot be pruned."""
    built = build_model(ModelSpec(model, checkpoint, pretrained))
    require_classifier(built.module, model, checkpoint, pretrained)
    require_prunable(built.module)
    built.module.requires_grad_(False)
    return Original(built, fingerprint(built.module))


def model_of(description: Description) -> tuple[str, str | None, bool]:
    """Model, checkpoint and pretrained, as the partition's training was told them."""
    made = description.content['made_by']['configuration']
    return made['model'], made['checkpoint'], made['pretrained']
