"""A training whose loss, gradient or weights are not finite stops at once: from there on it would only spoil what it has."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from evitif.files import not_finite
from evitif_lab.training.checkpoint import Checkpoint

ADVICE = 'try a smaller learning rate'


class DivergenceError(ValueError):
    """A loss, a gradient or a weight is not finite; the message names the training, the value and the step."""


def require_finite_step(title: str, step: str, checkpoint: Checkpoint | None = None, **values: float) -> None:
    """Raise DivergenceError, with the `step`, unless every one of `values` (a loss, a gradient's norm) is finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise _error(f'{title}: the {name.replace("_", " ")} is {value:g} at {step}', checkpoint)


def require_finite_weights(title: str, step: str, weights: Mapping[str, torch.Tensor], checkpoint: Checkpoint | None = None) -> None:
    """The same for the weights after the `step`."""
    if (found := not_finite(dict(weights))) is not None:
        raise _error(f'{title}: after {step} {found}', checkpoint)


def _error(what: str, checkpoint: Checkpoint | None) -> DivergenceError:
    kept = checkpoint.kept if checkpoint else ''
    return DivergenceError(f'{what}: the training stops, and nothing of it is written{kept}; {ADVICE}')
