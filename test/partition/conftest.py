"""Labelled images of three classes, and a model folder that tells them apart."""

import numpy as np
import pytest
import torch
from PIL import Image
from random_vit import KWARGS

from evitif.model.build import ModelSpec, build_model, save_model

CONFIG = {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic', 'crop_pct': 1.0,
          'crop_mode': 'center'}
NAMES = ('blue', 'green', 'red')


def picture(class_id, random):
    image = random.integers(0, 120, (32, 32, 3), np.uint8)
    image[:, :, 2 - class_id] += 100
    return image


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    """A folder with train and val of three colours."""
    folder = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    for split, count in (('train', 30), ('val', 10)):
        for class_id, name in enumerate(NAMES):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(picture(class_id, random)).save(folder / split / name / f'{index}.png')
    return folder


@pytest.fixture(scope='session')
def model(tmp_path_factory):
    """A model folder that tells the colours apart."""
    folder = tmp_path_factory.mktemp('models') / 'small'
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=0, image_size=32, num_classes=3, model_kwargs=KWARGS)).module
    random, ids = np.random.default_rng(1), torch.arange(60) % 3
    batch = torch.stack([torch.from_numpy(picture(int(index), random)).permute(2, 0, 1) for index in ids]).float() / 127.5 - 1
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(25):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(batch), ids)
        loss.backward()
        optimiser.step()
    assert loss < 0.2
    save_model(folder, module, {'architecture': 'vit_tiny_patch16_224', 'model_kwargs': {**KWARGS, 'img_size': 32},
                                'class_names': list(NAMES), 'pretrained_cfg': CONFIG})
    return folder


@pytest.fixture(scope='session')
def train(model, images):
    """A function that divides the model with few steps into a folder."""
    from evitif_lab.training.partition import train_partition
    from evitif_lab.training.partition_settings import PartitionTraining

    def divide(output, **more):
        settings = {'devices': 3, 'reduction': 3.0, 'images': 90, 'calibration_images': 12, 'steps': 30, 'batch_size': 16,
                    'fusion_images': 90, 'fusion_steps': 60, **more}
        return train_partition(PartitionTraining(model=str(model), data=str(images), output=str(output), **settings), 'command')
    return divide


@pytest.fixture(scope='session')
def partition(train, tmp_path_factory):
    """A finished partition's folder."""
    folder = tmp_path_factory.mktemp('partitions') / 'three'
    train(folder)
    return folder
