"""Where weights come from, and what is said when they cannot come from there."""

import json

import pytest
import torch

from evitif.model import ModelError
from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.device import place
from evitif.model.timm_import import timm

SMALL = {'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'img_size': 32}


def small_folder(folder, **changes):
    built = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, num_classes=3, model_kwargs=SMALL))
    description = {'architecture': 'vit_tiny_patch16_224', 'model_kwargs': SMALL,
                   'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'crop_pct': 1.0,
                                      'interpolation': 'bicubic'},
                   'class_names': ['a', 'b', 'c'], **changes}
    save_model(folder, built.module, description)
    return built


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    models = [build_model(ModelSpec('vit_tiny_patch16_224', random_seed=seed, model_kwargs=SMALL)).module
              for seed in (1, 1, 2)]
    assert torch.rand(1) == expected
    weights = [model.blocks[0].attn.qkv.weight for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_model_folder_brings_weights_preprocessing_and_names(tmp_path):
    saved = small_folder(tmp_path / 'm')
    built = build_model(ModelSpec(str(tmp_path / 'm')))
    assert built.class_names == built.labels == ('a', 'b', 'c')
    assert built.data_config['input_size'] == (3, 32, 32)
    assert built.data_config['mean'] == (0.5, 0.5, 0.5)
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(built.module(image), saved.module(image))


def test_a_checkpoint_is_resized_to_another_image_size(tmp_path):
    from safetensors.torch import save_file
    whole = timm.create_model('vit_tiny_patch16_224', depth=1)
    path = tmp_path / 'w.safetensors'
    save_file(whole.state_dict(), path)
    built = build_model(ModelSpec('vit_tiny_patch16_224', checkpoint=str(path), image_size=96,
                                  model_kwargs={'depth': 1}))
    assert built.module.pos_embed.shape == (1, 37, 192)
    assert built.data_config['input_size'] == (3, 96, 96)
    assert torch.equal(built.module.blocks[0].attn.qkv.weight, whole.blocks[0].attn.qkv.weight)
    assert built.labels[0] == 'tench'


def test_a_relative_folder_is_found_in_an_installed_package_too(tmp_path, monkeypatch):
    small_folder(tmp_path / 'prefix/share/evitif/artifacts/some_model')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path / "prefix"}')
    monkeypatch.chdir(tmp_path)
    assert build_model(ModelSpec('artifacts/some_model')).class_names == ('a', 'b', 'c')


@pytest.mark.parametrize('spec, expected', [
    (ModelSpec('vit_tiny_patch16_224'), 'exactly one source of weights'),
    (ModelSpec('vit_tiny_patch16_224', pretrained=True, random_seed=1), 'exactly one source of weights'),
    (ModelSpec('vit_tinny', random_seed=1), "has no model 'vit_tinny'"),
    (ModelSpec('models/none', random_seed=1), "'models/none' does not exist"),
    (ModelSpec('vit_tiny_patch16_224', checkpoint='none.pth'), "checkpoint 'none.pth' does not exist"),
])
def test_what_cannot_be_built_is_refused_with_the_value(spec, expected):
    with pytest.raises(ModelError, match=expected):
        build_model(spec)


def test_a_broken_checkpoint_names_the_file(tmp_path):
    (tmp_path / 'bad.safetensors').write_bytes(b'nonsense')
    with pytest.raises(ModelError, match='bad.safetensors'):
        build_model(ModelSpec('vit_tiny_patch16_224', checkpoint=str(tmp_path / 'bad.safetensors')))


@pytest.mark.parametrize('spoil, expected', [
    (lambda folder: (folder / 'model.json').write_text('{'), 'model.json: not valid JSON'),
    (lambda folder: (folder / 'model.json').write_text('{"format": 99}'), 'expected format 1, found 99'),
    (lambda folder: (folder / 'model.json').unlink(), 'model.json: cannot be read'),
    (lambda folder: (folder / 'model.safetensors').write_bytes(b'x'), 'model.safetensors: cannot be read'),
    (lambda folder: (folder / 'model.safetensors').unlink(), 'model.safetensors: cannot be read'),
])
def test_a_broken_model_folder_names_the_file(tmp_path, spoil, expected):
    small_folder(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError, match=expected):
        build_model(ModelSpec(str(tmp_path)))


def test_weights_of_another_shape_are_refused(tmp_path):
    small_folder(tmp_path)
    path = tmp_path / 'model.json'
    description = json.loads(path.read_text())
    description['model_kwargs']['depth'] = 3
    path.write_text(json.dumps(description))
    with pytest.raises(ModelError, match='does not fit vit_tiny_patch16_224'):
        build_model(ModelSpec(str(tmp_path)))


def test_an_unavailable_device_is_an_error_unless_the_fallback_is_allowed():
    absent = 'mps' if not torch.backends.mps.is_available() else 'cuda:99'
    with pytest.raises(ModelError, match=f"device '{absent}' cannot be used"):
        place(absent)
    placement = place(absent, 'fp16', allow_fallback=True)
    assert (placement.device.type, placement.precision) == ('cpu', 'fp32')
    assert absent in placement.sentence


@pytest.mark.parametrize('device, precision, expected', [
    ('toaster', 'fp32', "device 'toaster' is unknown"), ('cpu', 'fp64', "precision 'fp64' is unknown")])
def test_unknown_devices_and_precisions_are_named(device, precision, expected):
    with pytest.raises(ModelError, match=expected):
        place(device, precision)
