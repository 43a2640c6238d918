"""A small model learns from a large one's answers, on the training images that are not left for calibration."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from evitif.model.build import ModelSpec, build_model, save_model
from evitif_lab.training.calibration_split import training_split
from evitif_lab.training.distillation import Teacher

CLASSES = ('a', 'b', 'c')
KWARGS = {'patch_size': 8, 'embed_dim': 24, 'num_heads': 2, 'depth': 2, 'img_size': 16}


@pytest.fixture
def folder(tmp_path):
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, num_classes=3, model_kwargs=KWARGS)).module
    save_model(tmp_path / 'large', module, {
        'architecture': 'vit_tiny_patch16_224', 'model_kwargs': KWARGS, 'class_names': list(CLASSES),
        'pretrained_cfg': {'input_size': [3, 16, 16], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic',
                           'crop_pct': 1.0, 'crop_mode': 'center'}})
    return str(tmp_path / 'large'), module


def images(count=7, size=16):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_least_at_the_teachers_own_answer(folder):
    path, module = folder
    teacher = Teacher(path, CLASSES, images(), weight=1.0, temperature=3.0)
    logits = module((images().float() / 255 - 0.5) / 0.5).detach()
    torch.testing.assert_close(teacher.once, (logits / 3).softmax(1))
    own = teacher.loss(torch.tensor(99.0), logits, teacher.once)
    assert own < teacher.loss(torch.tensor(99.0), logits + torch.randn_like(logits), teacher.once)
    assert own == pytest.approx(9 * float(functional.cross_entropy(logits / 3, teacher.once)))      # and labels do not count


def test_the_teacher_answers_views_as_it_answers_images(folder):
    asked = Teacher(folder[0], CLASSES, images(), weight=1.0, temperature=3.0, views=True)
    once = Teacher(folder[0], CLASSES, images(), weight=1.0, temperature=3.0)
    assert asked.once is None
    torch.testing.assert_close(asked.softened(images()), once.once)
    assert not torch.allclose(asked.softened(images().flip(0).float()), once.once)
    assert not asked.softened(images()).requires_grad


@pytest.mark.parametrize('classes, size, weight, message', [
    (('a', 'b'), 16, 0.5, "knows the classes 3: a, b, c, the data has 2: a, b"),
    (CLASSES, 32, 0.5, 'takes images of 16x16, the student of 32x32'),
    (CLASSES, 16, 1.5, 'distil_weight is 1.5')])
def test_a_teacher_that_does_not_fit_is_refused_with_both_values(folder, classes, size, weight, message):
    with pytest.raises(ValueError, match=message):
        Teacher(folder[0], classes, images(size=size), weight, 2.0)


def test_what_is_left_for_calibration_is_not_trained_on():
    trained, calibrated = training_split(200, 0.05)
    assert len(calibrated) == 10
    assert np.array_equal(np.sort(np.concatenate((trained, calibrated))), np.arange(200))
    assert np.array_equal(training_split(200, 0.05)[1], calibrated)
    for share in (0, 1, 0.001, 0.999):
        with pytest.raises(ValueError, match=f'held_out is {share:g} of 200'):
            training_split(200, share)
