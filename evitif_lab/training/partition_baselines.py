"""What a partition is compared with: one small ViT of a sub-model's size, as many of them averaged, and a CNN split the same way.

All are trained on the same images as the partition, from the original's answers, for as many steps of as many images.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch

from evitif.datasets import open_images
from evitif.partition.artifact import Description
from evitif.partition.slicing import Shape
from evitif_lab.data.identity import identity_of
from evitif_lab.partition.pruning import Limit, prune_for_all, size_within
from evitif_lab.partition.sizes import parameters_of, shape_of
from evitif_lab.plain import key_of
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.partition import answers_of, body_of, calibration, common_part
from evitif_lab.training.partition_cnn import WIDTHS, Cnn, prune_cnn
from evitif_lab.training.partition_retraining import Ensemble, System, arrived_features, fuse, retrain
from evitif_lab.training.partition_settings import PartitionTraining
from evitif_lab.training.state import read_state, write_state
from evitif_lab.training.training_answers import TrainingAnswers
from evitif_lab.trials.images import Normalise
from evitif_lab.trials.original import Original

S = TypeVar('S', System, Ensemble)


def judge_baselines(description: Description, original: Original, data: str, images: torch.Tensor, ids: torch.Tensor) -> dict:
    """Train what is not trained yet, and judge it on test images uint8 [n, C, H, W] with class ids [n].

    Trained baselines stay in `<partition>/steps`.
    """
    made = description.content['made_by']['configuration']
    c = PartitionTraining(**made)
    training = identity_of(open_images(c.data, 'train', class_names=original.built.class_names))
    answers, fusion_answers = answers_of(c, original, training)
    normalise = Normalise(original.built.data_config)
    ensemble, figures = _ensemble(description, c, original, answers, training)
    with torch.inference_mode():        # what is averaged may look as the devices do, of which the first sees the image as it is
        outputs = torch.stack([torch.cat([module(entry.view(normalise(batch))).softmax(1) for batch in images.split(64)])
                               for module, entry in zip(ensemble.modules_, description.devices, strict=True)])
    single = float((outputs[0].argmax(1) == ids).float().mean())
    averaged = float((outputs.mean(0).argmax(1) == ids).float().mean())
    return {'distilled': {'top1': single, 'parameters': parameters_of(ensemble.modules_[0])},
            'averaged': {'top1': averaged, 'models': len(ensemble.modules_), 'runs': [float((one.argmax(1) == ids).float().mean())
                                                                                    for one in outputs]},
            'training': figures, 'cnn': _split_cnn(description, c, original, answers, fusion_answers, images, ids)}


def _split_cnn(description: Description, c: PartitionTraining, original: Original, answers: TrainingAnswers,
               fusion_answers: TrainingAnswers, images: torch.Tensor, ids: torch.Tensor) -> dict:
    """A CNN trained from the original's answers, divided over the same subsets within the largest sub-ViT's parameters and
    multiply-adds, retrained and fused as the partition was."""
    size, channels = images.shape[2], int(original.built.data_config['input_size'][0])
    normalise = Normalise(original.built.data_config)
    torch.manual_seed(c.seed)
    cnn = Cnn(WIDTHS, original.classes, channels)
    whole = Ensemble([cnn], [cnn.num_features], shape_of(original.module).width)
    whole, whole_figures = trained(whole, 'cnn', c, description, original, answers)
    cnn = whole.modules_[0]
    limit = Limit(max(entry.parameters for entry in description.devices), max(entry.multiply_adds for entry in description.devices))
    subsets = tuple(entry.classes for entry in description.devices)
    parts = [prune_cnn(cnn, normalise(answers.images[calibration(answers, subset, index, c)]), subset, limit, size, c.seed)
             for index, subset in enumerate(subsets)]
    torch.manual_seed(c.seed)
    system = System(parts, subsets, original.classes, shape_of(original.module).width, views=c.training_views)
    system, split_figures = trained(system, 'cnn-split', c, description, original, answers)
    system.views = tuple(entry.view for entry in description.devices)
    network, _ = fuse(system, fusion_answers, original.built.data_config, c.fusion_images, c.fusion_steps, c.seed, c.device,
                      judged=c.held_out > 0)
    arrived = arrived_features(system, images, normalise)
    with torch.inference_mode():
        top1 = float((network(arrived, torch.ones(arrived.shape[:2], dtype=torch.bool)).argmax(1) == ids).float().mean())
        alone = torch.cat([cnn(normalise(batch)).argmax(1) for batch in images.split(64)])
    return {'top1_original': float((alone == ids).float().mean()), 'parameters_original': parameters_of(cnn),
            'multiply_adds_original': cnn.multiply_adds(size), 'top1': top1,
            'parameters_largest': max(parameters_of(part) for part in parts),
            'multiply_adds_largest': max(part.multiply_adds(size) for part in parts),
            'training': {'original': whole_figures, 'split': split_figures}}


def _ensemble(description: Description, c: PartitionTraining, original: Original, answers: TrainingAnswers,
              training: dict) -> tuple[Ensemble, dict]:
    """Models of all classes, each of at most the largest sub-model's parameters, pruned from the original and retrained alone."""
    count = len(description.devices)
    largest = max(description.devices, key=lambda entry: entry.parameters)
    shape = size_within(original.module, Limit(largest.parameters), original.classes + 1).shape
    normalise, modules = Normalise(original.built.data_config), []
    whole = body_of(c, original, answers, largest.shape, training)[0] if c.body else original.module
    common = common_part(c, answers, normalise)
    shape = Shape(**{name: min(value, getattr(shape_of(whole), name)) for name, value in asdict(shape).items()})
    for index in range(count):
        chosen = torch.randperm(len(answers.class_ids), generator=torch.Generator().manual_seed(c.seed * 1009 + index))
        images = normalise(answers.images[chosen[:c.calibration_images]])
        modules.append(prune_for_all(whole, images, shape, c.seed, common=common)[0])
    torch.manual_seed(c.seed)
    ensemble = Ensemble(modules, [shape.width] * count, shape_of(original.module).width, c.common_blocks, c.training_views)
    return trained(ensemble, 'averaged', c, description, original, answers)


def trained(system: S, name: str, c: PartitionTraining, description: Description, original: Original,
            answers: TrainingAnswers) -> tuple[S, dict]:
    """`system` retrained as the partition was; from `<partition>/steps` where that is done already."""
    folder = Path(c.output) / 'steps'
    key = key_of([description.fingerprint, name])
    path = folder / f'baseline-{name}-{key}.pt'
    if path.is_file():
        state = read_state(path)
        system.load_state_dict(state['weights'])
        return system.eval(), state['figures']
    checkpoint = Checkpoint(folder / f'baseline-{name}', {'partition': description.fingerprint, 'name': name, **asdict(c.schedule)})
    system, figures = retrain(system, answers, original.built.data_config, c.schedule, c.seed, c.device, c.precision, checkpoint, name)
    write_state(path, {'weights': system.state_dict(), 'figures': figures})
    checkpoint.remove()
    return system, figures
