"""Preprocessing is timm's own, and the crop says where the model looked."""

import numpy as np
import pytest
import torch
from PIL import Image

from evitif.model.preprocess import Preprocessor
from evitif.model.timm_import import timm

CONFIG = {'input_size': (3, 64, 64), 'interpolation': 'bicubic', 'mean': (0.5,) * 3, 'std': (0.5,) * 3,
          'crop_pct': 0.8, 'crop_mode': 'center'}


def test_it_is_timms_evaluation_transform():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    expected = timm.data.create_transform(**CONFIG, is_training=False)(Image.fromarray(image))
    assert torch.equal(Preprocessor(CONFIG)(image)[0], expected)


@pytest.mark.parametrize('height, width', [(90, 120), (200, 80), (64, 64)])
@pytest.mark.parametrize('mode', ['center', 'squash'])
def test_the_crop_is_where_the_model_looks(height, width, mode):
    preprocessor = Preprocessor({**CONFIG, 'crop_mode': mode})
    left, top, seen_width, seen_height = preprocessor.crop(height, width)
    image = np.zeros((height, width, 3), np.uint8)
    image[max(0, round(top)):round(top + seen_height), max(0, round(left)):round(left + seen_width)] = 255
    seen = preprocessor(image)
    assert seen[0, :, 4:-4, 4:-4].min() > 0.95
    image[...] = 255 - image
    assert preprocessor(image)[0, :, 4:-4, 4:-4].max() < -0.95


@pytest.mark.parametrize('image', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
                                   np.zeros((0, 4, 3), np.uint8)])
def test_other_shapes_are_refused(image):
    with pytest.raises(ValueError, match='expected an RGB image'):
        Preprocessor(CONFIG)(image)
