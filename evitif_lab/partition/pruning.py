"""Prune a Vision Transformer for some of its classes down to a number of parameters or multiply-adds.

As in ED-ViT (arXiv 2410.11650) the residual width goes first, then heads, then the MLP's units, each time what the
divergence from the original's answer depends on least (`importance`). The sizes shrink in a few rounds, with a new estimate
in each; the divergence after every step is measured, not estimated, and reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from evitif.partition.slicing import Kept, Shape, assign, blank, shrink, zero_mean_basis
from evitif_lab.partition.importance import Importance, divergence, estimate, grouped_log_probabilities
from evitif_lab.partition.sizes import multiply_adds_of, parameters_of, shape_of

ROUNDS = 2
SMALLEST = Shape(width=16, heads=1, head_dim=8, hidden=8)
# At equal parameters a wide residual stream with narrow blocks keeps more of the original's answer.
_EXPONENTS = {'width': 0.6, 'attention': 1.0, 'hidden': 1.4}


@dataclass(frozen=True)
class Limit:
    """What a sub-model may have at most; None: no limit."""

    parameters: int | None = None
    multiply_adds: int | None = None

    def allows(self, parameters: int, multiply_adds: int) -> bool:
        """Whether a module of so many is within it."""
        return (self.parameters is None or parameters <= self.parameters) and \
            (self.multiply_adds is None or multiply_adds <= self.multiply_adds)

    def scaled(self, factor: float) -> Limit:
        """This limit times `factor`."""
        return Limit(*(None if value is None else int(value * factor) for value in (self.parameters, self.multiply_adds)))

    def __str__(self) -> str:
        parts = [f'{value:,} {name}' for value, name in ((self.parameters, 'parameters'), (self.multiply_adds, 'multiply-adds'))
                 if value is not None]
        return ' and '.join(parts) or 'no limit'


@dataclass(frozen=True)
class Size:
    """A shape and what it costs in a given architecture."""

    shape: Shape
    parameters: int
    multiply_adds: int


def size_of(module: nn.Module, shape: Shape, classes: int) -> Size:
    """What `module` would cost in this shape with so many outputs."""
    small = blank(copy.deepcopy(module), shape, classes)
    return Size(shape, parameters_of(small), multiply_adds_of(small))


def require_prunable_to(module: nn.Module, limit: Limit, outputs: int) -> Size:
    """The smallest size. Raises ValueError where it is above `limit`."""
    smallest = size_of(module, SMALLEST, outputs)
    if not limit.allows(smallest.parameters, smallest.multiply_adds):
        raise ValueError(f'a sub-model cannot be pruned to {limit}: the smallest has {smallest.parameters:,} parameters and '
                         f'{smallest.multiply_adds:,} multiply-adds')
    return smallest


def size_within(module: nn.Module, limit: Limit, outputs: int) -> Size:
    """The largest size on the schedule within `limit`. Raises ValueError where the smallest is above it."""
    smallest = require_prunable_to(module, limit, outputs)
    original = shape_of(module)
    low, high, best = 0.0, 1.0, smallest
    for _ in range(12):
        middle = (low + high) / 2
        size = size_of(module, scaled(original, middle), outputs)
        if limit.allows(size.parameters, size.multiply_adds):
            low, best = middle, max(best, size, key=lambda one: one.parameters)
        else:
            high = middle
    while best.shape.hidden < original.hidden:      # what the schedule's steps leave over
        size = size_of(module, replace(best.shape, hidden=min(original.hidden, best.shape.hidden + 4)), outputs)
        if not limit.allows(size.parameters, size.multiply_adds):
            break
        best = size
    return best


def scaled(original: Shape, share: float) -> Shape:
    """The shape at a point of the schedule; 1 is the original's, 0 the smallest."""
    width = _multiple(original.width * share**_EXPONENTS['width'], 8, SMALLEST.width, original.width)
    attention = original.heads * original.head_dim * share**_EXPONENTS['attention']
    heads = min(original.heads, max(1, round(attention / 16)))
    head_dim = _multiple(attention / heads, 8, SMALLEST.head_dim, original.head_dim)
    hidden = _multiple(original.hidden * share**_EXPONENTS['hidden'], 8, SMALLEST.hidden, original.hidden)
    return Shape(width, heads, head_dim, hidden)


