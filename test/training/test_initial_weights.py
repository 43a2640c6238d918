"""A training begins from another model's weights, whatever prefix tokens and depth either has."""

import json
import re

import pytest
import torch
from checkpoint_forms import forms

from evitif.model import ModelError
from evitif.model.build import ModelSpec, build_model, save_model
from evitif_lab.training.initial_weights import commands_before, start_from

SMALL = {'patch_size': 8, 'embed_dim': 24, 'num_heads': 2, 'depth': 3}
CLASSES = ('a', 'b', 'c')


def build(architecture='vit_tiny_patch16_224', seed=0, size=32, classes=3, **changes):
    return build_model(ModelSpec(architecture, random_seed=seed, image_size=size, num_classes=classes,
                                 model_kwargs={**SMALL, **changes})).module


@pytest.fixture
def folder(tmp_path):
    """A model folder with a class token, and its weights."""
    module = build(seed=1)
    save_model(tmp_path / 'source', module, {
        'architecture': 'vit_tiny_patch16_224', 'model_kwargs': {**SMALL, 'img_size': 32}, 'class_names': list(CLASSES),
        'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic',
                           'crop_pct': 1.0, 'crop_mode': 'center'}})
    return tmp_path / 'source', module


def test_the_same_model_answers_alike(folder):
    path, source = folder
    module = build()
    start_from(module, CLASSES, str(path), 'vit_tiny_patch16_224', SMALL)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(module.eval()(images), source.eval()(images))


