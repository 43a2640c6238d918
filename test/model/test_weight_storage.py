"""Weights stored as int8 come back within half a step, and what is judged is what is loaded."""

import pytest
import torch

from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.errors import ModelError
from evitif.model.weight_storage import from_stored, to_int8

KWARGS = {'patch_size': 8, 'embed_dim': 24, 'num_heads': 2, 'depth': 2, 'img_size': 16}


def test_int8_is_within_half_a_step_and_stays_as_it_is():
    weights = {'w': torch.randn(5, 7) * torch.tensor([1e-3, 1, 50, 0, 3])[:, None], 'c': torch.randn(3, 2, 4, 4),
               'b': torch.randn(5).half(), 'n': torch.tensor(3)}
    once = from_stored(to_int8(weights))
    assert once.keys() == weights.keys()
    step = weights['w'].abs().amax(1) / 127
    assert bool(((once['w'] - weights['w']).abs().amax(1) <= 0.51 * step + 1e-4).all())
    assert torch.equal(once['b'], weights['b']) and torch.equal(once['n'], weights['n'])
    twice = from_stored(to_int8(once))
    for name in weights:
        torch.testing.assert_close(twice[name], once[name], rtol=1e-3, atol=1e-6)


def test_a_model_folder_of_int8_weights(tmp_path):
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, num_classes=3, model_kwargs=KWARGS)).module
    save_model(tmp_path / 'm', module, {
        'architecture': 'vit_tiny_patch16_224', 'model_kwargs': KWARGS, 'class_names': ['a', 'b', 'c'],
        'pretrained_cfg': {'input_size': [3, 16, 16], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic',
                           'crop_pct': 1.0, 'crop_mode': 'center'}}, int8=True)
    loaded = build_model(ModelSpec(str(tmp_path / 'm'))).module.state_dict()
    for name, tensor in from_stored(to_int8(module.state_dict())).items():
        assert torch.equal(loaded[name], tensor.float()), name
    from safetensors.torch import load_file, save_file
    stored = load_file(tmp_path / 'm' / 'model.safetensors')
    del stored['head.weight.step']
    save_file(stored, tmp_path / 'm' / 'model.safetensors')
    with pytest.raises(ModelError, match='head.weight.step'):
        build_model(ModelSpec(str(tmp_path / 'm')))
