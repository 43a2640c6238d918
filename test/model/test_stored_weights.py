"""Weights as they lie on disk."""

import pytest
import torch

from evitif.model.build import WEIGHTS_FILE, ModelSpec, build_model, save_model
from evitif.model.fingerprint import fingerprint
from evitif.model.stored_weights import pack_weights, round_weights, unpack_weights

DESCRIPTION = {'architecture': 'vit_tiny_patch16_224', 'model_kwargs': {'img_size': 32, 'depth': 2, 'class_token': True},
               'pretrained_cfg': {'input_size': [3, 32, 32]}, 'class_names': ['a', 'b']}


def built():
    return build_model(ModelSpec('vit_tiny_patch16_224', random_seed=0, num_classes=2, image_size=32, model_kwargs={'depth': 2})).module


@pytest.mark.parametrize('stored_as', ['float32', 'float16', 'int8'])
def test_a_model_that_was_rounded_comes_back_as_it_was(tmp_path, stored_as):
    module = built()
    round_weights(module, stored_as)
    save_model(tmp_path / 'model', module, DESCRIPTION, stored_as)
    assert fingerprint(build_model(ModelSpec(str(tmp_path / 'model'))).module) == fingerprint(module)


def test_int8_takes_about_a_quarter_and_is_off_by_half_a_step_at_most(tmp_path):
    module = built()
    sizes = {}
    for stored_as in ('float32', 'int8'):
        save_model(tmp_path / stored_as, module, DESCRIPTION, stored_as)
        sizes[stored_as] = (tmp_path / stored_as / WEIGHTS_FILE).stat().st_size
    assert sizes['int8'] < 0.28 * sizes['float32']
    before, after = module.state_dict(), unpack_weights(pack_weights(module.state_dict(), 'int8'))
    weight, again = before['blocks.0.attn.qkv.weight'], after['blocks.0.attn.qkv.weight']
    step = weight.abs().amax(1, keepdim=True) / 127
    assert 0 < float(((again - weight).abs() / step).max()) <= 0.51
    assert set(after) == set(before) and all(after[name].shape == before[name].shape for name in before)


def test_another_kind_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'int3' \(expected float32, float16, int8\)"):
        pack_weights({'weight': torch.zeros(2, 2)}, 'int3')
