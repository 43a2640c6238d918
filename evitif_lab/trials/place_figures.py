"""How good masks and depth are: the field's measures, added up over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional


class MaskFigures:
    """Intersection over union (Everingham et al., PASCAL VOC) over all places of all images, at the masks' own resolution; places without a
    class are left out, and a class that neither mask nor answer has does not count."""

    measure, unit = 'miou', '%'

    def __init__(self, labels: Sequence[str]):
        self.labels = tuple(labels)
        self.confusion = np.zeros((len(self.labels),) * 2, np.int64)       # rows are true
        self.images = 0

    def add(self, logits: torch.Tensor, truths: Sequence[np.ndarray]) -> None:
        """Logits [B, classes, h, w], interpolated to the size of the masks uint8 [H, W]."""
        for one, truth in zip(logits, truths, strict=True):
            said = functional.interpolate(one[None].float(), truth.shape, mode='bilinear', align_corners=False)[0].argmax(0).cpu().numpy()
            self.add_classes(said, truth)

    def add_classes(self, said: np.ndarray, truth: np.ndarray) -> None:
        """Classes [H, W]; places where nothing is said (255) count as wrong."""
        count = len(self.labels)
        known = truth < count
        wrong = np.where(said < count, said, (truth.astype(int) + 1) % count)
        self.confusion += np.bincount(truth[known].astype(np.int64) * count + wrong[known], minlength=count**2).reshape(count, count)
        self.images += 1

    @property
    def by_class(self) -> dict[str, float | None]:
        """Of each class, 0..1; None where it does not occur."""
        right = self.confusion.diagonal()
        union = self.confusion.sum(0) + self.confusion.sum(1) - right
        return {name: float(hit / all_) if all_ else None for name, hit, all_ in zip(self.labels, right, union, strict=True)}

    @property
    def value(self) -> float:
        """The mean over the classes that occur."""
        return float(np.mean([value for value in self.by_class.values() if value is not None]))

    def figures(self) -> dict:
        """For JSON."""
        return {'miou': round(self.value, 4), 'pixels_right': round(float(self.confusion.trace() / max(1, self.confusion.sum())), 4),
                'iou': {name: None if value is None else round(value, 4) for name, value in self.by_class.items()}, 'images': self.images}


class DepthFigures:
    """Shares of places within a factor (δ < 1.25, …), mean relative error and the scale-invariant error (Eigen et al., arXiv 1406.2283),
    over all places of known distance."""

    measure, unit = 'delta1', '%'

    def __init__(self):
        self.sums = np.zeros(7)
        self.images = 0

    def add(self, metres: torch.Tensor, truths: Sequence[np.ndarray]) -> None:
        """Metres [B, h, w], interpolated to the size of the truths float32 [H, W], NaN unknown."""
        for one, truth in zip(metres, truths, strict=True):
            said = functional.interpolate(one[None, None].float(), truth.shape, mode='bilinear', align_corners=False)[0, 0].cpu().numpy()
            known = np.isfinite(truth) & (truth > 0)
            found, true = said[known], truth[known]
            logarithm = np.log(found / true)
            factor = np.exp(np.abs(logarithm))
            self.sums += [len(found), *((factor < 1.25**power).sum() for power in (1, 2, 3)), (np.abs(found - true) / true).sum(),
                          np.square(logarithm).sum(), len(found) * logarithm.mean()**2]
            self.images += 1

    @property
    def value(self) -> float:
        """δ < 1.25, 0..1."""
        return float(self.sums[1] / max(1, self.sums[0]))

    def figures(self) -> dict:
        """For JSON."""
        count, first, second, third, relative, squared, mean = self.sums / max(1.0, self.sums[0])
        return {'delta1': round(first, 4), 'delta2': round(second, 4), 'delta3': round(third, 4), 'relative_error': round(relative, 4),
                'scale_invariant_error': round(float(np.sqrt(max(0.0, squared - mean))), 4), 'images': self.images}


def figures_of(found: MaskFigures | DepthFigures) -> dict:
    """For JSON."""
    return found.figures()


def describe(figures: dict) -> str:
    """A sentence and, of masks, a table class by class."""
    if 'miou' not in figures:
        return (f'{100 * figures["delta1"]:.1f} % of the places within a factor of 1.25, mean relative error '
                f'{100 * figures["relative_error"]:.1f} %, on {figures["images"]} images')
    lines = [f'mean intersection over union {100 * figures["miou"]:.1f} % on {figures["images"]} images, '
             f'{100 * figures["pixels_right"]:.1f} % of the places right', '', '| class | IoU |', '| --- | ---: |']
    return '\n'.join([*lines, *(f'| {name} | {"–" if value is None else f"{100 * value:.1f} %"} |'
                                for name, value in figures['iou'].items())])
