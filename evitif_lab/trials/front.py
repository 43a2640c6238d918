"""Accuracy against what it costs, for each way of choosing how many images are answered by the robot itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from evitif_lab.trials.selection import Trial, fused_classes
from evitif_lab.trials.wire_bytes import SelectedFrames, answer_bytes

PRIOR_WEIGHTS = (0.0, 0.25, 0.5, 0.75)
# Of the images, that the robot asks about.
SHARES_SENT = (1.0, 0.8, 0.6, 0.5, 0.45, 0.4, 0.375, 0.35, 0.325, 0.3, 0.275, 0.25, 0.2, 0.1)


@dataclass(frozen=True)
class Point:
    """One setting and what it gives, as shares and mean bytes of UDP payload for an image (answered alone: none)."""

    delta: float
    quantisation: str           # of the patches; 'pixels': as they are, for the paper's cost, and no bytes are stated
    eta: float
    prior_weight: float
    top1: float
    cost: float                 # of all patches of all images, those sent: the paper's cost
    asked: float                # images that the robot does not answer alone
    patches: float              # of an image's patches, where it is asked about
    uplink_bytes: float
    answer_bytes: float

    @property
    def bytes(self) -> float:
        """In both directions."""
        return self.uplink_bytes + self.answer_bytes

    def as_dict(self) -> dict:
        """For JSON."""
        return {**asdict(self), 'bytes': self.bytes}


def points(trial: Trial, light: np.ndarray, uncertainty: np.ndarray, logits: np.ndarray, sent: np.ndarray, *, delta: float,
           quantisation: str, prior_weight: float, etas: Iterable[float] | None = None) -> list[Point]:
    """A point for each η.

    :param light: the light model's probabilities [n, classes]; where it is sure they are the answer
    :param uncertainty: [n], of the gate
    :param logits: [n, classes], the large model's for the patches that are `sent` (bool [n, P])
    :param etas: thresholds; None: those with which SHARES_SENT of these images are asked about
    """
    own = light.argmax(1) == trial.ids
    right = fused_classes(logits, light, prior_weight) == trial.ids
    counts = sent.sum(1)
    coded = quantisation != 'pixels'
    frames = SelectedFrames(trial.code.stream_parameters(quantisation)) if coded else None
    sizes = np.array([frames.bytes(int(count)) for count in counts]) if coded else np.zeros(len(counts))
    reply = answer_bytes(trial.classes, trial.patches) if coded else 0
    found = []
    for eta in etas_for(uncertainty) if etas is None else etas:
        asks = uncertainty >= eta
        found.append(Point(
            delta, quantisation, float(eta), prior_weight, float(np.where(asks, right, own).mean()),
            float((asks * counts).mean() / trial.patches), float(asks.mean()),
            float(counts[asks].mean() / trial.patches) if asks.any() else 0.0, float((asks * sizes).mean()), float(asks.mean() * reply)))
    return found


def etas_for(uncertainty: np.ndarray) -> list[float]:
    """The thresholds with which SHARES_SENT of the images are asked about."""
    ordered = np.sort(uncertainty)
    return [0.0 if share == 1 else float(ordered[round((1 - share) * (len(ordered) - 1))]) for share in SHARES_SENT]


def pareto(found: list[Point], by: str) -> list[Point]:
    """Those that no other beats in top-1 at no more of `by` ('cost' or 'bytes'), cheapest first."""
    best, front = -1.0, []
    for point in sorted(found, key=lambda point: (getattr(point, by), -point.top1)):
        if point.top1 > best:
            front.append(point)
            best = point.top1
    return front


def cheapest(found: list[Point], top1: float, by: str) -> Point | None:
    """The point with at least this accuracy that costs least, or None."""
    return min((point for point in found if point.top1 >= top1 - 1e-9), key=lambda point: getattr(point, by), default=None)
