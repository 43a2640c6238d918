"""The training images, and views of them, with the original's answers on each, computed once and kept in files for every training
that needs them.

Answers to each view, mixed images among them, are what small models learn most from: Beyer et al., 'Knowledge distillation: a good
teacher is patient and consistent', arXiv 2106.05237.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset

from evitif.datasets import open_images
from evitif.model.tensors import require_finite_answers
from evitif_lab.commands.progress import Progress
from evitif_lab.plain import key_of
from evitif_lab.precision import mixed_precision
from evitif_lab.training.state import read_state, write_state
from evitif_lab.trials.images import Normalise, load_images, shift_and_flip
from evitif_lab.trials.memory import require_memory

CHUNK = 2000            # images that are answered between two savings, and among which a view mixes: another number makes other views
MIXUP_ALPHA = 0.3     # of the views


@dataclass(frozen=True)
class TrainingAnswers:
    """Images uint8 [n, C, H, W], class ids int64 [m] of the first m (the others are views of these), and of the original logits
    float32 [n, classes] and the last norm's pooled token float32 [n, width]."""

    images: torch.Tensor
    class_ids: torch.Tensor
    logits: torch.Tensor
    features: torch.Tensor

    def divided(self, held_out: int) -> tuple[TrainingAnswers, TrainingAnswers]:
        """What is trained on, and at least `held_out` of the images that is kept from it, each with its views; nothing of one is mixed
        into a view of the other. Raises ValueError where no image would be left to train on."""
        count = len(self.class_ids)
        first = require_held_out(held_out, count)
        require_memory(self.images.numel(), f'a second time {len(self.images)} images')
        which = torch.arange(len(self.images)) % count < first

        def part(chosen: torch.Tensor) -> TrainingAnswers:
            return TrainingAnswers(self.images[chosen], self.class_ids[chosen[:count]], self.logits[chosen], self.features[chosen])
        return part(which), part(~which)


def require_held_out(held_out: int, count: int) -> int:
    """How many of `count` images are left to train on; views mix within a chunk, so it is whole chunks. Raises ValueError for none."""
    first = (count - held_out) // CHUNK * CHUNK
    if held_out < 1 or first < 1:
        expected = f'expected 1 to {count - CHUNK}, whole groups of {CHUNK} are left to train on' if count > CHUNK else \
            f'expected 0, since whole groups of {CHUNK} are to be left to train on'
        raise ValueError(f'held_out is {held_out} of {count} training images: {expected}')
    return first


def training_answers(module: nn.Module, identity: str, data_config: dict, class_names: tuple[str, ...], data: str, limit: int,
                     folder: Path | str, seed: int = 0, device: str = 'cpu', precision: str = 'fp32', views: int = 0) -> TrainingAnswers:
    """Load or compute them for at most `limit` training images of `data`, drawn by `seed`; goes on where it was interrupted.

    :param identity: of `module` and the images
    :param folder: where the files are kept; another model, data set, limit or seed makes other ones
    :param views: so many times each image comes again as the original sees it too: moved, mirrored and mixed with another
    :raises DatasetError: the images cannot be opened, or have no labels of the model's classes
    """
    key = key_of([identity, data, limit, seed, precision])
    path = Path(folder) / f'answers-{key}.pt'
    state = read_state(path) if path.is_file() else None
    if state is None:
        state = {**_images(data_config, class_names, data, limit, seed), 'logits': [], 'features': []}
    images, class_ids = state['images'], state['class_ids']
    count = len(images)
    require_memory((views + 1) * images.numel(), f'{count} images and {views} views of each')
    every = images.new_empty((views + 1) * count, *images.shape[1:])
    every[:count] = images
    module.to(device)
    answered = [_answer_all(module, images, state, path, "the original's answers", data_config, device, precision)]
    for number in range(views):
        view = every[(number + 1) * count:(number + 2) * count].copy_(view_of(images, number, seed))
        path = Path(folder) / f'answers-{key}-view-{number}.pt'
        state = read_state(path) if path.is_file() else {'logits': [], 'features': []}
        answered.append(_answer_all(module, view, state, path, f'the same, view {number + 1} of {views}', data_config, device, precision))
    module.to('cpu')
    return TrainingAnswers(every, class_ids, *(torch.cat(found).float() for found in zip(*answered, strict=True)))


def view_of(images: torch.Tensor, number: int, seed: int = 0) -> torch.Tensor:
    """Another view of each image, uint8 [n, C, H, W]: moved by up to a tenth, half of them mirrored, each mixed with another one
    (mixup, arXiv 1710.09412, most of them hardly). The same for the same number and seed."""
    parts = []
    for index, chunk in enumerate(images.split(CHUNK)):
        random = np.random.default_rng([seed, number, index])
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        moved = shift_and_flip(chunk, images.shape[2] // 10, generator)
        weight = torch.from_numpy(random.beta(MIXUP_ALPHA, MIXUP_ALPHA, len(chunk))).float()[:, None, None, None]
        other = moved[torch.randperm(len(chunk), generator=generator)]
        parts.append((weight * moved + (1 - weight) * other).round().to(torch.uint8))
    return torch.cat(parts)


def _images(data_config: dict, class_names: tuple[str, ...], data: str, limit: int, seed: int) -> dict:
    dataset = open_images(data, 'train', class_names=class_names)
    order = np.random.default_rng(seed).permutation(len(dataset))[:limit]
    images, class_ids = load_images(dataset if len(order) == len(dataset) else Subset(dataset, np.sort(order).tolist()),
                                    data_config, title='training images')
    if int(class_ids.min()) < 0 or int(class_ids.max()) >= len(class_names):
        raise ValueError(f'{data}: training needs labelled images of the model\'s {len(class_names)} classes')
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return {'images': images[shuffled], 'class_ids': class_ids[shuffled]}


def _answer_all(module: nn.Module, images: torch.Tensor, state: dict, path: Path, title: str, data_config: dict, device: str,
                precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and features (float16) of all `images`: what `state` has of them, and the rest, which is added to it and kept in `path`."""
    normalise = Normalise(data_config, device)
    done = sum(len(part) for part in state['logits'])
    with Progress(total=len(images), initial=done, desc=title, unit='image', disable=done == len(images)) as bar:
        while done < len(images):
            parts = [_answer(module, normalise(batch.to(device)), device, precision)
                     for batch in images[done:done + CHUNK].split(100)]
            state['logits'].append(torch.cat([logits for logits, _ in parts]).half())
            state['features'].append(torch.cat([features for _, features in parts]).half())
            bar.update(len(state['logits'][-1]))
            done += len(state['logits'][-1])
            write_state(path, state)
    return torch.cat(state['logits']), torch.cat(state['features'])


@torch.inference_mode()
def _answer(module: nn.Module, images: torch.Tensor, device: str, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    with mixed_precision(device, precision):
        features = module.forward_head(module.forward_features(images), pre_logits=True)
        logits = module.head(features)
    require_finite_answers("the original's answers in fp16", logits=logits.half(), features=features.half())
    return logits.float().cpu(), features.float().cpu()