def prune(module: nn.Module, images: torch.Tensor, own: tuple[int, ...], shape: Shape, seed: int = 0,
          told: Callable[[str], None] = lambda text: None,
          common: tuple[int, torch.Tensor] | None = None) -> tuple[nn.Module, list[dict]]:
    """A smaller copy of `module` for the classes `own` and 'other', and the divergence after each step of the schedule.

    :param module: prunable (`slicing.require_prunable`), in evaluation mode; it is not changed
    :param images: float [n, C, H, W], preprocessed: half of the classes `own`, half of others where there are any. Images
        of `own` alone would let the answer become a constant where a device has a single class
    :param shape: to end at
    :param common: so many of the first blocks, and what precedes them, are pruned for all classes, by these images of all:
        sub-models of one shape have them alike. There is one round then, as a second estimate would see how they differ
    :returns: the pruned model with `own` and 'other' as outputs, untrained; steps with `part`, `kept`, `divergence` (nats)
    """
    pruned, steps = copy.deepcopy(module), []
    pruned.requires_grad_(False)
    with torch.no_grad():
        target = grouped_log_probabilities(_answers(pruned, images), own)
    first, rounds = shape_of(pruned), ROUNDS if common is None else 1
    for number in range(1, rounds + 1):
        goal = shape if number == rounds else _between(first, shape, number / rounds)
        for part in ('width', 'heads', 'hidden'):
            present = shape_of(pruned)
            wanted = {'width': replace(present, width=goal.width), 'hidden': replace(present, hidden=goal.hidden),
                      'heads': replace(present, heads=goal.heads, head_dim=goal.head_dim)}[part]
            if wanted == present:
                continue
            if part == 'width' or not steps or steps[-1]['round'] != number:
                importance = estimate(pruned, images, own, seed + number)
                if common is not None:
                    blocks, of_all = common
                    every = tuple(range(pruned.num_classes))
                    importance = _joined(estimate(pruned, of_all, every, seed + number), importance, blocks)
            shrink(pruned, _kept(importance, present, wanted, pruned.embed_dim, turned=part == 'width'))
            with torch.no_grad():
                now = divergence(target, grouped_log_probabilities(_answers(pruned, images), own))
            steps.append({'round': number, 'part': part, 'kept': asdict(wanted), 'divergence': round(now, 4)})
            told(f'round {number}, {part}: {wanted}, divergence {now:.3f} nats')
    _merge_classes(pruned, own)
    return pruned.requires_grad_(True), steps


def prune_for_all(module: nn.Module, images: torch.Tensor, shape: Shape, seed: int = 0, told: Callable[[str], None] = lambda text: None,
                  common: tuple[int, torch.Tensor] | None = None) -> tuple[nn.Module, list[dict]]:
    """As `prune`, for all classes of `module` and without 'other'."""
    pruned, steps = prune(module, images, tuple(range(module.num_classes)), shape, seed, told, common)
    _drop_other(pruned)
    return pruned, steps


def _joined(common: Importance, own: Importance, blocks: int) -> Importance:
    """By `common` in the residual stream and the first `blocks`, by `own` in the others."""
    by_head, by_hidden = (torch.cat((first[:blocks], rest[blocks:])) for first, rest in
                          ((common.by_head, own.by_head), (common.by_hidden, own.by_hidden)))
    return Importance(common.directions, common.by_direction, by_head, by_hidden)


def _kept(importance: Importance, present: Shape, wanted: Shape, width: int, turned: bool) -> Kept:
    """What a step keeps. Where the width is not cut, the stream is kept whole."""
    if turned:
        best = importance.by_direction.topk(wanted.width - 1).indices.sort().values
        directions = importance.directions[:, best]
    else:
        directions = zero_mean_basis(width)
    heads = tuple(scores.topk(wanted.heads).indices.sort().values for scores in importance.by_head) \
        if wanted.heads < present.heads else (torch.arange(present.heads),) * len(importance.by_head)
    hidden = tuple(scores.topk(wanted.hidden).indices.sort().values for scores in importance.by_hidden) \
        if wanted.hidden < present.hidden else (torch.arange(present.hidden),) * len(importance.by_hidden)
    return Kept(directions, heads, hidden, wanted.head_dim)


def _between(first: Shape, last: Shape, share: float) -> Shape:
    """Geometrically between two shapes."""
    def mean(start: int, end: int, step: int) -> int:
        return _multiple(start**(1 - share) * end**share, step, min(start, end), max(start, end))
    return Shape(mean(first.width, last.width, 8), mean(first.heads, last.heads, 1), mean(first.head_dim, last.head_dim, 8),
                 mean(first.hidden, last.hidden, 8))


def _answers(module: nn.Module, images: torch.Tensor, batch: int = 64) -> torch.Tensor:
    return torch.cat([module(part) for part in images.split(batch)])


def _multiple(value: float, step: int, low: int, high: int) -> int:
    return int(min(high, max(low, round(value / step) * step)))


def _merge_classes(module: nn.Module, own: tuple[int, ...]) -> None:
    """The classifier in place cut to the classes `own` and one more output, 'other', which begins as the mean of the others."""
    others = [index for index in range(module.head.out_features) if index not in own]
    with torch.no_grad():
        weight, bias = module.head.weight, module.head.bias
        other = (weight[others].mean(0), bias[others].mean()) if others else (torch.zeros_like(weight[0]), bias.min() - 10)
        assign(module.head, torch.cat((weight[list(own)], other[0][None])), torch.cat((bias[list(own)], other[1][None])))
    module.num_classes = len(own) + 1


def _drop_other(module: nn.Module) -> None:
    """The classifier in place without its last output, 'other'."""
    with torch.no_grad():
        assign(module.head, module.head.weight[:-1], module.head.bias[:-1])
    module.num_classes -= 1
