"""Which classes the original takes for one another, by which similar ones are put on one device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from evitif_lab.training.training_answers import TrainingAnswers


def confusions_of(answers: TrainingAnswers, classes: int) -> np.ndarray:
    """float [classes, classes]: row c is the original's mean output on training images of class c."""
    probabilities = answers.logits[:len(answers.class_ids)].softmax(1)
    total = torch.zeros(classes, classes).index_add_(0, answers.class_ids, probabilities)
    return (total / torch.bincount(answers.class_ids, minlength=classes).clamp(min=1)[:, None]).numpy()


def share_within(confusions: np.ndarray, subsets: Iterable[Sequence[int]]) -> float:
    """Of all confusion between different classes, the share between classes that are on one device."""
    between = confusions + confusions.T
    np.fill_diagonal(between, 0.0)
    together = np.zeros_like(between, dtype=bool)
    for subset in subsets:
        together[np.ix_(subset, subset)] = True
    return float(between[together].sum() / between.sum()) if between.sum() else 1.0
