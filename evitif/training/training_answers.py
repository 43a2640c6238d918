"""The training images with the original's answers on them, computed once and kept in a file for every training that needs them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset
from tqdm import tqdm

from evitif.datasets import open_images
from evitif.model.device import mixed_precision
from evitif.training.images import Normalise, load_images

CHUNK = 2000


@dataclass(frozen=True)
class TrainingAnswers:
    """Images uint8 [n, C, H, W], class ids int64 [n], and of the original logits float32 [n, classes] and the last norm's
    pooled token float32 [n, width]."""

    images: torch.Tensor
    class_ids: torch.Tensor
    logits: torch.Tensor
    features: torch.Tensor


def training_answers(module: nn.Module, identity: str, data_config: dict, class_names: tuple[str, ...], data: str, limit: int,
                     folder: Path | str, seed: int = 0, device: str = 'cpu', precision: str = 'fp32') -> TrainingAnswers:
    """Load or compute them for at most `limit` training images of `data`, drawn by `seed`; goes on where it was interrupted.

    :param identity: the fingerprint of `module`
    :param folder: where the file is kept; another model, data set, limit or seed makes another file
    :raises DatasetError: the images cannot be opened, or have no labels of the model's classes
    """
    key = hashlib.sha256(json.dumps([identity, data, limit, seed, precision]).encode()).hexdigest()[:16]
    path = Path(folder) / f'answers-{key}.pt'
    state = torch.load(path, weights_only=True) if path.is_file() else None
    size = int(data_config['input_size'][1])
    if state is None:
        dataset = open_images(data, 'train', class_names=class_names)
        order = np.random.default_rng(seed).permutation(len(dataset))[:limit]
        images, class_ids = load_images(dataset if len(order) == len(dataset) else Subset(dataset, np.sort(order).tolist()),
                                        size, channels=data_config['input_size'][0], title='training images')
        if int(class_ids.min()) < 0 or int(class_ids.max()) >= len(class_names):
            raise ValueError(f'{data}: training needs labelled images of the model\'s {len(class_names)} classes')
        shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        state = {'images': images[shuffled], 'class_ids': class_ids[shuffled], 'logits': [], 'features': []}
    images = state['images']
    normalise = Normalise(data_config, device)
    done = sum(len(part) for part in state['logits'])
    module.to(device)
    with tqdm(total=len(images), initial=done, desc="the original's answers", unit='image', mininterval=1) as bar:
        while done < len(images):
            parts = [_answer(module, normalise(batch.to(device)), device, precision)
                     for batch in images[done:done + CHUNK].split(100)]
            state['logits'].append(torch.cat([logits for logits, _ in parts]).half())
            state['features'].append(torch.cat([features for _, features in parts]).half())
            bar.update(len(state['logits'][-1]))
            done += len(state['logits'][-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix('.partial')
            torch.save(state, partial)
            partial.replace(path)
    module.to('cpu')
    return TrainingAnswers(images, state['class_ids'], torch.cat(state['logits']).float(), torch.cat(state['features']).float())


@torch.inference_mode()
def _answer(module: nn.Module, images: torch.Tensor, device: str, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    with mixed_precision(device, precision):
        features = module.forward_head(module.forward_features(images), pre_logits=True)
        logits = module.head(features)
    return logits.float().cpu(), features.float().cpu()
