"""The model of all classes from which every sub-model is pruned: a long training that the devices share.

N sub-models of a few hundred thousand weights cannot each be trained for long. So the original is pruned for all classes
first, in a few stages down to nearly a sub-model's size, and learns the original's answers after each; what is left for a
device is the last cut, by its own classes, and a shorter training. This is ours: ED-ViT (arXiv 2410.11650) prunes each
sub-model from the original.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from evitif.partition.fusion import FusionNetwork
from evitif.partition.slicing import Shape, blank, final_norm
from evitif_lab.partition.pruning import Limit, prune_for_all, size_within
from evitif_lab.partition.sizes import parameters_of, shape_of
from evitif_lab.plain import key_of
from evitif_lab.training.backbone import top1
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.partition_retraining import Ensemble, Schedule, retrain
from evitif_lab.training.state import read_state, write_state
from evitif_lab.training.training_answers import TrainingAnswers
from evitif_lab.trials.images import Normalise

ROOM = 4 / 3        # MLP units of the last body, of a sub-model's: what is left to prune by its classes


@dataclass(frozen=True)
class Stage:
    """One cut of the body and the training after it."""

    reduction: float | None          # of the original's parameters; None: to the sub-models' size, with room for their own cut
    steps: int


def read_stages(texts: tuple[str, ...] | list[str]) -> tuple[Stage, ...]:
    """`REDUCTION:STEPS` for each stage but the last, which is `STEPS`. Raises ValueError."""
    stages = []
    for number, text in enumerate(texts, 1):
        reduction, _, steps = text.rpartition(':')
        try:
            stage = Stage(float(reduction) if reduction else None, int(steps))
        except ValueError:
            stage = Stage(None, 0)
        last = number == len(texts)
        if stage.steps < 1 or (stage.reduction is None) != last or not (last or 1 <= stage.reduction < math.inf):
            raise ValueError(f'stage {number} of the body is {text!r}: expected REDUCTION:STEPS, such as 8:400, and STEPS for the last')
        stages.append(stage)
    return tuple(stages)


def train_body(original: nn.Module, identity: str, data_config: dict, answers: TrainingAnswers, largest: Shape, stages: tuple[Stage, ...],
               schedule: Schedule, calibration: torch.Tensor, test: tuple[torch.Tensor, torch.Tensor], folder: Path, seed: int = 0,
               device: str = 'cpu', precision: str = 'fp32') -> tuple[nn.Module, list[dict]]:
    """Prune and train through `stages`. Each stage's result stays in `folder` for other trainings that begin alike.

    :param identity: of the original and of what it is trained on
    :param largest: the shape of the largest sub-model
    :param schedule: but for its steps
    :param calibration: uint8 [n, C, H, W], training images of all classes, by which it is pruned
    :param test: images uint8 and class ids by which each stage is judged, for the report alone
    :returns: the last body, and for each stage its `shape`, `parameters`, `top1` on `test`, `pruning` and `training`
    """
    body, found, so_far = original, [], [identity, asdict(schedule), len(calibration), seed, precision]
    normalise = Normalise(data_config)
    for number, stage in enumerate(stages, 1):
        shape = _shape(original, shape_of(body), stage, largest)
        so_far = [*so_far, stage.steps, asdict(shape)]
        key = key_of(so_far)
        path = folder / f'body-{key}.pt'
        if path.is_file():
            state = read_state(path)
            body = blank(copy.deepcopy(original), shape, original.num_classes)
            body.load_state_dict(state['weights'])
        else:
            body, pruning = prune_for_all(body, normalise(calibration), shape, seed, lambda text: print(f'  {text}', flush=True))
            torch.manual_seed(seed)
            checkpoint = Checkpoint(folder / f'body-{key}', {'body': so_far})
            alone = Ensemble([body], [shape.width], answers.features.shape[1])
            alone, figures = retrain(alone, answers, data_config, replace(schedule, steps=stage.steps), seed, device, precision, checkpoint,
                                     f'body {number} of {len(stages)}')
            body = alone.modules_[0]
            state = {'weights': body.state_dict(), 'stage': {
                'shape': asdict(shape), 'parameters': parameters_of(body),
                'reduction': round(parameters_of(original) / parameters_of(body), 2),
                'top1': round(top1(body, *test, normalise), 4), 'pruning': pruning,
                'training': {**figures, 'steps': stage.steps, 'batch_size': schedule.batch_size}}}
            write_state(path, state)
            checkpoint.remove()
        body.requires_grad_(False).eval()
        found.append(state['stage'])
        print(f'body {number} of {len(stages)}: {shape}, {found[-1]["parameters"]:,} parameters, {100 * found[-1]["top1"]:.2f} % of '
              f'{len(test[1])} test images, {found[-1]["training"]}', flush=True)
    return body, found


def _shape(original: nn.Module, before: Shape, stage: Stage, largest: Shape) -> Shape:
    """What a stage prunes to: nothing of what the stage `before` has grows again."""
    wanted = replace(largest, hidden=int(largest.hidden * ROOM) // 4 * 4) if stage.reduction is None else \
        size_within(original, Limit(int(parameters_of(original) / stage.reduction)), original.num_classes).shape
    shape = Shape(**{name: min(value, getattr(before, name)) for name, value in asdict(wanted).items()})
    if any(getattr(shape, name) < value for name, value in asdict(largest).items()):
        raise ValueError(f'a stage of the body has {shape}, less than the largest sub-model, {largest}: expected a smaller reduction')
    return shape


@torch.no_grad()
def begin_fusion(network: FusionNetwork, body: nn.Module, widths: list[int]) -> None:
    """Let the fusion begin as the mean of what `body` would say of the features of the sub-models, of these widths, that are as wide
    as it: they begin as parts of it."""
    head, norm, features = body.head, final_norm(body), network.options['features']
    alike = [index for index, width in enumerate(widths) if width == head.in_features]
    network.linear.weight.zero_()
    for index in alike:         # a sub-model's own norm begins as the identity
        first = index * (features + 1)
        network.linear.weight[:, first:first + head.in_features] = head.weight * norm.weight / len(alike)
    network.linear.bias.copy_(head.bias + head.weight @ norm.bias)
