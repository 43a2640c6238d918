"""A small model with random weights, and images."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A model folder with random weights and a flat folder of images."""
    from evitif.model.build import ModelSpec, build_model, save_model
    folder = tmp_path_factory.mktemp('small')
    kwargs = {'patch_size': 8, 'embed_dim': 24, 'num_heads': 2, 'depth': 3}
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, image_size=32, num_classes=3,
                                   model_kwargs=kwargs)).module
    save_model(folder / 'model', module, {
        'architecture': 'vit_tiny_patch16_224', 'model_kwargs': {**kwargs, 'img_size': 32}, 'class_names': ['a', 'b', 'c'],
        'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic',
                           'crop_pct': 1.0, 'crop_mode': 'center'}})
    (folder / 'images').mkdir()
    random = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / 'images' / f'{index}.png')
    return folder