def test_another_set_of_classes_gets_a_classifier_of_its_own(folder):
    path, source = folder
    module = build()
    own = module.head.weight.clone()
    start_from(module, ('x', 'y', 'z'), str(path), 'vit_tiny_patch16_224', SMALL)
    assert torch.equal(module.head.weight, own)
    assert torch.equal(module.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize('architecture, changes, prefix', [
    ('vit_tiny_patch16_224', {'class_token': False, 'global_pool': 'avg'}, 0),
    ('deit_tiny_distilled_patch16_224', {}, 2),
    ('vit_tiny_patch16_224', {'reg_tokens': 4, 'init_values': 1.0}, 5),
    ('vit_tiny_patch16_224', {'depth': 2}, 1)])
def test_other_prefix_tokens_and_depths(folder, architecture, changes, prefix):
    path, source = folder
    module = build(architecture, **changes)
    sentence = start_from(module, CLASSES, str(path), architecture, {**SMALL, **changes})
    assert 'tensors start from' in sentence
    own, given = module.state_dict(), source.state_dict()
    assert module.num_prefix_tokens == prefix
    for name in ('patch_embed.proj.weight', 'blocks.1.mlp.fc1.weight', 'head.weight'):
        assert torch.equal(own[name], given[name])
    assert torch.equal(own['pos_embed'][:, prefix:], given['pos_embed'][:, 1:])
    for place in range(prefix):
        assert torch.equal(own['pos_embed'][:, place], given['pos_embed'][:, 0])
    if 'dist_token' in own:
        assert torch.equal(own['dist_token'], given['cls_token'])
        assert torch.equal(own['head_dist.weight'], given['head.weight'])
    if 'fc_norm.weight' in own:
        assert torch.equal(own['fc_norm.weight'], given['norm.weight'])


def test_a_checkpoint_of_a_larger_image_is_resampled(tmp_path):
    large = build(seed=2, size=64, classes=5, patch_size=16, depth=12)
    torch.save(large.state_dict(), tmp_path / 'large.pth')
    module = build()
    start_from(module, CLASSES, str(tmp_path / 'large.pth'), 'vit_tiny_patch16_224', SMALL)
    assert torch.equal(module.blocks[2].mlp.fc2.weight, large.blocks[2].mlp.fc2.weight)
    assert not torch.equal(module.head.weight, large.head.weight[:3])


def test_what_made_the_weights_before_is_told(folder):
    path, _ = folder
    assert commands_before(str(path)) == []         # it does not say
    description = json.loads((path / 'model.json').read_text())
    (path / 'model.json').write_text(json.dumps({**description, 'made_by': {'command': 'second', 'after': ['first']}}))
    assert commands_before(str(path)) == ['first', 'second']
    for other in (None, 'pretrained', 'some/checkpoint.safetensors'):
        assert commands_before(other) == []
    (path / 'model.json').write_text('{')
    assert commands_before(str(path)) == []


def test_a_wider_source_lends_evenly_spaced_channels(folder):
    path, source = folder
    module = build(embed_dim=12)
    start_from(module, CLASSES, str(path), 'vit_tiny_patch16_224', {**SMALL, 'embed_dim': 12})
    own, given = module.state_dict(), source.state_dict()
    assert torch.equal(own['blocks.1.mlp.fc1.weight'], given['blocks.1.mlp.fc1.weight'][::2, ::2])
    assert torch.equal(own['pos_embed'], given['pos_embed'][:, :, ::2])
    assert torch.equal(own['head.weight'], given['head.weight'][:, ::2])
    queries, keys, values = own['blocks.0.attn.qkv.weight'].split(12)
    for part, whole in zip((queries, keys, values), given['blocks.0.attn.qkv.weight'].split(24), strict=True):
        assert torch.equal(part, whole[::2, ::2])


BEGINNING = r'(\d+) of (\d+) tensors start from '


def told(sentence: str) -> tuple[int, int]:
    came, of_all = re.match(BEGINNING, sentence).groups()
    return int(came), int(of_all)


@pytest.mark.parametrize('form', ['plain', 'names begin with backbone.', 'Lightning', 'DINO', 'under model_state_dict', 'Hugging Face'])
def test_as_many_tensors_as_are_told_start_from_the_file(tmp_path, form):
    source = build(seed=3, classes=9)
    torch.save(forms(source.state_dict())[form], tmp_path / 'w.pth')
    module = build()
    sentence = start_from(module, CLASSES, str(tmp_path / 'w.pth'), 'vit_tiny_patch16_224', SMALL)
    own, given = module.state_dict(), source.state_dict()
    equal = [name for name in own if own[name].shape == given[name].shape and torch.equal(own[name], given[name])]
    assert told(sentence) == (len(equal), len(own)) == (len(own) - 2, len(own))
    assert 'begin anew: head.weight, head.bias' in sentence


def test_a_file_of_which_nothing_fits_is_refused(tmp_path, folder):
    torch.save({f'other.{name}': tensor for name, tensor in torch.nn.Linear(3, 3).state_dict().items()}, tmp_path / 'w.pth')
    with pytest.raises(ModelError, match='brings 0 of the .* tensors'):
        start_from(build(), CLASSES, str(tmp_path / 'w.pth'), 'vit_tiny_patch16_224', SMALL)
    with pytest.raises(ModelError, match='nothing of the blocks of .* fits: they have 24 channels, .* 36'):
        start_from(build(embed_dim=36, num_heads=3), CLASSES, str(folder[0]), 'vit_tiny_patch16_224', {**SMALL, 'embed_dim': 36})


def test_a_backbone_without_a_classifier_needs_the_user_s_word(tmp_path):
    source = build(seed=3)
    body = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith('head')}
    path = str(tmp_path / 'w.pth')
    others = {'mask_token': torch.zeros(1, 24), 'head.mlp.0.weight': torch.zeros(8, 24), 'decoder_embed.bias': torch.ones(4)}
    for content in (body, body | others):
        torch.save(content, path)
        with pytest.raises(ModelError, match='not in it: head.weight, head.bias.*--reset-head'):
            start_from(build(), CLASSES, path, 'vit_tiny_patch16_224', SMALL)
        module = build()
        assert told(start_from(module, CLASSES, path, 'vit_tiny_patch16_224', SMALL, reset_head=True)) == (len(body), len(body) + 2)
        assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in body.items())
    torch.save({**body, 'blocks.3.norm1.bias': torch.zeros(24)}, path)
    with pytest.raises(ModelError, match=r'left over in it: blocks\.3\.norm1\.bias'):
        start_from(build(), CLASSES, path, 'vit_tiny_patch16_224', SMALL, reset_head=True)
    del body['norm.bias']
    torch.save(body, path)
    with pytest.raises(ModelError, match=r'not in it: norm\.bias'):
        start_from(build(), CLASSES, path, 'vit_tiny_patch16_224', SMALL, reset_head=True)


def test_with_reset_head_the_classifier_of_the_same_classes_begins_anew_too(folder):
    path, source = folder
    module = build()
    own = module.head.weight.clone()
    start_from(module, CLASSES, str(path), 'vit_tiny_patch16_224', SMALL, reset_head=True)
    assert torch.equal(module.head.weight, own) and torch.equal(module.norm.bias, source.norm.bias)


def test_a_file_of_the_model_itself_is_one_to_start_from(tmp_path):
    source = build(seed=3, init_values=0.1, reg_tokens=2)
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    module = build(init_values=0.1, reg_tokens=2)
    start_from(module, CLASSES, str(tmp_path / 'w.pth'), 'vit_tiny_patch16_224', {**SMALL, 'init_values': 0.1, 'reg_tokens': 2})
    assert torch.equal(module.blocks[0].ls1.gamma, source.blocks[0].ls1.gamma) and torch.equal(module.reg_token, source.reg_token)
