"""Two models have one fingerprint where they answer alike, and else it says which part differs."""

import functools
import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from evitif.identity import PARTS, difference, join_parts, parts
from evitif.model.build import ModelSpec, build_model
from evitif.model.fingerprint import fingerprint, preprocessing_digest, settings
from evitif.model.preprocess import data_config_of
from evitif.model.timm_import import timm

SMALL = {'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'img_size': 32, 'patch_size': 8, 'num_classes': 3}
EVA = {**SMALL, 'rope_grid_indexing': 'ij'}


def vit(architecture='vit_tiny_patch16_224', **changes):
    return timm.create_model(architecture, **{**SMALL, **changes}).eval()


def differ(first: nn.Module, second: nn.Module) -> list[str]:
    """The parts that differ between two models, the second of which gets the weights of the first."""
    second.load_state_dict(first.state_dict())
    one, other = parts(fingerprint(first, 1)), parts(fingerprint(second, 1))
    return [name for name in PARTS if one[name] != other[name]]


@pytest.mark.parametrize('architecture, own, other', [
    ('vit_tiny_patch16_224', {}, {'num_heads': 6}),
    ('vit_tiny_patch16_224', {}, {'act_layer': 'quick_gelu'}),
    ('vit_tiny_patch16_224', {}, {'act_layer': 'gelu_tanh'}),
    ('vit_tiny_patch16_224', {}, {'act_layer': functools.partial(nn.GELU, approximate='tanh')}),
    ('vit_tiny_patch16_224', {}, {'norm_layer': functools.partial(nn.LayerNorm, eps=1e-5)}),
    ('vit_tiny_patch16_224', {'class_token': True, 'fc_norm': False}, {'class_token': True, 'fc_norm': False, 'global_pool': 'avg'}),
    ('vit_tiny_patch16_224', {'global_pool': 'avg'}, {'global_pool': 'avg', 'pool_include_prefix': True}),
    ('vit_tiny_patch16_224', {'global_pool': 'avg'}, {'global_pool': 'max'}),
    ('vit_tiny_patch16_224', {'reg_tokens': 2, 'no_embed_class': True, 'class_token': True},
     {'reg_tokens': 2, 'no_embed_class': True, 'class_token': True, 'global_pool': 'avg', 'fc_norm': False}),
    ('eva02_tiny_patch14_224', {}, {'rope_temperature': 100.0}),
    ('eva02_tiny_patch14_224', {}, {'rope_rotate_half': True}),
    ('eva02_tiny_patch14_224', {}, {'rope_grid_offset': 0.5}),
    ('eva02_tiny_patch14_224', {}, {'ref_feat_shape': (8, 8)}),
    ('eva02_tiny_patch14_224', {}, {'num_heads': 6}),
])
def test_equal_weights_of_another_architecture_have_another_fingerprint(architecture, own, other):
    assert differ(vit(architecture, **own), vit(architecture, **other)) == ['architecture']


def test_an_attention_scale_that_somebody_changed_counts():
    first, second = vit(), vit()
    second.blocks[1].attn.scale *= 2
    assert differ(first, second) == ['architecture']


def test_where_the_norm_stands_counts():
    first, second = vit(pre_norm=True), vit(pre_norm=True)
    second.norm_pre, second.fc_norm = nn.Identity(), second.norm_pre
    weights = {name.replace('norm_pre', 'fc_norm'): tensor for name, tensor in first.state_dict().items()}
    second.load_state_dict(weights)
    assert parts(fingerprint(first))['architecture'] != parts(fingerprint(second))['architecture']


def test_what_does_nothing_in_evaluation_does_not_count():
    first = vit()
    for second in (vit(drop_rate=0.3, attn_drop_rate=0.2, drop_path_rate=0.4, proj_drop_rate=0.1, patch_drop_rate=0.5), vit().train(),
                   vit(weight_init='jax_nlhb')):
        assert differ(first, second) == []
    fast = vit()
    fast.set_grad_checkpointing()
    for block in fast.blocks:
        block.attn.fused_attn = not block.attn.fused_attn
    assert differ(first, fast) == []


def test_running_the_model_does_not_change_it():
    for module in (vit(), vit('eva02_tiny_patch14_224')):
        before = fingerprint(module, 1)
        module(torch.zeros(1, 3, 32, 32))
        assert fingerprint(module, 1) == before


@pytest.mark.parametrize('name, value', [
    ('mean', (0.4, 0.5, 0.5)), ('std', (0.2, 0.5, 0.5)), ('crop_pct', 0.875), ('crop_mode', 'squash'), ('interpolation', 'bilinear'),
    ('input_size', (3, 48, 48))])
def test_another_preprocessing_has_another_fingerprint(name, value):
    module = vit()
    config = data_config_of(module)
    ours, theirs = fingerprint(module, 1), fingerprint(module, 1, {**config, name: value})
    assert difference(ours, theirs) == ' (other preprocessing; the same weights, architecture, cut)'
    assert fingerprint(module, 1, config) == ours
    assert fingerprint(module, 1, {key: list(item) if isinstance(item, tuple) else item for key, item in config.items()}) == ours
    assert preprocessing_digest(dict(reversed(config.items()))) == preprocessing_digest(config)


def test_the_cut_is_a_part_of_its_own():
    module = vit()
    assert difference(fingerprint(module, 1), fingerprint(module, 2)) == ' (other cut; the same weights, architecture, preprocessing)'
    assert parts(fingerprint(module))['cut'] == 'ffff' != parts(fingerprint(module, 0))['cut']
    assert len(fingerprint(module)) == 64 == len(join_parts('a' * 64, 'b' * 64, 'c' * 64, 7))


def test_nothing_in_the_settings_is_an_address_or_a_tensor():
    for architecture in ('test_vit', 'test_vit2', 'test_vit3', 'test_vit4', 'test_efficientvit'):
        if timm.is_model(architecture):
            text = json.dumps(settings(timm.create_model(architecture)))
            assert ' at 0x' not in text and 'tensor(' not in text


def test_another_process_with_another_hash_seed_finds_the_same():
    program = ('from evitif.model.build import ModelSpec, build_model; from evitif.model.fingerprint import fingerprint; '
               "print(fingerprint(build_model(ModelSpec('test_vit', random_seed=3)).module, 2))")
    found = subprocess.run([sys.executable, '-c', program], env={**os.environ, 'PYTHONHASHSEED': '7'}, capture_output=True, text=True,
                           check=True)
    assert found.stdout.strip() == fingerprint(build_model(ModelSpec('test_vit', random_seed=3)).module, 2)
